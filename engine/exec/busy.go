package exec

import "time"

// clock measures how long a subtask works: all the time but for what it waits
// for input, for room for its output, or for the time to come. One goroutine
// uses it; nil measures nothing.
type clock struct {
	stats *Stats
	since time.Time
	// resting counts what it waits for: one may lie within another.
	resting int
}

func (c *clock) start() {
	if c != nil {
		c.since = time.Now()
	}
}

// rest stops the clock until work is called.
func (c *clock) rest() {
	if c == nil {
		return
	}
	if c.resting++; c.resting == 1 {
		c.stats.busy.Add(int64(time.Since(c.since)))
	}
}

func (c *clock) work() {
	if c == nil {
		return
	}
	if c.resting--; c.resting == 0 {
		c.since = time.Now()
	}
}

// OwnTime is an Operator that works elsewhere than in the goroutine that runs
// it, and so counts its busy time itself: by Output.Worked, or a Meter.
type OwnTime interface {
	Operator
	OwnTime()
}

// Worked adds to the busy time of the operator's vertex.
func (out *Output) Worked(d time.Duration) { out.stats.busy.Add(int64(d)) }

// Rest says that the operator waits until the returned function is called.
func (out *Output) Rest() (work func()) {
	out.clock.rest()
	return out.clock.work
}
