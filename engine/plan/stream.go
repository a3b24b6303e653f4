package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
)

// The operators of streams. They work alike on tables, which have an end.
type (
	// Generate makes rows out of nothing. Row i is the same whenever it is made:
	// it follows from Seed and i.
	Generate struct {
		Columns []GeneratedColumn `json:"columns"`
		// Rows nil has no end.
		Rows *int64 `json:"rows,omitempty"`
		// RowsPerSecond 0 is as fast as can be.
		RowsPerSecond float64 `json:"rows_per_second,omitempty"`
		BatchRows     int     `json:"batch_rows,omitempty"`
		Seed          uint64  `json:"seed,omitempty"`
	}
	// WithWatermark says which column is the time of an event, and that rows
	// come at most Delay later than one that they should have preceded.
	WithWatermark struct {
		Column  string `json:"column"`
		DelayUS int64  `json:"delay_us"`
	}
	// WindowAggregate groups by windows of event time, and by Keys. Its
	// aggregates are SQL texts: count(*), or count, sum, min, max or avg of one
	// expression.
	WindowAggregate struct {
		Kind       string      `json:"kind"`
		SizeUS     int64       `json:"size_us"`
		On         string      `json:"on"`
		Keys       []NamedExpr `json:"keys,omitempty"`
		Aggregates []NamedExpr `json:"aggregates"`
	}
)

// GeneratedColumn is a column of Generate: a sequence (Start, Step), integers
// (Low to High, without High; a share Nulls of them NULL), doubles from 0 to 1
// (without 1), a choice of Values, or an event_time, which begins at Start
// and advances by Step for each row, a row being up to Disorder late (all in
// microseconds).
type GeneratedColumn struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Start    int64    `json:"start,omitempty"`
	Step     int64    `json:"step,omitempty"`
	Low      int64    `json:"low,omitempty"`
	High     int64    `json:"high,omitempty"`
	Nulls    float64  `json:"nulls,omitempty"`
	Values   []string `json:"values,omitempty"`
	Disorder int64    `json:"disorder,omitempty"`
}

// The kinds of a GeneratedColumn.
const (
	GenerateSequence  = "sequence"
	GenerateInteger   = "integer"
	GenerateDouble    = "double"
	GenerateChoice    = "choice"
	GenerateEventTime = "event_time"
)

// Tumble is the kind of windows that do not overlap.
const Tumble = "tumble"

// batchRowsMax bounds the batches of Generate.
const batchRowsMax = 1 << 20

// Name implements Op.
func (Generate) Name() string { return "read_generator" }

// Name implements Op.
func (WithWatermark) Name() string { return "with_watermark" }

// Name implements Op.
func (WindowAggregate) Name() string { return "window" }

func (Generate) inputCount() int        { return 0 }
func (WithWatermark) inputCount() int   { return 1 }
func (WindowAggregate) inputCount() int { return 1 }

