package state

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
)

// The columns of a window's result that say which window it is.
const (
	WindowStart = "window_start"
	WindowEnd   = "window_end"
)

const (
	// resultRowsMin is the number of rows at which a batch of results is
	// handed on.
	resultRowsMin = 8192
	// panesKeptMax is the number of ended windows whose memory is used again.
	panesKeptMax = 4
)

// WindowOptions describe tumbling windows over a stream of batches.
type WindowOptions struct {
	// Size is the length of a window. Windows begin at multiples of it, counted
	// from 1970-01-01.
	Size time.Duration
	// Time is the column of event time; Keys are those of the groups.
	Time int
	Keys []Key
	// Aggregates are computed for each group of each window.
	Aggregates []Aggregate
	Input      *arrow.Schema
	// Allocator is for results and snapshots; nil means Arrow's default.
	Allocator memory.Allocator
}

// Key is a column that a window is grouped by, and its name in the result.
type Key struct {
	Name   string
	Column int
}

// Aggregate is a column of a window's result.
type Aggregate struct {
	Name     string
	Function string // Count, Sum, Min, Max or Avg
	// Column is the one that it is computed of; -1 for count(*).
	Column int
}

// Windows are the open windows of a subtask. A window is open from its first
// row until the watermark passes its end. One goroutine uses it.
type Windows struct {
	options WindowOptions
	size    int64 // in the unit of the time column
	output  *arrow.Schema
	saved   *arrow.Schema // of Snapshot

	open map[int64]*pane // by start
	free []*pane
	// keys and columns are the batch that is being worked on.
	keys    []*bound
	columns []*bound
	hashes  []uint64
	groups  []uint32
	rows    map[*pane][]int32
}

// pane is one window.
type pane struct {
	start, end int64
	groups     *groups
	aggregates []aggregate
}

// NewWindows checks the options, with diagnostics about what the user wrote.
func NewWindows(options WindowOptions) (*Windows, error) {
	if options.Allocator == nil {
		options.Allocator = memory.DefaultAllocator
	}
	w := &Windows{options: options, open: map[int64]*pane{}, rows: map[*pane][]int32{}}
	input := options.Input
	at := input.Field(options.Time)
	if at.Type.ID() != arrow.TIMESTAMP {
		return nil, diag.New(diag.TypeMismatch, "the windows' time %q has the type %s, but must be a timestamp", at.Name, at.Type).
			WithHint("cast it before: .with_columns(%s=\"%s::timestamp\")", at.Name, at.Name)
	}
	output := []arrow.Field{{Name: WindowStart, Type: at.Type, Nullable: true}, {Name: WindowEnd, Type: at.Type, Nullable: true}}
	saved := []arrow.Field{{Name: WindowStart, Type: arrow.PrimitiveTypes.Int64}}
	unit := at.Type.(*arrow.TimestampType).Unit.Multiplier()
	if w.size = int64(options.Size / unit); options.Size%unit != 0 || w.size <= 0 {
		return nil, diag.New(diag.TypeMismatch, "windows of %s are no multiple of %s, the unit of %q", options.Size, unit, at.Name).
			WithHint("cast the column before: .with_columns(%s=\"%s::timestamp\")", at.Name, at.Name)
	}
	for i, k := range options.Keys {
		f := input.Field(k.Column)
		if !Keyable(f.Type) {
			return nil, diag.New(diag.TypeMismatch, "the key %q has the type %s, by which windows cannot be grouped", k.Name, f.Type).
				WithHint("group by parts of it, or cast it to a string")
		}
		output = append(output, arrow.Field{Name: k.Name, Type: f.Type, Nullable: true})
		saved = append(saved, arrow.Field{Name: fmt.Sprintf("key%d", i), Type: f.Type, Nullable: true})
		w.keys = append(w.keys, &bound{})
	}
	for i, a := range options.Aggregates {
		var of arrow.DataType
		w.columns = append(w.columns, nil)
		if a.Column >= 0 {
			of = input.Field(a.Column).Type
			w.columns[i] = &bound{}
		}
		result, err := ResultType(a.Function, of)
		if err != nil {
			return nil, diag.New(diag.TypeMismatch, "the aggregate %q cannot be computed", a.Name).WithCause(err).
				WithHint("cast its argument inside the aggregate: %s(x::double)", a.Function)
		}
		kept, err := newAggregate(a.Function, of)
		if err != nil {
			return nil, err
		}
		output = append(output, arrow.Field{Name: a.Name, Type: result, Nullable: true})
		for j, t := range kept.stateTypes() {
			saved = append(saved, arrow.Field{Name: fmt.Sprintf("aggregate%d.%d", i, j), Type: t, Nullable: true})
		}
	}
	w.output, w.saved = arrow.NewSchema(output, nil), arrow.NewSchema(saved, nil)
	return w, nil
}

