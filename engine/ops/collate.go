package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/engine/state"
)

// collateLimits bound what a Collate does by itself.
type collateLimits struct {
	// keys is the number of keys up to which they are kept in a table.
	keys int
	// Rows are put in order runBytes or runRows at a time, and kept in batches
	// of batchBytes, of which each of so many runs has one in memory when they
	// are read.
	runs                         int
	runBytes, runRows, batchRows int64
	batchBytes                   int64
}

var collateLimitsDefault = collateLimits{
	keys: 1 << 16, runs: 128, runBytes: 16 << 20, runRows: 4 << 20, batchRows: 1 << 16, batchBytes: 256 << 10,
}

// Collate brings the rows of equal keys together, in the order of their keys as
// the relational engine sorts them, and those of one key in the order of the
// input; then it does as Group does.
//
// Most tables have few keys beside their rows. So the keys are numbered as they
// come, and the relational engine sorts these alone. Rows are put in the order
// of the keys known so far by counting, some MiB at a time: these runs stay in
// memory or go to files, and are read side by side at the end. Where there are
// too many keys or runs, or keys that cannot be told by a hash, the relational
// engine sorts all rows.
type Collate struct {
	// Group says which columns of the input are the keys, and what becomes of
	// the rows.
	Group  *Group
	Engine exec.Relational
	// Types are those of the input's columns.
	Types []arrow.Field
	// Spool says where runs are kept.
	Spool exec.SpoolOptions

	limits    collateLimits
	allocator memory.Allocator
	// kept is the schema of the columns that the groups get, rows the one of the
	// keys and these.
	kept, rows *arrow.Schema
	keys       *state.Keys
	// held are the rows that make the next run, and the numbers of their keys.
	held      []arrow.RecordBatch
	codes     []uint32
	heldBytes int64
	runs      []*collatedRun
	// order are the numbers of the keys in the order of the keys.
	order []uint32
	began time.Time
}

// collatedRun are rows in the order of their keys.
type collatedRun struct {
	spool  *exec.Spool
	groups []collatedGroup

	// While the runs are read: the group and the row of the batch that come next.
	reader exec.BatchReader
	next   int
	batch  arrow.RecordBatch
	row    int64
}

// collatedGroup are rows of one key in a run.
type collatedGroup struct {
	key  uint32
	rows int64
}

// OwnTime implements exec.OwnTime: a query reads ahead, in goroutines of its
// own.
func (c *Collate) OwnTime() {}

// Run implements exec.Operator.
func (c *Collate) Run(ctx context.Context, in []*exec.Input, out *exec.Output) (err error) {
	c.prepare()
	defer c.close()
	defer func() {
		if err != nil {
			c.Group.OnFail(err)
		}
	}()
	c.began = time.Now()
	for c.keys != nil {
		out.Worked(time.Since(c.began))
		e, err := in[0].Next(ctx)
		c.began = time.Now()
		if err != nil {
			return err
		}
		if e.Kind == exec.KindEnd {
			return c.emit(ctx, out)
		}
		if e.Kind != exec.KindBatch {
			continue // in a bounded input only rows mean something
		}
		if err := c.take(ctx, e.Batch); err != nil {
			return err
		}
		if c.keys.Len() > c.limits.keys || len(c.runs) == c.limits.runs {
			break
		}
	}
	return c.sortAll(ctx, in[0], out)
}

func (c *Collate) prepare() {
	c.allocator = c.Group.Allocator
	if c.allocator == nil {
		c.allocator = memory.DefaultAllocator
	}
	if c.limits == (collateLimits{}) {
		c.limits = collateLimitsDefault
	}
	keyable := true
	var keys []arrow.DataType
	var fields, kept []arrow.Field
	for i, k := range c.Group.Keys {
		t := c.Types[k].Type
		keyable = keyable && state.Keyable(t)
		keys = append(keys, t)
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("k%d", i), Type: t, Nullable: true})
	}
	for i, column := range c.Group.Columns {
		t := c.Types[column].Type
		// Where the relational engine has another type for a column, it makes it.
		keyable = keyable && arrow.TypeEqual(t, c.Group.Schema.Field(1+i).Type)
		kept = append(kept, arrow.Field{Name: fmt.Sprintf("c%d", i), Type: t, Nullable: true})
	}
	c.kept, c.rows = arrow.NewSchema(kept, nil), arrow.NewSchema(append(fields, kept...), nil)
	if keyable {
		c.keys = state.NewKeys(keys)
	}
}