// Schema is that of the rows.
func (g Generate) Schema() *arrow.Schema {
	types := map[string]arrow.DataType{
		GenerateSequence: arrow.PrimitiveTypes.Int64, GenerateInteger: arrow.PrimitiveTypes.Int64,
		GenerateDouble: arrow.PrimitiveTypes.Float64, GenerateChoice: arrow.BinaryTypes.String,
		GenerateEventTime: &arrow.TimestampType{Unit: arrow.Microsecond},
	}
	fields := make([]arrow.Field, len(g.Columns))
	for i, c := range g.Columns {
		fields[i] = arrow.Field{Name: c.Name, Type: types[c.Kind], Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

func (g Generate) validate() error {
	if len(g.Columns) == 0 {
		return fmt.Errorf("it has no columns")
	}
	if g.Rows != nil && *g.Rows < 0 || g.RowsPerSecond < 0 {
		return fmt.Errorf("rows and rows_per_second cannot be negative")
	}
	if g.BatchRows < 0 || g.BatchRows > batchRowsMax {
		return fmt.Errorf("batch_rows must be at most %d, not %d", batchRowsMax, g.BatchRows)
	}
	names := make([]NamedExpr, len(g.Columns))
	for i, c := range g.Columns {
		names[i].Name = c.Name
		if err := c.validate(); err != nil {
			return fmt.Errorf("column %q: %w", c.Name, err)
		}
	}
	return validateNames(names)
}

func (c GeneratedColumn) validate() error {
	switch c.Kind {
	case GenerateSequence, GenerateDouble:
	case GenerateInteger:
		if c.Low >= c.High {
			return fmt.Errorf("low must be below high, but %d is not below %d", c.Low, c.High)
		}
		if c.Nulls < 0 || c.Nulls > 1 {
			return fmt.Errorf("nulls must be within 0 and 1, not %v", c.Nulls)
		}
	case GenerateChoice:
		if len(c.Values) == 0 {
			return fmt.Errorf("there are no values to choose from")
		}
	case GenerateEventTime:
		if c.Step < 0 || c.Disorder < 0 {
			return fmt.Errorf("step and disorder cannot be negative")
		}
	default:
		return fmt.Errorf("unknown kind %q", c.Kind)
	}
	return nil
}

func (w WindowAggregate) validate() error {
	if w.Kind != Tumble {
		return fmt.Errorf("unknown kind of window %q; there is %q", w.Kind, Tumble)
	}
	if w.SizeUS <= 0 {
		return fmt.Errorf("the size of a window must be positive")
	}
	if len(w.Aggregates) == 0 {
		return fmt.Errorf("nothing is aggregated")
	}
	return validateNames(slices.Concat([]NamedExpr{{Name: "window_start"}, {Name: "window_end"}}, w.Keys, w.Aggregates))
}

// Watermarking is the work of a WithWatermark stage.
type Watermarking struct {
	Column int
	Delay  time.Duration
	// Step is the greatest common divisor of the sizes of the windows behind
	// it; 0 if there are none. Only watermarks that pass a multiple of it make
	// a difference.
	Step time.Duration
}

// Windowing is the work of a WindowAggregate stage.
type Windowing struct {
	Size       time.Duration
	Time       int
	Keys       []WindowColumn
	Aggregates []WindowColumn
}

// WindowColumn is a key or an aggregate of windows.
type WindowColumn struct {
	Name     string
	Function string // "" for a key
	Column   int    // of the input; -1 for count(*)
}

// Limiting is the work of a Limit that needs no query: on a stream, where
// watermarks and barriers are to pass, and above functions.
type Limiting struct{ N, Offset int64 }

// windowed is a WindowAggregate whose keys and arguments are columns. Lower
// makes it.
type windowed struct {
	WindowAggregate
	keys       []column
	aggregates []windowedColumn
}

type windowedColumn struct {
	name, function, of string // of "" for count(*)
}

// expandWindows makes columns of what the windows of a plan compute of their
// input.
func expandWindows(nodes []Node) ([]Node, error) {
	var out []Node
	for _, n := range nodes {
		op, ok := n.Op.(WindowAggregate)
		if !ok {
			out = append(out, n)
			continue
		}
		w := windowed{WindowAggregate: op}
		var computed []NamedExpr
		columnOf := func(e Expr) string {
			if e.Column != nil {
				return *e.Column
			}
			name := fmt.Sprintf("%sw%d", reservedPrefix, len(computed))
			computed = append(computed, NamedExpr{name, e})
			return name
		}
		for _, k := range op.Keys {
			w.keys = append(w.keys, column{k.Name, columnOf(k.Expr)})
		}
		for _, a := range op.Aggregates {
			function, argument, err := parseAggregate(a)
			if err != nil {
				return nil, located(err, n)
			}
			c := windowedColumn{name: a.Name, function: function}
			if argument != nil {
				c.of = columnOf(*argument)
			}
			w.aggregates = append(w.aggregates, c)
		}
		input := n.Inputs[0]
		if len(computed) > 0 {
			input = n.ID + ".w"
			out = append(out, Node{ID: input, Inputs: n.Inputs, Origin: n.Origin, Op: Project{Keep: true, Exprs: computed}})
		}
		out = append(out, Node{ID: n.ID, Inputs: []string{input}, Origin: n.Origin, Op: w})
	}
	return out, nil
}

var (
	windowFunctions = []string{"count", "sum", "min", "max", "avg"}
	aggregateCall   = regexp.MustCompile(`(?s)^\s*([A-Za-z_]\w*)\s*\((.*)\)\s*$`)
	plainName       = regexp.MustCompile(`^[A-Za-z_]\w*$`)
	distinctWord    = regexp.MustCompile(`(?i)^distinct\b`)
)

// parseAggregate reads the text of an aggregate: a function and its argument,
// nil for count(*).
func parseAggregate(a NamedExpr) (function string, argument *Expr, err error) {
	refuse := func() (string, *Expr, error) {
		return "", nil, diag.New(diag.BadExpression, "the aggregate %q cannot be computed by windows: %s", a.Name, a.Expr.SQL).
			WithHint("it must be count(*), or count, sum, min, max or avg of one expression; compute with the results in a with_columns behind it")
	}
	parts := aggregateCall.FindStringSubmatch(a.Expr.SQL)
	if parts == nil {
		return refuse()
	}
	function, text := strings.ToLower(parts[1]), strings.TrimSpace(parts[2])
	if function == "mean" {
		function = "avg"
	}
	if !slices.Contains(windowFunctions, function) || !oneArgument(text) || distinctWord.MatchString(text) {
		return refuse()
	}
	switch {
	case function == "count" && (text == "*" || text == ""):
		return function, nil, nil
	case text == "" || text == "*":
		return refuse()
	case plainName.MatchString(text):
		e := Column(text)
		return function, &e, nil
	}
	e := SQL(text)
	return function, &e, nil
}

// oneArgument reports whether a text that stood in parentheses closes all that
// it opens, and has no comma or comment outside of what it opens.
func oneArgument(text string) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\'', '"':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return false
			}
			i += end + 1
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 {
				return false
			}
		case ',', ';':
			if depth == 0 {
				return false
			}
		case '-', '/':
			if strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "/*") {
				return false
			}
		}
	}
	return depth == 0
}

