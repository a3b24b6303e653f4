package exec

import (
	"math"
	"sync"
	"time"
)

// Meter counts what the workers of a stage of functions do. Its methods may be
// called from several goroutines, and on nil, which counts nothing.
type Meter struct {
	mu                sync.Mutex
	busy              time.Duration
	bundles, restarts int64
	failed            int64
	// held are the workers that the stage uses, each as what tells its memory.
	held           map[*int]func() int64
	workersMax     int
	memoryBytesMax int64
	// rowsMax bounds the rows of the bundles to come; 0 is no bound.
	rowsMax int64
}

// Crowded says that a worker came near its limit of memory while it ran a
// bundle of so many rows: those to come have half as many at most.
func (m *Meter) Crowded(rows int64) {
	if m == nil || rows < 2 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rowsMax == 0 || rows/2 < m.rowsMax {
		m.rowsMax = rows / 2
	}
}

// RowsMax is the most rows that a bundle should have.
func (m *Meter) RowsMax() int64 {
	if m == nil {
		return math.MaxInt64
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rowsMax == 0 {
		return math.MaxInt64
	}
	return m.rowsMax
}

// Bundle counts a bundle that a worker has run, and how long that took.
func (m *Meter) Bundle(busy time.Duration) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bundles++
	m.busy += busy
}

// Restart counts a worker that died at work and is replaced.
func (m *Meter) Restart() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restarts++
}

// Failed counts rows on which the function has failed.
func (m *Meter) Failed(rows int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed += int64(rows)
}

// Hold counts a worker of the stage until release is called; memory tells what
// it holds.
func (m *Meter) Hold(memory func() int64) (release func()) {
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		m.held = map[*int]func() int64{}
	}
	key := new(int)
	m.held[key] = memory
	m.workersMax = max(m.workersMax, len(m.held))
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lookLocked()
		delete(m.held, key)
	}
}

// lookLocked adds up what the workers hold.
func (m *Meter) lookLocked() (bytes int64) {
	for _, memory := range m.held {
		bytes += memory()
	}
	m.memoryBytesMax = max(m.memoryBytesMax, bytes)
	return bytes
}

// tell fills in what is known of workers: what they are now or, once the stage
// is done, what they were at most.
func (m *Meter) tell(p *Progress) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.TimeS = m.busy.Seconds()
	p.Bundles, p.Restarts, p.FailedRows = m.bundles, m.restarts, m.failed
	p.MemoryBytes, p.Workers = m.lookLocked(), len(m.held)
	if p.State == "done" {
		p.MemoryBytes, p.Workers = m.memoryBytesMax, m.workersMax
	}
}
