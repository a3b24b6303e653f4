package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Pruner knows what Prune has to ask.
type Pruner interface {
	// ScanSchema is as in Typer.
	ScanSchema(ctx context.Context, op Op) (*arrow.Schema, error)
	// Uses gives, for each input of a group, the columns that its query reads.
	Uses(ctx context.Context, group *Relation) ([][]int, error)
}

// Prune leaves out of a lowered plan the columns that nobody uses: those that
// functions would compute, with the functions, and those that would be read
// from files. The results are the same.
//
// It goes from the sinks to the sources to find what is needed of each stage,
// and back to write the stages anew: columns are known by their places, which
// change.
func Prune(ctx context.Context, physical *Physical, pruner Pruner) error {
	p := pruning{pruner: pruner, stages: map[string]*Stage{}, needed: map[string][]bool{}, places: map[string][]int{}, prunable: map[string]bool{}}
	for _, s := range physical.Stages {
		p.stages[s.ID] = s
		p.needed[s.ID] = make([]bool, s.Schema.NumFields())
		p.prunable[s.ID] = p.canSave(s)
	}
	for _, s := range slices.Backward(physical.Stages) {
		if err := p.need(ctx, s); err != nil {
			return err
		}
	}
	for _, s := range physical.Stages {
		if err := p.rewrite(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

type pruning struct {
	pruner Pruner
	stages map[string]*Stage
	// needed says of each column of a stage whether anybody uses it, places
	// where it then stands; -1 is a column that is not there any more.
	needed map[string][]bool
	places map[string][]int
	// prunable are the stages of which leaving out a column saves something.
	prunable map[string]bool
}

// canSave reports whether columns of s cost something here or before.
func (p *pruning) canSave(s *Stage) bool {
	switch s.Work.(type) {
	case FileScan, *Application:
		return true
	}
	return slices.ContainsFunc(s.Inputs, func(id string) bool { return p.prunable[id] })
}

// want notes that columns of an input are needed.
func (p *pruning) want(s *Stage, input int, columns ...int) {
	for _, c := range columns {
		p.needed[s.Inputs[input]][c] = true
	}
}

func (p *pruning) wantAll(s *Stage, input int) {
	for c := range p.needed[s.Inputs[input]] {
		p.needed[s.Inputs[input]][c] = true
	}
}

// neededOf are the places of the columns of s that are needed.
func (p *pruning) neededOf(s *Stage) []int {
	columns := make([]int, 0, len(p.needed[s.ID]))
	for c, needed := range p.needed[s.ID] {
		if needed {
			columns = append(columns, c)
		}
	}
	return columns
}

// need notes what s needs of its inputs, all its readers having done so.
func (p *pruning) need(ctx context.Context, s *Stage) error {
	switch work := s.Work.(type) {
	case FileScan, ScanTable, Generate:
	case *Arrangement:
		for _, c := range p.neededOf(s) {
			p.want(s, 0, work.Columns[c])
		}
	case *Limiting, AtLeastOne:
		p.want(s, 0, p.neededOf(s)...)
	case *Watermarking:
		p.want(s, 0, append(p.neededOf(s), work.Column)...)
	case *Windowing:
		p.want(s, 0, work.Time)
		for _, c := range slices.Concat(work.Keys, work.Aggregates) {
			if c.Column >= 0 {
				p.want(s, 0, c.Column)
			}
		}
	case *Grouping:
		p.want(s, 0, slices.Concat(work.Keys, work.Columns)...)
	case *Application:
		p.needOfFunctions(s, work)
	case *Relation:
		return p.needOfQuery(ctx, s, work)
	default: // a sink, or a table that a function gets whole
		for i := range s.Inputs {
			p.wantAll(s, i)
		}
	}
	return nil
}

// needOfFunctions also drops the calls whose results nobody uses.
func (p *pruning) needOfFunctions(s *Stage, a *Application) {
	needed := p.needed[s.ID]
	if a.drops() {
		p.wantAll(s, 0) // a row that is kept aside is kept whole
		for i := range a.Calls {
			if a.AddsColumns() { // which rows there are depends on it
				needed[len(a.Kept)+i] = true
			}
		}
		return
	}
	for i, c := range a.Kept {
		if needed[i] {
			p.want(s, 0, c)
		}
	}
	if !a.AddsColumns() {
		p.want(s, 0, a.Columns...)
		return
	}
	for i, call := range a.Calls {
		if !needed[len(a.Kept)+i] {
			continue
		}
		for _, arg := range call.Args {
			p.want(s, 0, a.Columns[arg])
		}
	}
}

// drops reports whether rows on which the functions fail are left out.
func (a *Application) drops() bool {
	return a.Calls[0].Function.Options.OnError == OnErrorDeadLetter
}

// needOfQuery makes a group give only what is needed of it, and asks what it
// then reads.
func (p *pruning) needOfQuery(ctx context.Context, s *Stage, group *Relation) error {
	if group.Rowwise || !slices.ContainsFunc(s.Inputs, func(id string) bool { return p.prunable[id] }) {
		for i := range s.Inputs {
			p.wantAll(s, i)
		}
		for c := range p.needed[s.ID] { // it stays as it is
			p.needed[s.ID][c] = true
		}
		return nil
	}
	if columns := p.neededOf(s); len(columns) < s.Schema.NumFields() {
		chosen := Project{}
		for _, c := range columns {
			name := s.Schema.Field(c).Name
			chosen.Exprs = append(chosen.Exprs, NamedExpr{name, Column(name)})
		}
		last := group.Nodes[len(group.Nodes)-1]
		group.Nodes = append(slices.Clone(group.Nodes), Node{ID: last.ID + ".needed", Inputs: []string{last.ID}, Origin: last.Origin, Op: chosen})
	}
	used, err := p.pruner.Uses(ctx, group)
	if err != nil {
		return located(err, group.Nodes[len(group.Nodes)-1])
	}
	for i, columns := range used {
		p.want(s, i, columns...)
	}
	return nil
}

// rewrite makes s read what its inputs have become, and give what is needed.
func (p *pruning) rewrite(ctx context.Context, s *Stage) error {
	var in []int
	if len(s.Inputs) > 0 {
		in = p.places[s.Inputs[0]]
	}
	move := func(columns []int) []int {
		moved := make([]int, len(columns))
		for i, c := range columns {
			moved[i] = in[c]
		}
		return moved
	}
	switch work := s.Work.(type) {
	case FileScan:
		return p.rewriteScan(ctx, s, work)
	case *Arrangement:
		kept := p.choose(s)
		columns := make([]int, len(kept))
		for i, c := range kept {
			columns[i] = in[work.Columns[c]]
		}
		s.Work = &Arrangement{columns}
		return nil
	case *Limiting, AtLeastOne:
		p.passOn(s)
		return nil
	case *Watermarking:
		moved := *work
		moved.Column = in[work.Column]
		s.Work = &moved
		p.passOn(s)
		return nil
	case *Windowing:
		moved := *work
		moved.Time, moved.Keys, moved.Aggregates = in[work.Time], moveColumns(work.Keys, in), moveColumns(work.Aggregates, in)
		s.Work = &moved
	case *Grouping:
		moved := *work
		moved.Keys, moved.Columns = move(work.Keys), move(work.Columns)
		s.Work = &moved
	case *Application:
		p.rewriteFunctions(s, work, in)
		return nil
	case *Relation:
		for i := range work.Inputs {
			work.Inputs[i].Columns = present(p.places[work.Inputs[i].Node])
		}
		if !work.Rowwise {
			p.choose(s)
			return nil
		}
	}
	p.places[s.ID] = everything(s.Schema.NumFields())
	return nil
}

func everything(n int) []int {
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	return places
}

func moveColumns(columns []WindowColumn, places []int) []WindowColumn {
	moved := slices.Clone(columns)
	for i, c := range moved {
		if c.Column >= 0 {
			moved[i].Column = places[c.Column]
		}
	}
	return moved
}

// present gives the columns that are there, by their old places; nil is all.
func present(places []int) []int {
	columns := make([]int, 0, len(places))
	for old, place := range places {
		if place >= 0 {
			columns = append(columns, old)
		}
	}
	if len(columns) == len(places) {
		return nil
	}
	return columns
}

// choose leaves to s the columns that are needed, and gives their old places.
func (p *pruning) choose(s *Stage) []int {
	kept := p.neededOf(s)
	p.keep(s, kept)
	fields := make([]arrow.Field, len(kept))
	for i, c := range kept {
		fields[i] = s.Schema.Field(c)
	}
	if len(kept) < s.Schema.NumFields() {
		s.Schema = arrow.NewSchema(fields, nil)
	}
	return kept
}

// keep notes which columns of s are there from now on.
func (p *pruning) keep(s *Stage, kept []int) {
	places := make([]int, s.Schema.NumFields())
	for c := range places {
		places[c] = slices.Index(kept, c)
	}
	p.places[s.ID] = places
}

// passOn is for stages whose columns are those of their input.
func (p *pruning) passOn(s *Stage) {
	p.places[s.ID], s.Schema = p.places[s.Inputs[0]], p.stages[s.Inputs[0]].Schema
}

// rewriteScan makes a scan read the columns that are needed, or one, since
// there must be rows to count.
func (p *pruning) rewriteScan(ctx context.Context, s *Stage, scan FileScan) error {
	used := p.neededOf(s)
	if len(used) == 0 && s.Schema.NumFields() > 0 {
		used = []int{narrowest(s.Schema)}
	}
	all := s.Schema.NumFields()
	names := make([]string, len(used))
	for i, c := range used {
		names[i] = s.Schema.Field(c).Name
	}
	twins := slices.ContainsFunc(names, func(name string) bool { return len(s.Schema.FieldIndices(name)) > 1 })
	if len(used) == all || twins {
		p.places[s.ID] = everything(all)
		return nil
	}
	narrowed := scan.WithColumns(names)
	schema, err := p.pruner.ScanSchema(ctx, narrowed)
	if err != nil {
		return located(err, Node{Origin: s.Origin, Op: scan})
	}
	p.keep(s, used)
	s.Work, s.Schema = narrowed, schema
	s.Detail = fmt.Sprintf("%d of %d columns: %s", len(used), all, strings.Join(names, ", "))
	return nil
}

// narrowest is a column that costs little to read.
func narrowest(schema *arrow.Schema) int {
	best, bestBits := 0, 0
	for c, f := range schema.Fields() {
		if t, ok := f.Type.(arrow.FixedWidthDataType); ok && (bestBits == 0 || t.BitWidth() < bestBits) {
			best, bestBits = c, t.BitWidth()
		}
	}
	return best
}

func (p *pruning) rewriteFunctions(s *Stage, a *Application, in []int) {
	moved := *a
	moved.Kept = nil
	if a.Kept != nil {
		moved.Kept = []int{}
	}
	needed := p.needed[s.ID]
	for i, c := range a.Kept {
		if needed[i] {
			moved.Kept = append(moved.Kept, in[c])
		}
	}
	if !a.AddsColumns() {
		moved.Columns = make([]int, len(a.Columns))
		for i, c := range a.Columns {
			moved.Columns[i] = in[c]
		}
		for i := len(a.Kept); i < len(needed); i++ {
			needed[i] = true // the function gives them whether or not they are used
		}
		s.Work = &moved
		p.choose(s)
		return
	}
	cross := crossing{from: p.stages[s.Inputs[0]].Schema}
	var results []arrow.Field
	moved.Calls = nil
	for i, call := range a.Calls {
		if !needed[len(a.Kept)+i] {
			continue
		}
		args := make([]int, len(call.Args))
		for j, arg := range call.Args {
			args[j] = cross.place(in[a.Columns[arg]])
		}
		call.Args = args
		moved.Calls = append(moved.Calls, call)
		results = append(results, a.Result.Field(i))
	}
	p.choose(s)
	if len(moved.Calls) == 0 {
		s.Name, s.Work = a.Calls[0].Operator, &Arrangement{moved.Kept}
		return
	}
	moved.complete(cross, results)
	s.Name, s.Work = applicationName(&moved), &moved
}