func (c *Collate) close() {
	releaseAll(c.held)
	for _, r := range c.runs {
		r.close()
	}
	c.held, c.runs = nil, nil
}

// take holds the rows of a batch, which it takes over, and makes a run of what
// is held when it is enough.
func (c *Collate) take(ctx context.Context, batch arrow.RecordBatch) error {
	defer batch.Release()
	before, rows := len(c.codes), int(batch.NumRows())
	if rows == 0 {
		return nil
	}
	c.codes = slices.Grow(c.codes, rows)[:before+rows]
	keys := make([]arrow.Array, len(c.Group.Keys))
	for i, k := range c.Group.Keys {
		keys[i] = batch.Column(k)
	}
	if err := c.keys.Find(keys, c.codes[before:]); err != nil {
		return err
	}
	held := pick(batch, c.Group.Columns, c.kept)
	c.held = append(c.held, held)
	c.heldBytes += exec.SliceBytes(held)
	if c.heldBytes < c.limits.runBytes && int64(len(c.codes)) < c.limits.runRows {
		return nil
	}
	return c.endRun(ctx)
}

// endRun makes a run of what is held.
func (c *Collate) endRun(ctx context.Context) error {
	if err := c.sortKeys(ctx); err != nil {
		return err
	}
	run := &collatedRun{}
	places := c.places(run)
	spool, err := exec.NewSpool(c.kept, c.Spool)
	if err != nil {
		return err
	}
	run.spool = spool
	c.runs = append(c.runs, run)
	each := min(c.limits.batchRows, max(1, c.limits.batchBytes*int64(len(places))/max(1, c.heldBytes)))
	order := newScatter(places, each, c.allocator)
	columns, err := order.columns(ctx, c.held, nil)
	if err != nil {
		return err
	}
	batches := order.batches(c.kept, columns)
	for i, batch := range batches {
		if err := spool.Put(ctx, exec.BatchElement(batch)); err != nil {
			releaseAll(batches[i+1:])
			return err
		}
	}
	releaseAll(c.held)
	c.held, c.codes, c.heldBytes = c.held[:0], c.codes[:0], 0
	return spool.Put(ctx, exec.Element{Kind: exec.KindEnd})
}

// places gives the place of each row that is held in the order of their keys,
// and notes in a run how many each key has.
func (c *Collate) places(run *collatedRun) []uint32 {
	counts := make([]uint32, c.keys.Len())
	for _, key := range c.codes {
		counts[key]++
	}
	next := uint32(0)
	for _, key := range c.order {
		if rows := counts[key]; rows > 0 {
			run.groups = append(run.groups, collatedGroup{key, int64(rows)})
			counts[key], next = next, next+rows
		}
	}
	// The numbers of the keys are of no use once the places are known.
	places := c.codes
	for row, key := range c.codes {
		places[row] = counts[key]
		counts[key]++
	}
	return places
}

