package fnapi

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// TestWhatAWorkerSaysOfItsTime: sound or not, it does no harm.
func TestWhatAWorkerSaysOfItsTime(t *testing.T) {
	call := func(name string) exec.FunctionCall {
		return exec.FunctionCall{Function: &plan.Function{Name: name}}
	}
	stage := &exec.FunctionStage{Calls: []exec.FunctionCall{call("f"), call("g"), call("f")}}
	spent := func(values ...int64) (b []byte) {
		for _, v := range values {
			b = binary.NativeEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	f := func(name string, python, conversion time.Duration) exec.FunctionTime {
		return exec.FunctionTime{Name: name, Python: python, Conversion: conversion}
	}
	for _, c := range []struct {
		spent   []byte
		imports string
		want    exec.Work
	}{
		{spent(1, 2, 3, 4, 5), `{"numpy": 6}`, exec.Work{
			Load: 1, Functions: []exec.FunctionTime{f("f", 2, 3), f("g", 4, 5)}, Imports: map[string]time.Duration{"numpy": 6},
		}},
		{spent(-1, -2, 1<<62, 0, 0), `{"numpy": -6}`, exec.Work{Functions: []exec.FunctionTime{f("f", 0, spentMax), f("g", 0, 0)}}},
		{spent(1, 2, 3), `{"numpy": 6}`, exec.Work{}},
		{nil, "", exec.Work{}},
		{spent(0, 0, 0, 0, 0), `{"` + strings.Repeat("x", importNameMax+1) + `": 6}`, exec.Work{Functions: []exec.FunctionTime{f("f", 0, 0), f("g", 0, 0)}}},
		{spent(0, 0, 0, 0, 0), `no JSON`, exec.Work{Functions: []exec.FunctionTime{f("f", 0, 0), f("g", 0, 0)}}},
	} {
		got := readSpent(functionsOf(stage.Calls), map[string][]byte{spentKey: c.spent, importsKey: []byte(c.imports)})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v %s: %+v", c.spent, c.imports, got)
		}
	}
}

// TestWorkAddsUp: a worker that says more than there was time for is believed of
// its functions, not of its start.
func TestWorkAddsUp(t *testing.T) {
	told := exec.Work{Load: 5, Functions: []exec.FunctionTime{{Name: "f", Python: 3, Conversion: 1}}}
	for busy, want := range map[time.Duration][2]time.Duration{20: {20, 5}, 9: {9, 5}, 6: {6, 2}, 4: {4, 0}, 1: {4, 0}} {
		b := &bundle{}
		b.spent = told
		if w := b.workLocked(busy); w.Busy != want[0] || w.Load != want[1] {
			t.Errorf("of %d: busy %d, load %d", busy, w.Busy, w.Load)
		}
	}
}
