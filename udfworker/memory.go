package udfworker

import "time"

// Times of the memory watch. A worker can take some 2 GB/s, so at half of its
// limit it is looked at often; a worker beyond its limit is caught within
// watchFast.
const (
	watchFast = 25 * time.Millisecond
	watchSlow = 100 * time.Millisecond
	// treePause is how often a worker's processes are listed, which costs more
	// than looking at them.
	treePause = 200 * time.Millisecond
	// exactPause is how often a worker is measured exactly whose processes
	// share memory, so that their sum says little.
	exactPause = 250 * time.Millisecond
	// tellPause is how often the engine is told at most what a worker holds,
	// and tellShare the part by which that has to have changed.
	tellPause = watchSlow
	tellShare = 16
	// kernelTime is how long ago the kernel may have killed something for it
	// to be the death that was just seen.
	kernelTime = 2 * time.Second
)

// processes tells of the memory of processes; a process that is gone holds
// nothing.
type processes interface {
	// tree lists a process and all below it.
	tree(pid int) []int
	// born changes whenever a process is made on this machine.
	born() string
	// resident is the memory of a process that is in the machine's, shared
	// memory and files included. It is cheap, and never less than held but for
	// what is swapped out.
	resident(pid int) int64
	// held is what the process itself made the machine hold: shared memory by
	// its share, without files, which the kernel can drop.
	held(pid int) int64
}

// memoryWatch compares what a worker's processes hold with its limit.
type memoryWatch struct {
	limitBytes int64
	system     processes

	pids     []int
	listedAt time.Time
	born     string
	// peakBytes is the most that was seen, by the exact measure where that was
	// taken.
	peakBytes int64
	// heldBytes is the last exact measure, residentBytes the sum that went
	// with it.
	heldBytes, residentBytes int64
	exactAt                  time.Time
	// nowBytes is what was seen last; toldBytes what the engine was told at
	// toldAt.
	nowBytes, toldBytes int64
	toldAt              time.Time
}

// news gives what the engine is to be told of a worker's memory, if anything.
func (m *memoryWatch) news(now time.Time) (bytes int64, tell bool) {
	if now.Sub(m.toldAt) < tellPause || max(m.nowBytes-m.toldBytes, m.toldBytes-m.nowBytes) <= m.toldBytes/tellShare {
		return 0, false
	}
	m.toldBytes, m.toldAt = m.nowBytes, now
	return m.nowBytes, true
}

// look measures worker pid at a time. It says whether the limit is passed, and
// how soon it should be called again.
func (m *memoryWatch) look(now time.Time, pid int) (exceeded bool, pause time.Duration) {
	if now.Sub(m.listedAt) >= treePause {
		if born := m.system.born(); m.pids == nil || born == "" || born != m.born {
			m.pids, m.born = m.system.tree(pid), born
		}
		m.listedAt = now
	}
	resident := m.sum(m.system.resident)
	m.nowBytes = resident
	if resident <= m.limitBytes {
		m.peakBytes = max(m.peakBytes, resident)
		if resident > m.limitBytes/2 {
			return false, watchFast
		}
		return false, watchSlow
	}
	// The sum counts files, and shared memory once for each process. The exact
	// figure is read again when it may have passed the limit: it grows with
	// the sum, or slowly where processes part with what they shared.
	if !m.exactAt.IsZero() && now.Sub(m.exactAt) < exactPause && resident-m.residentBytes <= m.limitBytes-m.heldBytes {
		m.nowBytes = m.heldBytes
		return false, watchFast
	}
	m.heldBytes, m.residentBytes, m.exactAt = m.sum(m.system.held), resident, now
	m.peakBytes, m.nowBytes = max(m.peakBytes, m.heldBytes), m.heldBytes
	return m.heldBytes > m.limitBytes, watchFast
}

func (m *memoryWatch) sum(of func(int) int64) (n int64) {
	for _, pid := range m.pids {
		n += of(pid)
	}
	return n
}

// oomCounter notices when the kernel kills for want of memory.
type oomCounter struct {
	// read gives the number of kills so far; it is the supervisor's control
	// group's, or the machine's.
	read  func() (int64, bool)
	count int64
	at    time.Time
}

func newOOMCounter(read func() (int64, bool)) *oomCounter {
	c := &oomCounter{read: read}
	c.count, _ = read()
	return c
}

// recent reports whether the kernel has killed something just now.
func (c *oomCounter) recent(now time.Time) bool {
	if n, ok := c.read(); ok && n > c.count {
		c.count, c.at = n, now
	}
	return !c.at.IsZero() && now.Sub(c.at) < kernelTime
}