// flow is what is known of a node's output before anything is typed.
type flow struct {
	// endless names the source that has no end; "" if there is an end.
	endless string
	// elements is set if watermarks or barriers flow and must be passed on.
	elements bool
	// watermark is the node whose watermarks flow; "" if there is none.
	watermark string
	// time are the columns that watermarks are about.
	time []string
}

// flows finds out what flows where, and refuses steps that would wait for an
// end that does not come.
func (l *lowering) flows(nodes []Node) error {
	l.flow, l.steps = map[string]flow{}, map[string]int64{}
	checkpoint := checkpointed(nodes)
	for _, n := range nodes {
		f, err := l.flowOf(n, checkpoint && !l.apart[n.ID])
		if err == nil && checkpoint {
			err = l.refuseLetters(n.Op)
		}
		if err != nil {
			return located(err, n)
		}
		l.flow[n.ID] = f
	}
	return nil
}

// refuseLetters refuses functions whose dead letters a checkpoint would have to
// hold: those of rows that are made again after a restart would be there twice.
func (l *lowering) refuseLetters(op Op) error {
	var functions []string
	switch op := op.(type) {
	case applyFunctions:
		for _, c := range op.calls {
			functions = append(functions, c.function)
		}
	case applyTable:
		functions = []string{op.call.function}
	case MapBatches:
		functions = []string{op.Function}
	}
	for _, id := range functions {
		if f := l.plan.Functions[id]; f.Options.OnError == OnErrorDeadLetter {
			return diag.New(diag.NotCheckpointed, "%s keeps dead letters, which a job with checkpoints cannot", f.Name).
				WithHint("on_error=\"null\" gives NULL for the rows that %s fails on: filter them into an output of their own", f.Name)
		}
	}
	return nil
}

func checkpointed(nodes []Node) bool {
	return slices.ContainsFunc(nodes, func(n Node) bool {
		w, ok := n.Op.(WriteParquet)
		return ok && w.Checkpoint != nil
	})
}

func (l *lowering) flowOf(n Node, checkpoint bool) (flow, error) {
	var in flow
	inputs := n.Inputs
	if tables, _ := tablesOf(n.Op); len(tables) > 0 {
		inputs = inputs[:1] // the others have come to their end
	}
	for _, id := range inputs {
		f := l.flow[id]
		in.elements = in.elements || f.elements
		if f.endless != "" {
			in.endless = f.endless
		}
		in.watermark, in.time = f.watermark, f.time
	}
	switch op := n.Op.(type) {
	case Generate:
		f := flow{elements: checkpoint}
		if op.Rows == nil {
			f.endless, f.elements = op.Name(), true
		}
		return f, nil
	case Filter, Project, Drop, Rename, Unnest, MapBatches, arrange, applyFunctions:
		return in, nil
	case Limit, limitRows:
		in.endless = ""
		return in, nil
	case sideTable:
		return l.flowOfTable(op, in)
	case WithWatermark:
		return flow{in.endless, true, n.ID, []string{op.Column}}, nil
	case windowed:
		return l.flowOfWindow(op, in)
	case Collect:
		if in.endless != "" && !op.Endless {
			return in, needsEnd("collect", in.endless)
		}
	case WriteCSV, WriteJSON, KeepTable, Discard:
		if in.endless != "" {
			return in, needsEnd(n.Op.Name(), in.endless)
		}
	case WriteParquet:
		if in.endless != "" && op.Checkpoint == nil {
			return in, diag.New(diag.NeedsEnd, "%s would never show its file, because the stream of %s has no end", op.Name(), in.endless).
				WithHint("name a folder and a checkpoint: .write_parquet(\"out/\", name=\"job\", checkpoint=\"state/\"), or put limit(n) before it")
		}
	default:
		switch {
		case in.endless != "":
			return in, needsEnd(n.Op.Name(), in.endless)
		case !checkpoint:
			return flow{}, nil
		}
	}
	if w, ok := n.Op.(WriteParquet); checkpoint && (!ok || w.Checkpoint == nil) {
		return in, notCheckpointed(n)
	}
	return in, nil
}