// sortKeys has the relational engine sort the keys, if there are new ones.
func (c *Collate) sortKeys(ctx context.Context) error {
	n := c.keys.Len()
	if len(c.order) == n {
		return nil
	}
	const number = "n"
	columns := c.keys.Columns(c.allocator)
	b := array.NewInt64Builder(c.allocator)
	defer b.Release()
	b.Reserve(n)
	for i := range n {
		b.UnsafeAppend(int64(i))
	}
	columns = append(columns, b.NewArray())
	fields := append(slices.Clone(c.rows.Fields()[:len(c.Group.Keys)]), arrow.Field{Name: number, Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	batch := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(n))
	exec.ReleaseColumns(columns)
	c.order = make([]uint32, 0, n)
	defer batch.Release()
	all := make([]int, len(fields))
	for i := range all {
		all[i] = i
	}
	reader := &oneBatchReader{source: newOneBatch(batch, all, batch.Schema())}
	return c.Engine.Run(ctx, c.sort(batch.Schema()), []exec.BatchReader{reader}, func(sorted arrow.RecordBatch) error {
		defer sorted.Release()
		for _, i := range sorted.Column(int(sorted.NumCols()) - 1).(*array.Int64).Int64Values() {
			c.order = append(c.order, uint32(i))
		}
		return nil
	})
}

// sort is the stage that sorts rows of a schema that begins with the keys.
func (c *Collate) sort(schema *arrow.Schema) *exec.RelationalStage {
	const rows, sorted = "rows", "sorted"
	op := plan.Sort{}
	for i := range c.Group.Keys {
		op.By = append(op.By, plan.SortKey{Expr: plan.Column(schema.Field(i).Name)})
	}
	return &exec.RelationalStage{
		ID: sorted, Inputs: []exec.RelationalInput{{Node: rows, Schema: schema}},
		Nodes: []plan.Node{{ID: sorted, Inputs: []string{rows}, Op: op}},
	}
}

// emit makes bundles of the rows of all runs.
func (c *Collate) emit(ctx context.Context, out *exec.Output) error {
	if len(c.held) > 0 {
		if err := c.endRun(ctx); err != nil {
			return err
		}
	}
	// The keys of the last run were sorted with all others.
	b := &collatedBundle{Collate: c, out: out}
	defer b.close()
	for _, key := range c.order {
		if err := b.group(ctx, key); err != nil {
			return err
		}
	}
	if err := b.hold(ctx); err != nil {
		return err
	}
	out.Worked(time.Since(c.began))
	return c.Group.OnEnd(ctx, out)
}

// collatedBundle is what goes into the bundle that is being made.
type collatedBundle struct {
	*Collate
	out         *exec.Output
	parts       []arrow.RecordBatch
	groups      groupRuns // of parts
	rows, bytes int64
	number      int64
}

func (b *collatedBundle) close() { releaseAll(b.parts) }

// group adds the rows of a key.
func (b *collatedBundle) group(ctx context.Context, key uint32) error {
	if b.Group.full(b.rows, b.bytes) {
		if err := b.hold(ctx); err != nil {
			return err
		}
		if err := b.waiting(func() error { return b.Group.pass(ctx, false, b.out) }); err != nil {
			return err
		}
	}
	b.Group.groups++
	for _, r := range b.runs {
		if r.next == len(r.groups) || r.groups[r.next].key != key {
			continue
		}
		left := r.groups[r.next].rows
		r.next++
		for left > 0 {
			part, err := r.read(ctx, left)
			if err != nil {
				return err
			}
			left -= part.NumRows()
			b.parts = append(b.parts, part)
			b.rows += part.NumRows()
			b.groups.end(b.number, b.rows)
			b.bytes += exec.SliceBytes(part)
			// A group larger than a bundle goes in parts.
			if b.Group.large(b.rows, b.bytes) {
				if err := b.hold(ctx); err != nil {
					return err
				}
			}
		}
	}
	b.number++
	return nil
}

// hold adds the parts to the bundle as one batch.
func (b *collatedBundle) hold(ctx context.Context) error {
	if b.rows == 0 {
		return nil
	}
	columns, err := exec.JoinColumns(b.parts, b.allocator)
	if err != nil {
		return err
	}
	defer exec.ReleaseColumns(columns)
	groups, rowBytes := b.groups, b.bytes/b.rows
	releaseAll(b.parts)
	b.parts, b.groups, b.rows, b.bytes = b.parts[:0], groupRuns{}, 0, 0
	return b.waiting(func() error { return b.Group.hold(ctx, columns, groups, rowBytes, b.out) })
}

// waiting calls what waits for room behind the operator.
func (b *collatedBundle) waiting(emit func() error) error {
	b.out.Worked(time.Since(b.began))
	defer func() { b.began = time.Now() }()
	return emit()
}

// read gives up to so many of the rows that come next in a run.
func (r *collatedRun) read(ctx context.Context, rows int64) (arrow.RecordBatch, error) {
	if r.batch == nil {
		var err error
		if r.reader == nil {
			if r.reader, err = r.spool.Open(ctx); err != nil {
				return nil, err
			}
		}
		if r.batch, err = r.reader.Next(ctx); err != nil {
			return nil, err
		}
		r.row = 0
	}
	end := min(r.row+rows, r.batch.NumRows())
	part := r.batch.NewSlice(r.row, end)
	if r.row = end; end == r.batch.NumRows() {
		r.batch.Release()
		r.batch = nil
	}
	return part, nil
}

func (r *collatedRun) close() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
	if r.reader != nil {
		r.reader.Close()
	}
	r.spool.Close()
}

