package fnapi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// waitFor gives the failure of a bundle, or nil, and fails the test where the
// bundle fails in another way.
func waitFor(t *testing.T, b exec.Bundle, err error) *exec.BundleFailure {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	batches, err := b.Wait(t.Context())
	releaseAll(batches)
	failure, ok := errors.AsType[*exec.BundleFailure](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	return failure
}

func TestABundleFailsByItself(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, onError := range []plan.OnError{plan.OnErrorFail, plan.OnErrorNull} {
		r := newRunner(t, nil)
		stage := newStage(exec.StageColumns, "exit@25 raise@37")
		stage.Narrows, stage.OnError = true, onError
		s := open(t, r, stage)
		var bundles []exec.Bundle
		inputs := []*source{newSource(mem, 0, 10), newSource(mem, 20, 10), newSource(mem, 30, 10)}
		for _, in := range inputs {
			b, err := s.Submit(t.Context(), in, int64(in.first))
			if err != nil {
				t.Fatal(err)
			}
			bundles = append(bundles, b)
		}
		if f := waitFor(t, bundles[0], nil); f != nil {
			t.Errorf("an innocent bundle: %v", f)
		}
		f := waitFor(t, bundles[1], nil)
		// Whoever goes on without the row has it looked for after one more try.
		tries := 1 + stage.Retries
		if onError.Tolerant() {
			tries = 2
		}
		if f == nil || f.Kind != exec.FailedExit || f.Row != -1 || f.Fatal || f.Code != diag.WorkerDied || len(f.Deaths) > tries || len(f.Deaths) < tries-1 {
			t.Errorf("%s: %+v", onError, f)
		}
		if f := waitFor(t, bundles[2], nil); f == nil || f.Kind != exec.FailedException || f.Row != 7 || !f.Sure {
			t.Errorf("%+v", f)
		}
		for first, want := range map[int]exec.FailureKind{20: "", 25: exec.FailedExit, 37: exec.FailedException} {
			before, _ := r.WorkerCounts()
			in := newSource(mem, first, 1)
			b, err := s.Probe(t.Context(), in, int64(first))
			f := waitFor(t, b, err)
			if (f == nil) != (want == "") || f != nil && (f.Kind != want || f.Row != 0 || f.Diagnostic.Row == nil || f.Diagnostic.Row.Index != int64(first)) {
				t.Errorf("row %d: %+v", first, f)
			}
			reads := int32(1)
			if want == exec.FailedExit {
				reads = 2 // once more for what it says of the row
			}
			if n := in.opened.Load(); n != reads {
				t.Errorf("row %d was read %d times", first, n)
			}
			if after, _ := r.WorkerCounts(); after > before+1 {
				t.Errorf("row %d took %d workers", first, after-before)
			}
		}
		runAll(t, s, mem, 2, 10) // the session goes on
		_ = s.Close()
	}
}

func TestOneRowIsNotBlamedForKillsFromOutside(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	marks := []string{filepath.Join(t.TempDir(), "1"), filepath.Join(t.TempDir(), "2"), filepath.Join(t.TempDir(), "3")}
	command := ""
	for _, mark := range marks {
		command += " dieonce@0:" + mark
	}
	stage := newStage(exec.StageColumns, command)
	stage.Narrows, stage.OnError = true, plan.OnErrorNull
	s := open(t, newRunner(t, nil), stage)
	defer s.Close()
	b, err := s.Probe(t.Context(), newSource(mem, 0, 1), 0)
	if f := waitFor(t, b, err); f != nil {
		t.Errorf("after %d kills: %+v", len(marks), f)
	}
	for _, mark := range marks {
		if _, err := os.Stat(mark); err != nil {
			t.Error("a worker was not killed")
		}
	}
}

func TestExceptionsAreRetriedWhereAsked(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, retries := range []int{0, 3} {
		stage := newStage(exec.StageColumns, "raise@5")
		stage.ExceptionRetries = retries
		s := open(t, newRunner(t, nil), stage)
		in := newSource(mem, 0, 10)
		b, err := s.Submit(t.Context(), in, 0)
		if f := waitFor(t, b, err); f == nil || f.Code != diag.FunctionRaised {
			t.Errorf("%+v", f)
		}
		if n := in.opened.Load(); n != int32(1+retries) {
			t.Errorf("with %d retries it was run %d times", retries, n)
		}
		_ = s.Close()
	}
}

func TestNothingIsBegunTwice(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	stage := pythonStage(exec.StageColumns, ySchema, function("f1", "made_up", plan.RowFunction, `
import os
def made_up(x):
    if x == 15:
        os._exit(3)
    return x
`, []int{0}, 0))
	stage.Once, stage.Narrows = true, true
	s := open(t, newPythonRunner(t), stage)
	defer s.Close()
	inputs := []*source{newSource(mem, 0, 10), newSource(mem, 10, 10), newSource(mem, 20, 10)}
	var codes []diag.Code
	var bundles []exec.Bundle
	for _, in := range inputs {
		b, err := s.Submit(t.Context(), in, int64(in.first))
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, b)
	}
	for _, b := range bundles {
		code := diag.Code("")
		if f := waitFor(t, b, nil); f != nil {
			code = f.Code
		}
		codes = append(codes, code)
	}
	if want := []diag.Code{"", diag.NotRunAgain, ""}; !slices.Equal(codes, want) {
		t.Errorf("%q, want %q", codes, want)
	}
	for i, in := range inputs {
		if n := in.opened.Load(); n != 1 {
			t.Errorf("bundle %d was sent %d times", i, n)
		}
	}
}
