package exec

import (
	"math"
	"sync"
	"time"
)

// Meter counts what the workers of a stage of functions do. Its methods may be
// called from several goroutines, and on nil, which counts nothing.
type Meter struct {
	mu       sync.Mutex
	work     Work
	bundles  int64
	restarts int64
	started  int64
	failed   int64
	queued   time.Duration
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

// Work is what workers have done for a stage, and where their time has gone.
type Work struct {
	// Busy is from the request of a bundle, or the end of the one before it, to
	// its answer, without what its input was waited for; Load is the part of it
	// in which functions were loaded, or the
	// worker itself was starting.
	Busy, Load time.Duration
	// Functions are the stage's, each once, in the order of its calls.
	Functions []FunctionTime
	// Imports are the parts of Load in which modules were imported, by package.
	Imports map[string]time.Duration
	// Batches and their bytes on the way to workers, and the bytes back.
	Batches, BytesTo, BytesFrom int64
}

// FunctionTime is how long a function has run, and how long its values were
// converted from Arrow and back.
type FunctionTime struct {
	Name               string
	Python, Conversion time.Duration
}

// add adds what another bundle took.
func (w *Work) add(o Work) {
	w.Busy, w.Load = w.Busy+o.Busy, w.Load+o.Load
	w.Batches, w.BytesTo, w.BytesFrom = w.Batches+o.Batches, w.BytesTo+o.BytesTo, w.BytesFrom+o.BytesFrom
	if w.Functions == nil && o.Functions != nil {
		w.Functions = make([]FunctionTime, len(o.Functions))
	}
	for i, f := range o.Functions {
		w.Functions[i].Name = f.Name
		w.Functions[i].Python += f.Python
		w.Functions[i].Conversion += f.Conversion
	}
	for name, took := range o.Imports {
		if w.Imports == nil {
			w.Imports = map[string]time.Duration{}
		}
		w.Imports[name] += took
	}
}

// Bundle counts a bundle that a worker has run.
func (m *Meter) Bundle(w Work) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bundles++
	m.work.add(w)
}

// Queued adds to the time that input waited for workers.
func (m *Meter) Queued(d time.Duration) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queued += d
}

// Started counts a worker that nobody has used before the stage.
func (m *Meter) Started() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started++
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
	p.Bundles, p.Restarts, p.FailedRows = m.bundles, m.restarts, m.failed
	m.tellWork(p)
	p.MemoryBytes, p.Workers = m.lookLocked(), len(m.held)
	if p.State == "done" {
		p.MemoryBytes, p.Workers = m.memoryBytesMax, m.workersMax
	}
}

// tellWork fills in where the time has gone. What is neither the functions' nor
// the conversion of their values was spent on the way.
func (m *Meter) tellWork(p *Progress) {
	w := m.work
	p.TimeS, p.QueueS, p.LoadS = w.Busy.Seconds(), m.queued.Seconds(), w.Load.Seconds()
	p.Batches, p.BytesToWorkers, p.BytesFromWorkers, p.WorkersStarted = w.Batches, w.BytesTo, w.BytesFrom, m.started
	way := w.Busy - w.Load
	for _, f := range w.Functions {
		way -= f.Python + f.Conversion
		p.PythonS += f.Python.Seconds()
		p.ConversionS += f.Conversion.Seconds()
		p.Functions = append(p.Functions, FunctionProgress{f.Name, f.Python.Seconds(), f.Conversion.Seconds()})
	}
	p.TransferS = max(0, way).Seconds()
	for name, took := range w.Imports {
		if p.Imports == nil {
			p.Imports = map[string]float64{}
		}
		p.Imports[name] = took.Seconds()
	}
}
