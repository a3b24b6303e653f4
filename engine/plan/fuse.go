package plan

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// Fuse lets functions of columns that follow one another cross to a worker
// together where they agree in what a worker is: of a chain of steps each batch
// goes there and back once. Columns may be picked and renamed between the two;
// anything else, and a second reader of what lies between, keeps them apart.
func Fuse(physical *Physical) {
	f := fusing{stages: map[string]*Stage{}, consumers: map[string]int{}}
	for _, s := range physical.Stages {
		f.stages[s.ID] = s
		for _, id := range s.Inputs {
			f.consumers[id]++
		}
	}
	gone := map[*Stage]bool{}
	for _, s := range physical.Stages {
		for _, passed := range f.fuse(s) {
			gone[passed] = true
		}
	}
	physical.Stages = slices.DeleteFunc(physical.Stages, func(s *Stage) bool { return gone[s] })
}

type fusing struct {
	stages    map[string]*Stage
	consumers map[string]int
}

// fuse gives the calls of s to the functions before it, if it can, and gives
// the stages between, which then have no reader.
func (f *fusing) fuse(s *Stage) (between []*Stage) {
	second, ok := s.Work.(*Application)
	if !ok || !second.AddsColumns() {
		return nil
	}
	before := f.stages[s.Inputs[0]]
	places := everything(before.Schema.NumFields()) // of the columns of s's input in before
	for {
		if f.consumers[before.ID] != 1 {
			return nil
		}
		arrangement, ok := before.Work.(*Arrangement)
		if !ok {
			break
		}
		for i, place := range places {
			places[i] = arrangement.Columns[place]
		}
		between = append(between, before)
		before = f.stages[before.Inputs[0]]
	}
	first, ok := before.Work.(*Application)
	if !ok || !first.AddsColumns() || !first.sameWorkers(second) {
		return nil
	}
	input := f.stages[before.Inputs[0]].Schema
	fused := first.with(second, places, input)
	results := len(first.Kept) + len(first.Calls)
	arranged := &Arrangement{}
	for _, kept := range second.Kept {
		arranged.Columns = append(arranged.Columns, places[kept])
	}
	for i := range second.Calls {
		arranged.Columns = append(arranged.Columns, results+i)
	}
	before.Work, before.Name = fused, applicationName(fused)
	before.Schema = arrow.NewSchema(slices.Concat(before.Schema.Fields(), second.Result.Fields()), nil)
	s.Work, s.Name, s.Inputs = arranged, second.Calls[0].Operator, []string{before.ID}
	return between
}

// sameWorkers reports whether the calls of both may run in one worker, under the
// same rules.
func (a *Application) sameWorkers(b *Application) bool {
	first, second := a.Calls[0].Function, b.Calls[0].Function
	return a.Environment == b.Environment && a.Retries == b.Retries && a.Workers == b.Workers &&
		first.Options.ExceptionRetries == second.Options.ExceptionRetries &&
		first.WorkerKey() == second.WorkerKey() && !first.alone() && !second.alone()
}

// source is where an argument comes from: a column of the stage's input, or an
// earlier call.
type source struct{ column, call int }

// sources tells where the arguments of a's call come from.
func (a *Application) sources(call AppliedCall) []source {
	out := make([]source, len(call.Args))
	for i, arg := range call.Args {
		if arg < len(a.Columns) {
			out[i] = source{column: a.Columns[arg], call: -1}
		} else {
			out[i] = source{call: arg - len(a.Columns)}
		}
	}
	return out
}

// with gives a with the calls of b behind its own; places are those of the
// columns of b's input among what a gives, input is a's.
func (a *Application) with(b *Application, places []int, input *arrow.Schema) *Application {
	fused := *a
	fused.Calls = slices.Concat(a.Calls, b.Calls)
	var from [][]source
	for _, call := range a.Calls {
		from = append(from, a.sources(call))
	}
	for _, call := range b.Calls {
		sources := b.sources(call)
		for i, s := range sources {
			place := places[s.column]
			if place < len(a.Kept) {
				sources[i] = source{column: a.Kept[place], call: -1}
			} else {
				sources[i] = source{call: place - len(a.Kept)}
			}
		}
		from = append(from, sources)
	}
	cross := crossing{from: input}
	for _, sources := range from {
		for _, s := range sources {
			if s.call < 0 {
				cross.place(s.column)
			}
		}
	}
	for i, sources := range from {
		args := make([]int, len(sources))
		for j, s := range sources {
			if s.call < 0 {
				args[j] = cross.place(s.column)
			} else {
				args[j] = len(cross.columns) + s.call
			}
		}
		fused.Calls[i].Args = args
	}
	fused.complete(cross, slices.Concat(a.Result.Fields(), b.Result.Fields()))
	if fused.RowsWanted == 0 {
		fused.RowsWanted = b.RowsWanted
	}
	return &fused
}
