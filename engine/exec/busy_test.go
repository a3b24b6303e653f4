package exec

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// timedByItself is an operator that counts its time itself.
type timedByItself struct{ operatorFunc }

func (timedByItself) OwnTime() {}

// TestTimeIsWhatAnOperatorWorks: what it waits for is not counted.
func TestTimeIsWhatAnOperatorWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alloc := allocator(t)
		pass := func(work, rest time.Duration) operatorFunc {
			return func(ctx context.Context, in []*Input, out *Output) error {
				for {
					e, err := in[0].Next(ctx)
					if err != nil || e.Kind == KindEnd {
						return err
					}
					if e.Kind == KindBatch {
						time.Sleep(work)
						awake := out.Rest()
						time.Sleep(rest)
						awake()
					}
					if err := out.Emit(ctx, e); err != nil {
						return err
					}
				}
			}
		}
		const batches = 4
		g := graphOf(t, Options{QueueBytes: 1}, // each waits for the one below
			&Vertex{ID: "source", New: only(source(alloc, batches, 10))},
			&Vertex{ID: "slow", New: only(pass(3*time.Second, time.Minute)), Inputs: []string{"source"}},
			&Vertex{ID: "two", Parallelism: 2, New: func(int) Operator { return pass(5*time.Second, 0) }, Inputs: []string{"slow"}},
			&Vertex{ID: "own", New: only(timedByItself{func(ctx context.Context, in []*Input, out *Output) error {
				out.Worked(time.Hour)
				return pass(time.Second, 0)(ctx, in, out)
			}}), Inputs: []string{"two"}},
			&Vertex{ID: "sink", New: only(pass(2*time.Second, 0)), Inputs: []string{"own"}},
		)
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := map[string]float64{"source": 0, "slow": 3 * batches, "two": 5 * batches, "own": 3600, "sink": 2 * batches}
		for _, p := range g.Progress() {
			if p.TimeS != want[p.ID] {
				t.Errorf("%s worked for %v s instead of %v", p.ID, p.TimeS, want[p.ID])
			}
		}
	})
}

// TestPartsOfTimeAddUp: what nobody claims was spent on the way.
func TestPartsOfTimeAddUp(t *testing.T) {
	m := &Meter{}
	work := func() Work {
		return Work{
			Busy: 10 * time.Second, Load: time.Second, Batches: 2, BytesTo: 30, BytesFrom: 20,
			Functions: []FunctionTime{{"f", 2 * time.Second, time.Second}, {"g", 3 * time.Second, 0}},
			Imports:   map[string]time.Duration{"numpy": time.Second},
		}
	}
	m.Bundle(work())
	m.Bundle(work())
	m.Bundle(Work{Busy: time.Second}) // its worker told nothing
	m.Queued(4 * time.Second)
	m.Started()
	got := Progress{State: "running"}
	m.tell(&got)
	want := Progress{
		State: "running", TimeS: 21, LoadS: 2, PythonS: 10, ConversionS: 2, TransferS: 7, QueueS: 4,
		Functions: []FunctionProgress{{"f", 4, 2}, {"g", 6, 0}}, Imports: map[string]float64{"numpy": 2},
		Bundles: 3, Batches: 4, BytesToWorkers: 60, BytesFromWorkers: 40, WorkersStarted: 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestAMeterTellsWhatIsAndWhatWas(t *testing.T) {
	m := &Meter{}
	memory := func(bytes int64) func() int64 { return func() int64 { return bytes } }
	first, second := m.Hold(memory(100)), m.Hold(memory(50))
	m.Bundle(Work{Busy: 2 * time.Second})
	m.Bundle(Work{Busy: time.Second})
	m.Restart()
	running := Progress{State: "running"}
	want := Progress{State: "running", TimeS: 3, TransferS: 3, MemoryBytes: 150, Workers: 2, Bundles: 2, Restarts: 1}
	if m.tell(&running); !reflect.DeepEqual(running, want) {
		t.Errorf("running: %+v", running)
	}
	first()
	if m.tell(&running); running.MemoryBytes != 50 || running.Workers != 1 {
		t.Errorf("with one worker left: %+v", running)
	}
	second()
	if m.tell(&running); running.MemoryBytes != 0 || running.Workers != 0 {
		t.Errorf("with none left: %+v", running)
	}
	done := Progress{State: "done"}
	if m.tell(&done); done.MemoryBytes != 150 || done.Workers != 2 {
		t.Errorf("done: %+v", done)
	}
	var none *Meter
	none.Bundle(Work{Busy: time.Second})
	none.Restart()
	none.Hold(memory(1))()
	if none.tell(&running); running.TimeS != 3 {
		t.Error("a vertex without a meter lost its own time")
	}
}