// sortAll has the relational engine sort what was taken so far and the rest of
// the input, and groups what comes of it.
func (c *Collate) sortAll(ctx context.Context, in *exec.Input, out *exec.Output) error {
	out.Worked(time.Since(c.began))
	group := *c.Group
	keys := len(c.Group.Keys)
	group.Keys, group.Columns = nil, nil
	for i := range c.rows.NumFields() {
		if i < keys {
			group.Keys = append(group.Keys, i)
		} else {
			group.Columns = append(group.Columns, i)
		}
	}
	rest := &uncollated{Collate: c, in: in.Batches()}
	defer rest.release()
	if c.keys != nil {
		rest.keys = c.keys.Columns(c.allocator)
	}
	err := relate(ctx, c.Engine, c.sort(c.rows), []exec.BatchReader{rest}, out, func(batch arrow.RecordBatch) error {
		return group.OnBatch(ctx, batch, out)
	})
	if err != nil {
		group.OnFail(err)
		return err
	}
	return group.OnEnd(ctx, out)
}

// uncollated reads all rows with their keys, those of equal keys in the order
// of the input: the runs, what is held, and the rest of the input.
type uncollated struct {
	*Collate
	in   exec.BatchReader
	keys []arrow.Array
}

// Next implements exec.BatchReader.
func (u *uncollated) Next(ctx context.Context) (arrow.RecordBatch, error) {
	for len(u.runs) > 0 {
		run := u.runs[0]
		if run.next < len(run.groups) {
			return u.ofRun(ctx, run)
		}
		run.close()
		u.runs = u.runs[1:]
	}
	if len(u.held) > 0 {
		batch := u.held[0]
		defer batch.Release()
		rows := int(batch.NumRows())
		codes := u.codes[:rows]
		u.held, u.codes = u.held[1:], u.codes[rows:]
		return u.withKeys(ctx, batch, codes)
	}
	batch, err := u.in.Next(ctx)
	if err != nil {
		return nil, err
	}
	defer batch.Release()
	return pick(batch, slices.Concat(u.Group.Keys, u.Group.Columns), u.rows), nil
}

// ofRun reads the next rows of a run.
func (u *uncollated) ofRun(ctx context.Context, run *collatedRun) (arrow.RecordBatch, error) {
	batch, err := run.read(ctx, u.limits.batchRows)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	defer batch.Release()
	codes := make([]uint32, 0, batch.NumRows())
	for left := batch.NumRows(); left > 0; {
		g := &run.groups[run.next]
		n := min(left, g.rows)
		for range n {
			codes = append(codes, g.key)
		}
		left -= n
		if g.rows -= n; g.rows == 0 {
			run.next++
		}
	}
	return u.withKeys(ctx, batch, codes)
}

// withKeys puts keys, by their numbers, before a batch.
func (u *uncollated) withKeys(ctx context.Context, batch arrow.RecordBatch, codes []uint32) (arrow.RecordBatch, error) {
	rows := make([]int64, len(codes))
	for i, key := range codes {
		rows[i] = int64(key)
	}
	keys, err := takeColumns(ctx, u.keys, rows, u.allocator)
	if err != nil {
		return nil, err
	}
	defer exec.ReleaseColumns(keys)
	return array.NewRecordBatch(u.rows, append(keys, batch.Columns()...), batch.NumRows()), nil
}

// Close implements exec.BatchReader.
func (u *uncollated) Close() { u.in.Close() }

func (u *uncollated) release() { exec.ReleaseColumns(u.keys) }
