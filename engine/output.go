package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
)

// What a function may print and log in each outputPeriod; the rest is counted.
const (
	outputPeriod   = time.Minute
	outputLinesMax = 1_000
	outputBytesMax = 1 << 20
)

// output bounds what the functions of a job print and log, each by itself, so
// that one that prints for every row neither fills the client's terminal nor
// hides what the others say.
type output struct {
	log func(exec.LogLine)
	now func() time.Time

	mu        sync.Mutex
	functions map[string]*printed
}

// printed is what a function has printed in a period.
type printed struct {
	until        time.Time
	lines, bytes int
	// left are those that were left out.
	leftLines, leftBytes int
}

func newOutput(log func(exec.LogLine)) *output {
	return &output{log: log, now: time.Now, functions: map[string]*printed{}}
}

// add passes a line on, unless its function has printed enough for now.
func (o *output) add(line exec.LogLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.functions[line.Function]
	if p == nil {
		p = &printed{}
		o.functions[line.Function] = p
	}
	if now := o.now(); now.After(p.until) {
		o.tell(line.Function, p)
		*p = printed{until: now.Add(outputPeriod)}
	}
	if p.lines >= outputLinesMax || p.bytes+len(line.Text) > outputBytesMax {
		p.leftLines++
		p.leftBytes += len(line.Text)
		return
	}
	p.lines++
	p.bytes += len(line.Text)
	o.log(line)
}

// end tells what was left out last; no line comes after it.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, function := range slices.Sorted(maps.Keys(o.functions)) {
		o.tell(function, o.functions[function])
	}
}

// tell says how much of a function's output was left out; mu is held.
func (o *output) tell(function string, p *printed) {
	if p.leftLines == 0 {
		return
	}
	o.log(exec.LogLine{Function: function, Level: "WARNING", Text: fmt.Sprintf(
		"%d more lines (%.1f MiB) were left out: a function may print %d lines and %d MiB a minute",
		p.leftLines, float64(p.leftBytes)/(1<<20), outputLinesMax, outputBytesMax>>20,
	)})
}