// Schema is that of the results: window_start, window_end, keys, aggregates.
func (w *Windows) Schema() *arrow.Schema { return w.output }

// NoWatermark is before every time.
const NoWatermark = math.MinInt64

// Add puts the rows of a batch into their windows. Rows whose window has ended
// at the watermark are late: they are left out, and counted.
func (w *Windows) Add(batch arrow.RecordBatch, watermark int64) (late int64, err error) {
	if batch.NumRows() == 0 {
		return 0, nil
	}
	column := batch.Column(w.options.Time).(*array.Timestamp)
	if column.NullN() > 0 {
		return 0, diag.New(diag.NullEventTime, "the event time %q is NULL in a row", batch.ColumnName(w.options.Time)).
			WithHint("leave such rows out before the windows: .filter(\"%s IS NOT NULL\")", batch.ColumnName(w.options.Time))
	}
	n := int(batch.NumRows())
	w.hashes, w.groups = sized(w.hashes, n), sized(w.groups, n)
	keys := make([]arrow.Array, len(w.keys))
	for i, k := range w.options.Keys {
		keys[i] = batch.Column(k.Column)
		w.keys[i].set(keys[i])
	}
	if err := Hash(keys, w.hashes); err != nil {
		return 0, err
	}
	for i, b := range w.columns {
		if b != nil {
			b.set(batch.Column(w.options.Aggregates[i].Column))
		}
	}
	times := column.TimestampValues()
	if p := w.paneOfAll(times); p != nil && p.end > watermark {
		p.add(w, nil, n)
		return 0, nil
	}
	return w.addScattered(times, watermark), nil
}

// paneOfAll gives the window that all rows are in; nil if there is none or it
// is not open yet.
func (w *Windows) paneOfAll(times []arrow.Timestamp) *pane {
	p := w.open[w.start(int64(times[0]))]
	if p == nil {
		return nil
	}
	for _, t := range times {
		if int64(t) < p.start || int64(t) >= p.end {
			return nil
		}
	}
	return p
}

// addScattered adds rows to several windows.
func (w *Windows) addScattered(times []arrow.Timestamp, watermark int64) (late int64) {
	var last *pane
	var touched []*pane
	for row, t := range times {
		if last == nil || int64(t) < last.start || int64(t) >= last.end {
			start := w.start(int64(t))
			if w.end(start) <= watermark {
				late++
				continue
			}
			last = w.pane(start)
			if len(w.rows[last]) == 0 {
				touched = append(touched, last)
			}
		}
		w.rows[last] = append(w.rows[last], int32(row))
	}
	for _, p := range touched {
		p.add(w, w.rows[p], len(w.rows[p]))
		delete(w.rows, p)
	}
	return late
}

// start is the start of the window of a time: the multiple of Size below it.
func (w *Windows) start(t int64) int64 {
	start := t - t%w.size
	if t%w.size < 0 && start >= math.MinInt64+w.size {
		start -= w.size
	}
	return start
}

// end is the end of the window that begins at start; the last one ends with
// time itself.
func (w *Windows) end(start int64) int64 {
	if start > math.MaxInt64-w.size {
		return math.MaxInt64
	}
	return start + w.size
}

// pane gives a window, which is opened if it is not yet.
func (w *Windows) pane(start int64) *pane {
	if p := w.open[start]; p != nil {
		return p
	}
	var p *pane
	if n := len(w.free); n > 0 {
		p, w.free = w.free[n-1], w.free[:n-1]
	} else {
		p = w.newPane()
	}
	p.start, p.end = start, w.end(start)
	w.open[start] = p
	return p
}

func (w *Windows) newPane() *pane {
	types := make([]arrow.DataType, len(w.options.Keys))
	for i, k := range w.options.Keys {
		types[i] = w.options.Input.Field(k.Column).Type
	}
	p := &pane{groups: newGroups(types, w.keys)}
	for _, a := range w.options.Aggregates {
		var of arrow.DataType
		if a.Column >= 0 {
			of = w.options.Input.Field(a.Column).Type
		}
		kept, err := newAggregate(a.Function, of)
		if err != nil {
			panic(err) // NewWindows has checked it
		}
		p.aggregates = append(p.aggregates, kept)
	}
	return p
}

// add adds n rows of the batch that is bound (nil: the first n).
func (p *pane) add(w *Windows, rows []int32, n int) {
	groups := w.groups[:n]
	p.groups.find(w.hashes, rows, groups)
	for i, a := range p.aggregates {
		a.grow(p.groups.len())
		a.add(w.columns[i], groups, rows)
	}
}

