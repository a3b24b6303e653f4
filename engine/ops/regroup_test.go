package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestRegroupAgainstTheObvious brings rows to their groups, several times with
// one Regroup: the rows of each key stay in their order, stand together, and a
// run stands for each key of a batch.
func TestRegroupAgainstTheObvious(t *testing.T) {
	cut := false
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 2))
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		columns := [][]int{{1, 0, 2}, {2, 0}, {3, 0}, {1, 2, 3, 0}, {3, 1, 0, 0}, {2, 1, 0}}[seed%6]
		keys := []int{1, 1, 1, 3, 2, 1}[seed%6]
		var regroup *Regroup
		for range 3 {
			schema, batches := collateCase(random, alloc, 1+random.IntN(200), 1+random.IntN(40), false)
			if regroup == nil {
				fields := make([]arrow.Field, len(columns))
				for i, c := range columns {
					fields[i] = schema.Field(c)
				}
				regroup = NewRegroup(arrow.NewSchema(fields, nil), columns, keys, 64+random.Int64N(4000), alloc)
			}
			regrouped, err := regroup.Join(t.Context(), batches)
			if err != nil {
				t.Fatal(err)
			}
			cut = cut || len(regrouped) > 1
			want, ids := idsOf(batches, columns[:keys], 0)
			at := slices.Index(columns, 0)
			got, order := idsOf(regrouped, []int{0, 1, 2}[:keys], at)
			if fmt.Sprint(got) != fmt.Sprint(want) || len(order) != len(ids) {
				t.Fatalf("seed %d: %v\nnot %v", seed, got, want)
			}
			checkRuns(t, regrouped, keys, len(want))
			releaseAll(batches)
			releaseAll(regrouped)
		}
		alloc.AssertSize(t, 0)
	}
	if !cut {
		t.Error("all rows were in one batch")
	}
}

// idsOf gives the values of a column by the keys of their rows, and all of them.
func idsOf(batches []arrow.RecordBatch, keys []int, id int) (ids map[string][]int64, all []int64) {
	ids = map[string][]int64{}
	for _, batch := range batches {
		for row, value := range batch.Column(id).(*array.Int64).Int64Values() {
			key := keyText(batch, keys, row)
			ids[key] = append(ids[key], value)
			all = append(all, value)
		}
	}
	return ids, all
}

func keyText(batch arrow.RecordBatch, keys []int, row int) (text string) {
	for _, k := range keys {
		column, at := batch.Column(k), row
		if runs, ok := column.(*array.RunEndEncoded); ok {
			column, at = runs.Values(), runs.GetPhysicalIndex(row)
		}
		if f, ok := column.(*array.Float64); ok && f.IsValid(at) && f.Value(at) == 0 {
			text += "0, " // of either sign
			continue
		}
		text += column.ValueStr(at) + ", "
	}
	return text
}

// startOf is the row at which a run begins.
func startOf(runs *array.RunEndEncoded, run int) int {
	if run == 0 {
		return 0
	}
	return int(runs.RunEndsArr().(*array.Int32).Value(run - 1))
}

// checkRuns checks that there is one run for each key of a batch, and that the
// groups of all batches are so many, of which one may go on in the next.
func checkRuns(t *testing.T, batches []arrow.RecordBatch, keys, groups int) {
	t.Helper()
	texts, last := []string{}, ""
	for _, batch := range batches {
		var seen []string
		for i := range keys {
			runs := batch.Column(i).(*array.RunEndEncoded)
			ends := runs.RunEndsArr().(*array.Int32).Int32Values()
			if int64(ends[len(ends)-1]) != batch.NumRows() || !slices.IsSorted(ends) || len(slices.Compact(slices.Clone(ends))) != len(ends) {
				t.Fatalf("the runs of %d rows end at %v", batch.NumRows(), ends)
			}
		}
		first := batch.Column(0).(*array.RunEndEncoded)
		for run := range first.RunEndsArr().Len() {
			all := []int{0, 1, 2}[:keys]
			seen = append(seen, keyText(batch, all, startOf(first, run)))
		}
		for i, text := range seen {
			if i > 0 || text != last {
				texts = append(texts, text)
			}
		}
		last = seen[len(seen)-1]
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(texts)))
	if len(texts) != groups || len(distinct) != groups {
		t.Fatalf("%d groups, of %d keys, where %d are", len(texts), len(distinct), groups)
	}
}

func TestRegroupOfNoRows(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	empty := numbers(alloc, oneColumn)
	defer empty.Release()
	regroup := NewRegroup(oneColumn, []int{0}, 1, 1<<20, alloc)
	if regrouped, err := regroup.Join(t.Context(), []arrow.RecordBatch{empty}); err != nil || len(regrouped) != 0 {
		t.Errorf("no rows give %d batches, %v", len(regrouped), err)
	}
}

func TestNoRegroup(t *testing.T) {
	lists := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8)}}, nil)
	if NewRegroup(oneColumn, []int{0}, 0, 1, nil) != nil || NewRegroup(lists, []int{0}, 1, 1, nil) != nil {
		t.Error("rows can be brought to groups without keys, or by lists")
	}
}
