package fnapi

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/udfworker"
)

// overdue is a bundle that was interrupted because its function had made no
// progress for too long.
type overdue struct {
	bundle *bundle
	at     progress
	limit  time.Duration
}

// watchTime has the lease's worker interrupted when a function makes no
// progress for as long as it may. It returns when the lease ends.
func (l *lease) watchTime() {
	defer close(l.timed)
	calls := l.session.stage.Calls
	limit := func(call int) time.Duration {
		return calls[min(call, len(calls)-1)].Function.Timeout()
	}
	every := time.Duration(0)
	for i := range calls {
		if t := limit(i); t > 0 && (every == 0 || t < every) {
			every = t
		}
	}
	if every == 0 {
		return
	}
	every = min(max(every/lookShare, lookMin), lookMax)
	watchProgress(l.ctx.Done(), l.endpoint.page.read, limit, every, func(p progress) bool {
		return l.stalled(p, limit(p.call))
	})
}

// stalled interrupts the worker, whose function has made no progress. Its
// bundle fails when the worker has answered, which may tell the line that it
// was at, or when it is dead.
func (l *lease) stalled(p progress, limit time.Duration) bool {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	b := l.bundles[instructionID(p.instruction)]
	if b == nil || l.lost {
		return false // it has just ended
	}
	p.call = min(p.call, len(s.stage.Calls)-1)
	l.overdue = &overdue{b, p, limit}
	l.dirty = true
	s.runner.pool.Interrupt(l.worker)
	return true
}

// timedOut is the diagnostic of an overdue bundle. answer is what the worker
// said of it when it was interrupted, or nil.
func (l *lease) timedOut(answer *diag.Diagnostic) *exec.BundleFailure {
	stage, o := l.session.stage, l.overdue
	call := stage.Calls[o.at.call]
	f := &exec.BundleFailure{Kind: exec.FailedTime, Row: -1, Sure: true, Fatal: o.at.loading}
	what := "for one call"
	if call.Function.Kind == plan.FlatMapFunction && o.at.row >= 0 {
		what = "for one row"
	}
	if call.Function.Kind == plan.RowFunction {
		what = "for one row"
		if o.at.row < 0 && o.at.rows == 0 && (answer == nil || answer.Row == nil) {
			what = "to be set up, before its first row"
		}
	}
	d := diag.New(diag.WorkerTimedOut, "function %s was stopped: it took more than %g s %s", call.Function.Name, o.limit.Seconds(), what)
	d.Function = call.Function.Name
	if answer != nil {
		d.Frames, d.Row = answer.Frames, answer.Row
	}
	if d.Row == nil && o.at.row >= 0 && o.at.exact {
		d.Row = &diag.Row{Index: o.bundle.firstRow + o.at.row, Values: l.session.valuesAt(o.bundle, call, o.at.row)}
	}
	if d.Row == nil {
		rowsFact(d, o.bundle, o.bundle)
		f.Sure = false
	} else {
		f.Row = d.Row.Index - o.bundle.firstRow
	}
	workerFact(d, l.worker)
	f.Diagnostic = d.WithHint("if it may take longer, say so: timeout=\"5min\"; None is no limit. It is not tried again").At(call.Operator, call.Origin)
	return f
}

// valuesAt reads the arguments of a call at a row of a bundle once more; it
// gives none where that is not possible. The session's mu may be held: a
// bundle's input is in memory.
func (s *session) valuesAt(b *bundle, call exec.FunctionCall, row int64) []diag.Value {
	if s.stage.Kind != exec.StageColumns && s.stage.Kind != exec.StageFlatMap {
		return nil
	}
	reader, err := b.input.Open(context.Background())
	if err != nil {
		return nil
	}
	defer reader.Close()
	for {
		batch, err := reader.Next(context.Background())
		if err != nil {
			return nil
		}
		if row < batch.NumRows() {
			defer batch.Release()
			return argumentsAt(batch, call, int(row))
		}
		row -= batch.NumRows()
		batch.Release()
	}
}

func argumentsAt(batch arrow.RecordBatch, call exec.FunctionCall, row int) []diag.Value {
	values := make([]diag.Value, 0, len(call.Args))
	columns := call.Args
	for place := range min(len(call.Args)+len(call.Constants), valuesMax) {
		name := fmt.Sprintf("argument %d", place+1)
		if place < len(call.Function.Parameters) {
			name = call.Function.Parameters[place]
		}
		if i := slices.IndexFunc(call.Constants, func(c plan.Constant) bool { return c.Place == place }); i >= 0 {
			values = append(values, diag.Value{Name: name, Repr: constantText(call.Constants[i])})
			continue
		}
		at := columns[0]
		columns = columns[1:]
		if at < int(batch.NumCols()) { // another call's result is with the worker
			values = append(values, diag.Value{Name: name, Repr: pythonText(batch.Column(at), row)})
		}
	}
	return values
}

// constantText shows an argument that is the same for every row.
func constantText(c plan.Constant) string {
	r, err := ipc.NewReader(bytes.NewReader(c.Value))
	if err != nil || !r.Next() {
		return "?"
	}
	defer r.Release()
	return pythonText(r.RecordBatch().Column(0), 0)
}

// reprCharsMax is how much of a value is shown, as in the harness.
const reprCharsMax = 80

// pythonText shows a value about as Python would.
func pythonText(column arrow.Array, row int) string {
	var text string
	switch column := column.(type) {
	case *array.Boolean:
		if text = "False"; !column.IsNull(row) && column.Value(row) {
			text = "True"
		}
	case *array.String, *array.LargeString:
		quoted := strconv.Quote(column.ValueStr(row))
		text = "'" + strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + "'"
	default:
		text = column.ValueStr(row)
	}
	if column.IsNull(row) {
		return "None"
	}
	if utf8.RuneCountInString(text) > reprCharsMax {
		text = string([]rune(text)[:reprCharsMax-1]) + "…"
	}
	return text
}

// rowsFact tells the rows of bundles that follow one another, as far as they
// are known.
func rowsFact(d *diag.Diagnostic, first, last *bundle) {
	switch end := last.firstRow + last.rows; {
	case !last.sentAll:
		d.WithFact("rows from %d on of its input", first.firstRow)
	case end > first.firstRow:
		d.WithFact("rows %d to %d of its input", first.firstRow, end-1)
	}
}

func workerFact(d *diag.Diagnostic, worker *udfworker.Worker) {
	d.WithFact("process %d in environment %s (Python %s)", worker.PID(), worker.Environment().ID, worker.Environment().PythonVersion)
}
