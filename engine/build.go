package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/checkpoint"
	"github.com/alink-runtime/alink/engine/connector/file"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/ops"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/udfworker"
)

// jobWorkersMax is the number of workers that one job may hold at a time: half
// of what the pool starts.
const jobWorkersMax = udfworker.WorkersMaxDefault / 2

// build makes the dataflow of one plan. It implements plan.Typer.
type build struct {
	engine  *Engine
	plan    *plan.Plan
	sources map[string]exec.BatchSource
	// relational is opened when a relational stage is met.
	relational exec.Relational
	// schemas are those of the stages' results.
	schemas map[string]*arrow.Schema
	// checkpoints is nil for a job without them.
	checkpoints *checkpoint.Coordinator
	// crews are the names of those that stages of functions share, and of the
	// stages that have workers of their own.
	crews   map[string]bool
	release []func()
	// functions is the number of subtasks of functions, groups the memory that
	// those of groups share.
	functions int
	groups    *exec.Allowance
	// runs is the memory that rows share which are brought in the order of their
	// groups, meters are those of the functions behind these stages.
	runs   *exec.Allowance
	meters map[string]*exec.Meter
	// name tells the crews of jobs apart.
	name string
	// domain is whose functions they are; see Engine.SubmitIn.
	domain string
	// well is set once all that was built for has ended well.
	well bool
	// sideTables are the stages' that keep tables for functions, sideFiles their
	// files; users counts the operators that get each.
	sideTables map[string]*ops.SideTable
	sideFiles  map[string]string
	users      map[string]int
	// apart are the stages that have no part in checkpoints.
	apart map[string]bool
}

// newBuild validates the plan. close must be called when what was built has
// ended.
func (e *Engine) newBuild(p *plan.Plan) (*build, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := e.checkArtifacts(p); err != nil {
		return nil, err
	}
	p, err := e.applyPolicy(p)
	if err != nil {
		return nil, err
	}
	if err := e.folders.checkPlan(p); err != nil {
		return nil, err
	}
	return &build{engine: e, plan: p, sources: map[string]exec.BatchSource{}, schemas: map[string]*arrow.Schema{}, crews: map[string]bool{}, meters: map[string]*exec.Meter{}, name: e.workers.jobName(), sideTables: map[string]*ops.SideTable{}, sideFiles: map[string]string{}, users: map[string]int{}, apart: map[string]bool{}}, nil
}

func (e *Engine) checkArtifacts(p *plan.Plan) error {
	for _, id := range p.Artifacts() {
		if _, err := e.artifacts.Blob(id); err != nil {
			return err
		}
	}
	return nil
}

// close gives back what was taken, the latest first.
func (b *build) close() {
	for _, release := range slices.Backward(b.release) {
		release()
	}
	b.release = nil
}

// sourceKey tells the scans of a plan apart.
func sourceKey(op plan.Op) string {
	switch op := op.(type) {
	case plan.FileScan:
		if text, err := json.Marshal(op); err == nil {
			return op.Name() + "\x00" + string(text)
		}
	case plan.ScanTable:
		return "table\x00" + op.Table
	}
	return ""
}

// ScanSchema implements plan.Typer; it keeps the source for the build.
func (b *build) ScanSchema(ctx context.Context, op plan.Op) (*arrow.Schema, error) {
	key := sourceKey(op)
	if source, ok := b.sources[key].(exec.Source); ok {
		return source.Schema(), nil
	}
	source, err := b.openSource(ctx, op)
	if err != nil {
		return nil, err
	}
	b.sources[key] = source
	return source.Schema(), nil
}

func (b *build) openSource(ctx context.Context, op plan.Op) (exec.Source, error) {
	switch op := op.(type) {
	case plan.FileScan:
		return file.OpenWithin(ctx, op, b.engine.folders.check)
	case plan.ScanTable:
		spool, release, err := b.engine.tables.use(op.Table)
		if err != nil {
			return nil, err
		}
		b.release = append(b.release, release)
		return spool, nil
	}
	return nil, fmt.Errorf("%s is not a source", op.Name())
}

