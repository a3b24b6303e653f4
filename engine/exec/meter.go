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
	cost    cost
	// inFlight are the bundles that have been handed over and not answered;
	// whenIdle is called when there are none left.
	inFlight int
	whenIdle func()
}

// bundleTime is how long a bundle should keep its worker: long enough for what
// comes with each bundle not to matter, and so short that progress, a retry, a
// stage that waits for the worker, and one that waits for these rows, need not
// wait for long.
const bundleTime = 50 * time.Millisecond

// cost is what bundles have taken: a line through their rows and times, of which
// those of long ago weigh less and less.
type cost struct {
	weight, rows, seconds, rowsSquared, rowsSeconds float64
}

const (
	// costKept is what a bundle weighs beside the one behind it.
	costKept = 0.8
	// costSpread is how far the numbers of rows must lie apart, as a share of
	// their mean, to tell what a call costs from what its rows do.
	costSpread = 0.1
	// costOfCall is how many times as long the rows of a bundle take as the call
	// itself, at least: smaller bundles would be no help.
	costOfCall = 4
)

func (c *cost) add(rows int64, busy time.Duration) {
	for _, sum := range []*float64{&c.weight, &c.rows, &c.seconds, &c.rowsSquared, &c.rowsSeconds} {
		*sum *= costKept
	}
	n, t := float64(rows), busy.Seconds()
	c.weight++
	c.rows += n
	c.seconds += t
	c.rowsSquared += n * n
	c.rowsSeconds += n * t
}

// rowsMax is how many rows take bundleTime.
func (c *cost) rowsMax() int64 {
	if c.rows == 0 || c.seconds == 0 {
		return math.MaxInt64
	}
	rows, seconds := c.rows/c.weight, c.seconds/c.weight
	perRow, perCall := seconds/rows, 0.0
	if spread := c.rowsSquared/c.weight - rows*rows; spread > costSpread*costSpread*rows*rows {
		slope := (c.rowsSeconds/c.weight - rows*seconds) / spread
		if slope <= 0 {
			return math.MaxInt64 // rows cost nothing that can be told
		}
		if slope < perRow {
			perRow, perCall = slope, seconds-slope*rows
		}
	}
	most := max(bundleTime.Seconds()-perCall, costOfCall*perCall) / perRow
	if most >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(1, int64(most))
}

// Took says that a worker was at a bundle of so many rows for so long.
func (m *Meter) Took(rows int64, busy time.Duration) {
	if m == nil || rows == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cost.add(rows, busy)
}

// Submitted counts a bundle that was handed over, until Answered.
func (m *Meter) Submitted() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight++
}

// Answered counts a bundle whose answer is there, or is not waited for.
func (m *Meter) Answered() {
	if m == nil {
		return
	}
	m.mu.Lock()
	var tell func()
	if m.inFlight--; m.inFlight == 0 {
		tell, m.whenIdle = m.whenIdle, nil
	}
	m.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// Idle reports whether no bundle is in flight.
func (m *Meter) Idle() bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inFlight == 0
}

// WhenIdle has f called once when no bundle is in flight, at once if none is.
// There is one such function; it must not block.
func (m *Meter) WhenIdle(f func()) {
	if m != nil {
		m.mu.Lock()
		if m.inFlight > 0 {
			m.whenIdle = f
			f = nil
		}
		m.mu.Unlock()
	}
	if f != nil {
		f()
	}
}

// Measured reports whether a bundle has told what rows cost.
func (m *Meter) Measured() bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cost.weight > 0
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

// RowsMax is the most rows that a bundle should have, so that it takes about
// bundleTime and its worker stays within its limit of memory. Functions that are
// called for each callRows rows (0: they are not) get a multiple of these where
// only time matters.
func (m *Meter) RowsMax(callRows int64) int64 {
	if m == nil {
		return math.MaxInt64
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.cost.rowsMax()
	if callRows > 0 && most < math.MaxInt64-callRows {
		most = (most + callRows - 1) / callRows * callRows
	}
	if m.rowsMax > 0 {
		most = min(most, m.rowsMax)
	}
	return most
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