func needsEnd(step, source string) error {
	d := diag.New(diag.NeedsEnd, "%s needs the end of its input, but the stream of %s has none", step, source)
	if step == "agg" {
		return d.WithHint("aggregate by windows of time: .with_watermark(\"ts\", \"5 seconds\").window(\"tumble\", \"1 minute\", on=\"ts\"), or put limit(n) before it")
	}
	return d.WithHint("put limit(n) before it")
}

func notCheckpointed(n Node) error {
	d := diag.New(diag.NotCheckpointed, "%s cannot be part of a job with checkpoints", n.Op.Name())
	if len(n.Inputs) == 0 {
		return d.WithHint("a job can go on only from a source that says where it was, such as read_generator")
	}
	return d.WithHint("write what comes before it with checkpoint=, and go on from those files in a job of its own")
}

// flowOfWindow checks that a window has a watermark which belongs to its time.
func (l *lowering) flowOfWindow(op windowed, in flow) (flow, error) {
	out := flow{in.endless, in.elements, in.watermark, []string{"window_start", "window_end"}}
	switch {
	case in.watermark != "":
		if !slices.ContainsFunc(in.time, func(c string) bool { return Fold(c) == Fold(op.On) }) {
			return out, diag.New(diag.InvalidPlan, "the windows are on %q, but the watermark is that of %q", op.On, in.time[0]).
				WithHint("call with_watermark(%q, …) right before window", op.On)
		}
		l.steps[in.watermark] = gcd(l.steps[in.watermark], op.SizeUS)
	case in.endless != "":
		return out, diag.New(diag.InvalidPlan, "no window of the stream of %s would ever end: it has no watermark", in.endless).
			WithHint("say which column is the time, and how late rows may come: .with_watermark(%q, \"5 seconds\")", op.On)
	}
	return out, nil
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func microseconds(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

func (l *lowering) watermark(n Node, op WithWatermark, input *Stage) error {
	i, err := findColumn(input.Schema, op.Column)
	if err != nil {
		return err
	}
	f := input.Schema.Field(i)
	if f.Type.ID() != arrow.TIMESTAMP {
		return diag.New(diag.TypeMismatch, "the event time %q has the type %s, but must be a timestamp", f.Name, FormatType(f.Type)).
			WithHint("cast it before: .with_columns(%s=\"%s::timestamp\")", f.Name, f.Name)
	}
	work := &Watermarking{Column: i, Delay: microseconds(op.DelayUS), Step: microseconds(l.steps[n.ID])}
	if unit := f.Type.(*arrow.TimestampType).Unit.Multiplier(); work.Delay%unit != 0 {
		return diag.New(diag.TypeMismatch, "the delay %s is no multiple of %s, the unit of %q", work.Delay, unit, f.Name).
			WithHint("cast the column: .with_columns(%s=\"%s::timestamp\")", f.Name, f.Name)
	}
	l.stage(n, input.Schema, work)
	return nil
}

func (l *lowering) window(n Node, op windowed, input *Stage) error {
	at, err := findColumn(input.Schema, op.On)
	if err != nil {
		return err
	}
	work := &Windowing{Size: microseconds(op.SizeUS), Time: at}
	for _, k := range op.keys {
		i, err := findColumn(input.Schema, k.of)
		if err != nil {
			return err
		}
		work.Keys = append(work.Keys, WindowColumn{Name: k.name, Column: i})
	}
	for _, a := range op.aggregates {
		c := WindowColumn{Name: a.name, Function: a.function, Column: -1}
		if a.of != "" {
			if c.Column, err = findColumn(input.Schema, a.of); err != nil {
				return err
			}
		}
		work.Aggregates = append(work.Aggregates, c)
	}
	schema, err := l.typer.WindowSchema(input.Schema, work)
	if err != nil {
		return err
	}
	l.stage(n, schema, work)
	return nil
}

// checkpointIntervalMinMS keeps checkpoints from being all that a job does.
const checkpointIntervalMinMS = 10

var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (c *Checkpoint) validate(o Output) error {
	if o.Mode == Append || len(o.PartitionBy) > 0 {
		return fmt.Errorf("an output with checkpoints can have neither partition_by nor the mode %q", Append)
	}
	if !jobName.MatchString(c.Name) {
		return fmt.Errorf("the name of a job is made of letters, digits, '.', '_' and '-', at most 100, not %q", c.Name)
	}
	if c.IntervalMS < checkpointIntervalMinMS {
		return fmt.Errorf("the interval between checkpoints must be at least %d ms, not %d", checkpointIntervalMinMS, c.IntervalMS)
	}
	return required("dir", c.Dir)
}