// Describe implements plan.Typer.
func (b *build) Describe(ctx context.Context, group *plan.Relation) (*arrow.Schema, error) {
	if b.relational == nil {
		if err := b.openRelational(); err != nil {
			return nil, err
		}
	}
	return b.relational.Describe(ctx, relationalStage(group))
}

// Uses implements plan.Pruner.
func (b *build) Uses(ctx context.Context, group *plan.Relation) ([][]int, error) {
	return b.relational.Uses(ctx, relationalStage(group))
}

// RowByRow implements plan.Typer.
func (b *build) RowByRow(ctx context.Context, text string) (bool, error) {
	if b.relational == nil {
		if err := b.openRelational(); err != nil {
			return false, err
		}
	}
	return b.relational.RowByRow(ctx, text)
}

// Conjuncts implements plan.Typer.
func (b *build) Conjuncts(ctx context.Context, text string) ([]plan.Conjunct, error) {
	if b.relational == nil {
		if err := b.openRelational(); err != nil {
			return nil, err
		}
	}
	return b.relational.Conjuncts(ctx, text)
}

// Constant implements plan.Typer.
func (b *build) Constant(ctx context.Context, e plan.Expr) ([]byte, error) {
	if b.relational == nil {
		if err := b.openRelational(); err != nil {
			return nil, err
		}
	}
	const row, value = "row", "value"
	none := arrow.NewSchema(nil, nil)
	stage := &exec.RelationalStage{
		ID: value, Inputs: []exec.RelationalInput{{Node: row, Schema: none}},
		Nodes: []plan.Node{{ID: value, Inputs: []string{row}, Op: plan.Project{Exprs: []plan.NamedExpr{{Name: value, Expr: e}}}}},
	}
	var encoded bytes.Buffer
	err := b.relational.Run(ctx, stage, []exec.BatchReader{&oneRow{}}, func(batch arrow.RecordBatch) error {
		defer batch.Release()
		w := ipc.NewWriter(&encoded, ipc.WithSchema(batch.Schema()))
		return errors.Join(w.Write(batch), w.Close())
	})
	return encoded.Bytes(), err
}

// oneRow reads a row without columns.
type oneRow struct{ read bool }

// Next implements exec.BatchReader.
func (r *oneRow) Next(context.Context) (arrow.RecordBatch, error) {
	if r.read {
		return nil, io.EOF
	}
	r.read = true
	return array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 1), nil
}

// Close implements exec.BatchReader.
func (*oneRow) Close() {}

func (b *build) openRelational() error {
	bytes, giveBack := b.engine.budget.take()
	opened, err := b.engine.relationals.open(relationalUse{b.domain, b.threads(), bytes})
	if err != nil {
		giveBack()
		return err
	}
	b.relational = opened
	b.release = append(b.release, func() {
		b.engine.relationals.giveBack(opened, b.well)
		giveBack()
	})
	return nil
}

// threads is the number of DuckDB's threads. A job without an aggregate, a
// join or a sort keeps the order of its rows, for which DuckDB uses one thread
// whatever it has; a further one would only spin while a stage waits for input.
func (b *build) threads() int {
	for _, n := range b.plan.Nodes {
		switch n.Op.(type) {
		case plan.Aggregate, plan.Join, plan.Sort, plan.Distinct, plan.MapGroups, plan.SQLQuery:
			return b.engine.options.Parallelism
		}
	}
	return 1
}

func relationalStage(group *plan.Relation) *exec.RelationalStage {
	stage := &exec.RelationalStage{ID: group.ID, Nodes: group.Nodes}
	for _, in := range group.Inputs {
		stage.Inputs = append(stage.Inputs, exec.RelationalInput{Node: in.Node, Schema: in.Schema, Columns: in.Columns})
	}
	return stage
}

