package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
)

// A function that prints too much is cut by itself, and what was left out is
// told once a period and at the end.
func TestOutputIsBoundedForEachFunction(t *testing.T) {
	var got []string
	now := time.Unix(0, 0)
	o := newOutput(func(line exec.LogLine) { got = append(got, line.Function+" "+line.Level+" "+line.Text) })
	o.now = func() time.Time { return now }
	lines := func(function string, n, size int) {
		for i := range n {
			text := fmt.Sprint(i)
			o.add(exec.LogLine{Function: function, Level: "print", Text: text + strings.Repeat(".", max(0, size-len(text)))})
		}
	}
	lines("noisy", outputLinesMax+5, 0)
	lines("wide", 3, outputBytesMax/2)
	lines("quiet", 1, 0)
	if len(got) != outputLinesMax+2+1 || got[len(got)-1] != "quiet print 0" {
		t.Fatalf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	got = nil
	now = now.Add(outputPeriod + time.Second)
	lines("noisy", 1, 0)
	want := []string{
		"noisy WARNING 5 more lines (0.0 MiB) were left out: a function may print 1000 lines and 1 MiB a minute",
		"noisy print 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	got = nil
	o.end()
	want = []string{"wide WARNING 1 more lines (0.5 MiB) were left out: a function may print 1000 lines and 1 MiB a minute"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