// Fire hands on the results of the windows that end at the watermark or
// before, the oldest first, and closes them. emit takes the batches over.
func (w *Windows) Fire(watermark int64, emit func(arrow.RecordBatch) error) error {
	var due []*pane
	for _, p := range w.open {
		if p.end <= watermark {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return nil
	}
	slices.SortFunc(due, func(a, b *pane) int { return cmp.Compare(a.start, b.start) })
	b := array.NewRecordBuilder(w.options.Allocator, w.output)
	defer b.Release()
	for _, p := range due {
		if err := w.appendResult(b, p); err != nil {
			return err
		}
		w.close(p)
		if b.Field(0).Len() >= resultRowsMin {
			if err := emit(b.NewRecordBatch()); err != nil {
				return err
			}
		}
	}
	if b.Field(0).Len() == 0 {
		return nil
	}
	return emit(b.NewRecordBatch())
}

// FireAll is Fire at the end of time.
func (w *Windows) FireAll(emit func(arrow.RecordBatch) error) error {
	return w.Fire(math.MaxInt64, emit)
}

func (w *Windows) appendResult(b *array.RecordBuilder, p *pane) error {
	start, end := b.Field(0).(*array.TimestampBuilder), b.Field(1).(*array.TimestampBuilder)
	for range p.groups.len() {
		start.Append(arrow.Timestamp(p.start))
		end.Append(arrow.Timestamp(p.end))
	}
	for i, c := range p.groups.columns {
		c.appendTo(b.Field(2 + i))
	}
	for i, a := range p.aggregates {
		if err := a.result(b.Field(2 + len(p.groups.columns) + i)); err != nil {
			return diag.New(diag.WindowOverflow, "the aggregate %q of the window that begins at %s has no place in its type",
				w.options.Aggregates[i].Name, w.text(p.start)).WithCause(err).
				WithHint("compute it of doubles: %s(x::double)", w.options.Aggregates[i].Function)
		}
	}
	return nil
}

// text is a time as users write it.
func (w *Windows) text(t int64) string {
	unit := w.output.Field(0).Type.(*arrow.TimestampType).Unit
	return arrow.Timestamp(t).ToTime(unit).UTC().Format("2006-01-02 15:04:05.999999999")
}

func (w *Windows) close(p *pane) {
	delete(w.open, p.start)
	if len(w.free) == panesKeptMax {
		return
	}
	p.groups.reset()
	for _, a := range p.aggregates {
		a.reset()
	}
	w.free = append(w.free, p)
}

// Snapshot gives all that is remembered as a batch, which the caller releases.
func (w *Windows) Snapshot() arrow.RecordBatch {
	b := array.NewRecordBuilder(w.options.Allocator, w.saved)
	defer b.Release()
	for _, start := range slices.Sorted(maps.Keys(w.open)) {
		p := w.open[start]
		for range p.groups.len() {
			b.Field(0).(*array.Int64Builder).Append(start)
		}
		at := 1
		for _, c := range p.groups.columns {
			c.appendTo(b.Field(at))
			at++
		}
		for _, a := range p.aggregates {
			n := len(a.stateTypes())
			a.save(b.Fields()[at : at+n])
			at += n
		}
	}
	return b.NewRecordBatch()
}

// Restore takes in a snapshot: that of any subtask, of which it keeps what
// belongs to this subtask of n.
func (w *Windows) Restore(batch arrow.RecordBatch, subtask, n int) error {
	if !batch.Schema().Equal(w.saved) {
		return fmt.Errorf("the state has the columns %s instead of %s", batch.Schema(), w.saved)
	}
	rows := int(batch.NumRows())
	w.hashes = sized(w.hashes, rows)
	columns := batch.Columns()[1:]
	for i := range w.keys {
		w.keys[i].set(columns[i])
	}
	if err := Hash(columns[:len(w.keys)], w.hashes); err != nil {
		return err
	}
	starts := batch.Column(0).(*array.Int64)
	for from := 0; from < rows; {
		to := from
		var mine []int32
		for ; to < rows && starts.Value(to) == starts.Value(from); to++ {
			if Subtask(w.hashes[to], n) == subtask {
				mine = append(mine, int32(to))
			}
		}
		if len(mine) > 0 {
			w.pane(starts.Value(from)).load(w, columns, mine)
		}
		from = to
	}
	return nil
}

func (p *pane) load(w *Windows, columns []arrow.Array, rows []int32) {
	w.groups = sized(w.groups, len(rows))
	p.groups.find(w.hashes, rows, w.groups)
	at := len(w.keys)
	for _, a := range p.aggregates {
		a.grow(p.groups.len())
		n := len(a.stateTypes())
		a.load(columns[at:at+n], w.groups, rows)
		at += n
	}
}

// sized gives scratch space a length; its content is arbitrary.
func sized[T any](scratch []T, n int) []T {
	if cap(scratch) < n {
		return make([]T, n)
	}
	return scratch[:n]
}