// graph lowers the plan and adds a vertex to the job's graph for each stage.
func (b *build) graph(ctx context.Context, job *Job) error {
	physical, err := plan.Lower(ctx, b.plan, b)
	if err != nil {
		return err
	}
	if err := plan.Prune(ctx, physical, b); err != nil {
		return err
	}
	plan.Fuse(physical)
	for _, stage := range physical.Stages {
		if a, ok := stage.Work.(*plan.Application); ok {
			b.crews[b.crew(a, stage.ID)] = true
		}
	}
	b.groups = exec.NewAllowance(b.engine.shares().groupsBytes)
	b.runs = exec.NewAllowance(b.engine.shares().spoolBytes)
	for _, stage := range physical.Stages {
		if a, ok := stage.Work.(*plan.Application); ok {
			if stageKind(a.Kind).Grouped() {
				b.meters[stage.Inputs[0]] = &exec.Meter{}
			}
			b.functions += b.subtasks(a)
			for _, table := range a.Tables {
				b.users[table.Stage] += b.subtasks(a)
			}
		}
	}
	if err := b.openCheckpoints(job); err != nil {
		return err
	}
	for _, stage := range physical.Stages {
		b.schemas[stage.ID], b.apart[stage.ID] = stage.Schema, stage.Apart
		v, err := b.vertex(ctx, stage, job)
		if err != nil {
			return placed(err, stage)
		}
		if err := job.graph.Add(v); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) vertex(ctx context.Context, stage *plan.Stage, job *Job) (*exec.Vertex, error) {
	v := &exec.Vertex{ID: stage.ID, Name: stage.Name, Detail: stage.Detail, Parallelism: 1, Inputs: stage.Inputs, Schema: stage.Schema, Stream: stage.Stream}
	once := func(operator exec.Operator) func(int) exec.Operator {
		return func(int) exec.Operator { return operator }
	}
	switch work := stage.Work.(type) {
	case plan.FileScan:
		v.New = once(located{b.scan(work), stage})
	case plan.ScanTable:
		v.New = once(b.scan(work))
	case plan.Generate:
		v.New = once(&ops.Generate{Spec: work, Schema: stage.Schema, Keeper: b.source(v)})
	case *plan.Watermarking:
		v.New = once(located{ops.NewWatermark(work, stage.Schema, b.keeper(v, 0)), stage})
	case *plan.Windowing:
		return v, b.window(v, stage, work)
	case *plan.Limiting:
		limit := &ops.Limit{Work: *work, Keeper: b.keeper(v, 0)}
		if stage.Stream && !stage.Apart {
			limit.Reached = func() { job.endBy(fmt.Sprintf("limit of %d rows", work.N)) }
		}
		v.New = once(limit)
	case *plan.Relation:
		if work.Rowwise {
			return v, b.rowwise(ctx, v, work)
		}
		v.New = once(&ops.Relational{Engine: b.relational, Stage: relationalStage(work)})
	case *plan.Arrangement:
		v.New = once(exec.Handle(&ops.Arrange{Columns: work.Columns, Schema: stage.Schema}))
	case *plan.Application:
		if err := b.application(v, stage, work, job); err != nil {
			return nil, err
		}
	case *plan.SideTable:
		table, err := b.sideTable(stage, work)
		if err != nil {
			return nil, err
		}
		v.New = once(located{table, stage})
	case *plan.Grouping:
		v.New = once(b.grouping(stage, work))
	case plan.AtLeastOne:
		v.New = once(exec.Handle(&ops.AtLeastOne{Schema: stage.Schema}))
	case plan.WriteParquet, plan.WriteCSV, plan.WriteJSON:
		if w, ok := work.(plan.WriteParquet); ok && w.Checkpoint != nil {
			return v, b.streamSink(v, stage, w)
		}
		sink, err := file.NewSink(work.(plan.Op))
		if err != nil {
			return nil, diag.From(err).At(stage.Name, stage.Origin)
		}
		v.New = once(located{ops.NewSink(sink, stage.Schema), stage})
	case plan.KeepTable:
		v.New = once(ops.NewSink(keptTable{b.engine.tables, work.Table}, stage.Schema))
	case plan.Discard:
		v.New = once(exec.Handle(ops.Discard{}))
	case plan.Collect:
		queue := exec.NewQueue(exec.QueueBytesDefault)
		job.results[stage.ID] = &result{queue: queue, schema: stage.Schema}
		v.New = once(ops.NewCollect(queue))
	default:
		return nil, fmt.Errorf("stage %s has no operator: %T", stage.ID, work)
	}
	return v, nil
}

// grouping makes the operator before functions of groups.
func (b *build) grouping(stage *plan.Stage, work *plan.Grouping) exec.Operator {
	group := &ops.Group{
		Keys: work.Keys, Columns: work.Columns, Schema: stage.Schema, Few: work.Few,
		Meter: b.meters[stage.ID], BytesMax: b.engine.shares().creditBytes(b.functions) / ops.BundleShare,
	}
	if !work.Sort {
		return exec.Handle(group)
	}
	return &ops.Collate{
		Group: group, Engine: b.relational, Types: b.schemas[stage.Inputs[0]].Fields(),
		Spool: exec.SpoolOptions{Memory: b.runs, Dir: b.engine.options.SpillDir},
	}
}

// sideTable makes the operator that keeps a table for functions.
func (b *build) sideTable(stage *plan.Stage, work *plan.SideTable) (exec.Operator, error) {
	file, err := b.sideFile()
	if err != nil {
		return nil, diag.New(diag.OutputUnwritable, "the table %s of %s could not be kept in the spill directory", work.Name, work.Function).WithCause(err)
	}
	table := ops.NewSideTable(ops.SideTableOptions{
		Name: work.Name, Function: work.Function, Schema: stage.Schema, File: file, Users: b.users[stage.ID],
	})
	b.sideTables[stage.ID], b.sideFiles[stage.ID] = table, file.Name()
	return table, nil
}

// tablesOf are the tables that an application's function gets whole.
func (b *build) tablesOf(a *plan.Application) []*ops.SideTable {
	var tables []*ops.SideTable
	for _, table := range a.Tables {
		tables = append(tables, b.sideTables[table.Stage])
	}
	return tables
}

func (b *build) scan(op plan.Op) exec.Operator {
	return exec.FromSource(cut(b.sources[sourceKey(op)], int64(b.engine.options.BatchRows)))
}

// crew names the workers that a stage of functions runs on: those of all the
// job's stages that agree in what a worker is. Functions that say how many
// workers they want share with those that say the same. A function of its whole
// input reads while others still work for it, and so has one of its own.
func (b *build) crew(a *plan.Application, stage string) string {
	if a.Kind.WholeInput() {
		return "whole " + stage
	}
	return fmt.Sprintf("%s %d %s", a.Environment, a.Workers, a.Calls[0].Function.WorkerKey())
}

// subtasks is the number of a stage's subtasks, and of the workers of its crew.
// A crew keeps its workers to the end of the job, which must not want more than
// the pool has.
func (b *build) subtasks(a *plan.Application) int {
	n := a.Workers
	switch {
	case a.Kind.WholeInput() && a.Kind != plan.TrainFunction:
		return 1
	case n == 0:
		n = b.engine.options.Policy.workersMax(b.engine.options.Parallelism)
	}
	return max(1, min(n, jobWorkersMax/len(b.crews)))
}

// application makes the vertex of Python functions. The subtasks get workers of
// the stage's crew; all but the first only when a batch reaches them.
func (b *build) application(v *exec.Vertex, stage *plan.Stage, a *plan.Application, job *Job) error {
	shared := b.functionStage(stage, a, job)
	v.Meter = shared.Meter
	b.release = append(b.release, b.engine.workers.onNote(shared.ID, v.Note))
	if a.Kind == plan.TrainFunction {
		return b.training(v, a, shared)
	}
	if a.Kind.WholeInput() {
		whole := &ops.MapTable{Runner: b.engine.workers.runner, Stage: shared, Columns: a.Columns, Tables: b.tablesOf(a), Spool: exec.SpoolOptions{
			MemoryBytes: b.engine.shares().spoolBytes, Dir: b.engine.options.SpillDir,
		}}
		v.New = func(int) exec.Operator { return whole }
		return nil
	}
	v.Parallelism = b.subtasks(a)
	shared.Crew = fmt.Sprintf("%s %s", b.name, b.crew(a, stage.ID))
	shared.CrewWorkers = v.Parallelism
	columns := a.Columns
	if !shared.Kind.Grouped() {
		v.Coalesce = b.coalescing(a, shared)
	}
	if regroup := ops.NewRegroup(a.Crossing, a.Columns, a.Keys, coalescedBytes(shared), nil); shared.Kind == exec.StageAggregate && regroup != nil {
		v.Coalesce.Join, v.Coalesce.BytesMax = regroup.Join, min(regroupedBytesMax, shared.Credit())
		shared.Input = regroup.Schema()
		columns = nil
		for i := range shared.Input.NumFields() {
			columns = append(columns, i)
		}
	}
	v.New = func(subtask int) exec.Operator { return b.functionOperator(stage, a, columns, shared, subtask == 0) }
	return nil
}

// training makes the operator of a function in workers that share its rows.
func (b *build) training(v *exec.Vertex, a *plan.Application, shared *exec.FunctionStage) error {
	call := a.Calls[0]
	file, err := b.sideFile()
	if err != nil {
		return diag.New(diag.OutputUnwritable, "the rows for %s could not be kept in the spill directory", call.Function.Name).
			WithCause(err).At(call.Operator, call.Origin)
	}
	shared.Tables = []exec.StageTable{{Name: exec.TrainRows, Path: file.Name()}}
	shared.Input = exec.TrainInput
	shared.Output = arrow.NewSchema(append(slices.Clone(exec.TrainOutput), a.Result.Fields()...), nil)
	shared.Retries = 0 // the operator begins again
	share := call.Function.Options.ShareBytes
	switch {
	case a.Workers > 0:
		share = 0
	case share == 0:
		share = ops.TrainShareBytes
	}
	training := &ops.Training{
		Runner: b.engine.workers.runner, Stage: shared, Columns: a.Columns, Rows: a.Crossing, File: file,
		Retries: a.Retries, WorkersMax: b.subtasks(a), ShareBytes: share,
	}
	v.New = func(int) exec.Operator { return training }
	return nil
}

// sideFile makes a file for a table of the job that its functions get. The job
// removes it at its end.
func (b *build) sideFile() (*os.File, error) {
	file, err := b.engine.sideTables.New(b.domain)
	if err != nil {
		return nil, err
	}
	b.release = append(b.release, func() {
		_ = file.Close()           // closed already where the job has run
		_ = os.Remove(file.Name()) // it goes with its folder at the latest
	})
	return file, nil
}

// Bounds of the batches that are put together before functions, in rows as many
// as a source gives; the bytes fit into one segment of the memory that is shared
// with a worker. An aggregate function has something to do for each group of a
// bundle, and its groups for each bundle that they are in, so that there more
// rows are brought to their groups at a time, in several such batches.
const (
	coalescedRowsMax   = 65_536
	coalescedAggregate = 32
	coalescedBytesMax  = 4<<20 - 64<<10
	regroupedBytesMax  = 16 << 20
)

// coalescedBytes is how many bytes batches have that are put together before a
// stage.
func coalescedBytes(shared *exec.FunctionStage) int64 {
	return min(coalescedBytesMax, shared.Credit()/ops.BundleShare)
}

func (b *build) coalescing(a *plan.Application, shared *exec.FunctionStage) *exec.Coalescing {
	rows := int64(cmp.Or(b.engine.options.BatchRows, coalescedRowsMax))
	if shared.Kind == exec.StageAggregate {
		rows *= coalescedAggregate
	}
	return &exec.Coalescing{
		RowsMax: rows, BytesMax: coalescedBytes(shared),
		FirstRows: ops.FirstRows(a.RowsWanted), CallRows: ops.CallRows(shared),
	}
}

func (b *build) functionOperator(stage *plan.Stage, a *plan.Application, columns []int, shared *exec.FunctionStage, eager bool) exec.Operator {
	runner := b.engine.workers.runner
	letters, _ := b.letters(stage)
	switch {
	case a.Kind == plan.FlatMapFunction:
		return &ops.FlatMap{
			Runner: runner, Stage: shared, Columns: a.Columns, Kept: a.Kept, Outer: a.Outer, Letters: letters, Schema: stage.Schema, Eager: eager,
		}
	case shared.Kind.Grouped():
		return &ops.Grouped{Runner: runner, Stage: shared, Spool: exec.SpoolOptions{
			Memory: b.groups, Dir: b.engine.options.SpillDir,
		}}
	}
	return &ops.Function{
		Runner: runner, Stage: shared, Columns: columns, KeepInput: a.AddsColumns(), Kept: a.Kept, Letters: letters, Schema: stage.Schema, Eager: eager,
		RowsWanted: a.RowsWanted, Tables: b.tablesOf(a),
	}
}

func (b *build) functionStage(stage *plan.Stage, a *plan.Application, job *Job) *exec.FunctionStage {
	first := a.Calls[0].Function
	s := &exec.FunctionStage{
		ID: b.engine.workers.stageID(), Kind: stageKind(a.Kind), Environment: b.plan.Environments[a.Environment],
		Confinement: b.plan.Confinement(a.Calls[0].Function),
		Input:       a.Crossing, Output: a.Result, Keys: a.Keys, Retries: a.Retries, Log: job.output.add,
		MemoryBytes: first.MemoryBytes(), Domain: b.domain, Job: b.name,
		Meter: cmp.Or(b.meters[stage.Inputs[0]], &exec.Meter{}), CreditBytes: b.engine.shares().creditBytes(b.functions),
		OnError: first.Options.OnError, ExceptionRetries: first.Options.ExceptionRetries, Once: a.Once(),
	}
	if b.plan.Profile {
		s.Profile = &job.profile
	}
	for i, c := range a.Calls {
		s.Calls = append(s.Calls, exec.FunctionCall{
			Function: c.Function, FunctionID: c.FunctionID, Args: c.Args, Constants: c.Constants, Output: i, State: c.State, Operator: c.Operator, Origin: c.Origin,
		})
	}
	for _, table := range a.Tables {
		s.Tables = append(s.Tables, exec.StageTable{Name: table.Name, Path: b.sideFiles[table.Stage]})
	}
	switch s.Kind {
	case exec.StageColumns, exec.StageFlatMap:
		s.Narrows = true
		if s.OnError.Tolerant() {
			told := arrow.Field{Name: exec.ErrorColumn, Type: arrow.BinaryTypes.String, Nullable: true}
			s.Output = arrow.NewSchema(append(slices.Clone(a.Result.Fields()), told), nil)
		}
	case exec.StageMapBatches:
		s.Narrows = true
	}
	var kept *arrow.Schema
	if s.OnError == plan.OnErrorDeadLetter {
		_, kept = b.letters(stage)
	}
	s.Failures = exec.NewFailures(s.Calls[0], kept)
	job.failures = append(job.failures, s.Failures)
	return s
}

// letters are the columns of a stage's input that make a dead letter: all but
// those that lowering has made.
func (b *build) letters(stage *plan.Stage) (columns []int, schema *arrow.Schema) {
	return plan.VisibleColumns(b.schemas[stage.Inputs[0]])
}

func stageKind(kind plan.FunctionKind) exec.StageKind {
	switch kind {
	case plan.MapBatchesFunction:
		return exec.StageMapBatches
	case plan.FitFunction:
		return exec.StageFit
	case plan.MapTableFunction:
		return exec.StageMapTable
	case plan.TrainFunction:
		return exec.StageTrain
	case plan.FlatMapFunction:
		return exec.StageFlatMap
	case plan.AggregateFunction:
		return exec.StageAggregate
	case plan.MergeStates:
		return exec.StageMerge
	case plan.MapGroupsFunction:
		return exec.StageMapGroups
	}
	return exec.StageColumns
}
