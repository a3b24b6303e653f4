package exec

import "sync/atomic"

// Allowance is memory that several spools keep together.
type Allowance struct{ free atomic.Int64 }

// NewAllowance gives one of a number of bytes.
func NewAllowance(bytes int64) *Allowance {
	a := &Allowance{}
	a.free.Store(bytes)
	return a
}

// take takes bytes if they are there.
func (a *Allowance) take(bytes int64) bool {
	for {
		free := a.free.Load()
		if bytes > free {
			return false
		}
		if a.free.CompareAndSwap(free, free-bytes) {
			return true
		}
	}
}

func (a *Allowance) give(bytes int64) { a.free.Add(bytes) }

// Free is what is left.
func (a *Allowance) Free() int64 { return a.free.Load() }
