package udfworker

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alink-runtime/alink/udfworker/cgroup"
)

// Times of the memory watch. A worker can take some 2 GB/s, so near its limit
// it is looked at often; a worker beyond its limit is caught within watchFast.
const (
	watchFast = 10 * time.Millisecond
	watchSlow = 100 * time.Millisecond
	// nearPercent of the limit is near it, and from softPercent on the worker
	// is asked to give back what it does not need, each softPause again.
	nearPercent = 70
	softPercent = 85
	softPause   = 250 * time.Millisecond
	// fillPerSecond is the most that a worker is taken to fill in a second: far
	// from its limit it is looked at before it could be there.
	fillPerSecond = 4 << 30
	// treePause is how often a worker's processes are listed at least. They are
	// also when a process has been made.
	treePause = time.Second
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

// MemoryControl says by what the limits of workers' memory are kept.
type MemoryControl struct {
	// Kind is "cgroup2", "cgroup1", "watch", or "none" where a system does not
	// tell what its processes hold.
	Kind string `json:"kind"`
	// Reason is why there is nothing better, "" where nothing is.
	Reason string `json:"reason,omitempty"`
}

// Kinds of control besides those of package cgroup.
const (
	ControlWatch = "watch"
	ControlNone  = "none"
)

// controlVariable names the only kind of control that is tried before the
// watch. Tests set it.
const controlVariable = "ALINK_MEMORY_CONTROL"

// softVariable, where it is set, leaves the soft level out: the test of it
// shows that it matters.
const softVariable = "ALINK_MEMORY_NO_SOFT_LEVEL"

// openMemoryControl finds the best control, and makes the groups' pool if it
// is a group.
func openMemoryControl() (*cgroup.Control, MemoryControl) {
	kinds := cgroup.Kinds
	if asked := os.Getenv(controlVariable); asked != "" {
		kinds = []cgroup.Kind{cgroup.Kind(asked)}
		if asked == ControlWatch {
			kinds = nil
		}
	}
	groups, refused := cgroup.Open(kinds...)
	var reasons []string
	if len(kinds) < len(cgroup.Kinds) {
		reasons = append(reasons, controlVariable+" is set")
	}
	for _, r := range refused {
		reasons = append(reasons, fmt.Sprintf("%s: %s", r.Kind, r.Why))
	}
	control := MemoryControl{Kind: ControlWatch, Reason: strings.Join(reasons, "; ")}
	if groups != nil {
		control.Kind = string(groups.Kind())
	} else if (procProcesses{}).resident(os.Getpid()) == 0 {
		control.Kind = ControlNone
	}
	return groups, control
}

// ProbeMemoryControl finds by what limits would be kept, and leaves nothing.
func ProbeMemoryControl() MemoryControl {
	groups, control := openMemoryControl()
	if groups != nil {
		groups.Close()
	}
	return control
}

// dataBytes is the backstop behind a watched limit: what one process may ask
// for of private memory. Stacks of threads count, used or not, and libraries
// start threads by the processor.
func dataBytes(limitBytes int64) int64 {
	const stackBytes, threadsPerProcessor, restBytes = 8 << 20, 16, 256 << 20
	return 2*limitBytes + int64(runtime.NumCPU())*threadsPerProcessor*stackBytes + restBytes
}

// processes tells of the memory of processes; a process that is gone holds
// nothing.
type processes interface {
	// tree lists a process and all below it.
	tree(pid int) []int
	// born changes whenever a process is made on this machine.
	born() string
	// resident is what a process holds, without files, which the kernel can
	// drop, and with shared memory whole. It is cheap, and never less than held.
	resident(pid int) int64
	// held is what the process itself made the machine hold: shared memory by
	// its share.
	held(pid int) int64
	// temporary is what files of a process hold in memory: those in temporary
	// file systems that it alone sees.
	temporary(pid int) int64
}

// memoryMeter is the limit of one worker's memory.
type memoryMeter struct {
	limitBytes int64
	// peakBytes is the most that was seen, nowBytes what was seen last.
	peakBytes, nowBytes int64
	// toldBytes is what the engine was told at toldAt.
	toldBytes int64
	toldAt    time.Time
	// softAt is when the worker was asked to give back last.
	softAt time.Time
}

// see takes what the worker holds, and says how soon to look again.
func (m *memoryMeter) see(bytes int64) (pause time.Duration) {
	m.nowBytes, m.peakBytes = bytes, max(m.peakBytes, bytes)
	if bytes > m.limitBytes/100*nearPercent {
		return watchFast
	}
	reached := time.Duration(float64(m.limitBytes-bytes) / fillPerSecond * float64(time.Second))
	return min(max(reached, watchFast), watchSlow)
}

// news gives what the engine is to be told of a worker's memory, if anything.
func (m *memoryMeter) news(now time.Time) (bytes int64, tell bool) {
	if now.Sub(m.toldAt) < tellPause || max(m.nowBytes-m.toldBytes, m.toldBytes-m.nowBytes) <= m.toldBytes/tellShare {
		return 0, false
	}
	m.toldBytes, m.toldAt = m.nowBytes, now
	return m.nowBytes, true
}

// soft reports whether the worker is to be asked to give memory back.
func (m *memoryMeter) soft(now time.Time) bool {
	if m.nowBytes <= m.limitBytes/100*softPercent || now.Sub(m.softAt) < softPause {
		return false
	}
	m.softAt = now
	return true
}

// memoryLook measures workers: by their groups, or by their processes.
type memoryLook interface {
	// look measures worker pid at a time. strays gives processes of the worker's
	// that are not below it any more, and may be told which it had. It says
	// whether the limit is passed, and how soon it should be called again.
	look(now time.Time, pid int, strays func(known []int) []int) (exceeded bool, pause time.Duration)
	meter() *memoryMeter
}

// memoryGroup measures a worker whose limit the kernel keeps.
type memoryGroup struct {
	memoryMeter
	group *cgroup.Group
}

func (m *memoryGroup) meter() *memoryMeter { return &m.memoryMeter }

// look implements memoryLook. A version 1 kills one process of a worker, which
// is no worker any more then.
func (m *memoryGroup) look(time.Time, int, func([]int) []int) (exceeded bool, pause time.Duration) {
	u, err := m.group.Usage()
	if err != nil {
		return false, watchSlow // it is being removed
	}
	return u.Kills > 0 && u.AtLimit, m.see(u.HeldBytes)
}

// memoryWatch compares what a worker's processes hold with its limit.
type memoryWatch struct {
	memoryMeter
	system processes

	pids     []int
	listedAt time.Time
	born     string
	// heldBytes is the last exact measure, residentBytes the sum that went
	// with it.
	heldBytes, residentBytes int64
	exactAt                  time.Time
}

func (m *memoryWatch) meter() *memoryMeter { return &m.memoryMeter }

// look implements memoryLook.
func (m *memoryWatch) look(now time.Time, pid int, strays func(known []int) []int) (exceeded bool, pause time.Duration) {
	if born := m.system.born(); born == "" || born != m.born || now.Sub(m.listedAt) >= treePause {
		known := m.pids
		// In this order: a process that leaves the tree meanwhile is a stray.
		m.pids, m.born, m.listedAt = m.system.tree(pid), born, now
		for _, stray := range strays(known) {
			m.pids = append(m.pids, m.system.tree(stray)...)
		}
		slices.Sort(m.pids)
		m.pids = slices.Compact(m.pids)
	}
	files := m.system.temporary(pid)
	resident := m.sum(m.system.resident) + files
	if resident <= m.limitBytes {
		return false, m.see(resident)
	}
	// The sum counts shared memory once for each process. The exact figure is
	// read again when it may have passed the limit: it grows with the sum, or
	// slowly where processes part with what they shared.
	if !m.exactAt.IsZero() && now.Sub(m.exactAt) < exactPause && resident-m.residentBytes <= m.limitBytes-m.heldBytes {
		m.see(m.heldBytes)
		return false, watchFast
	}
	m.heldBytes, m.residentBytes, m.exactAt = m.heldBy(files), resident, now
	m.see(m.heldBytes)
	return m.heldBytes > m.limitBytes, watchFast
}

// heldBy adds what the processes hold to what their files do, as far as it
// matters: each takes some time to ask, in which all may go on taking memory.
func (m *memoryWatch) heldBy(files int64) int64 {
	n := files
	for _, pid := range m.pids {
		if n += m.system.held(pid); n > m.limitBytes {
			break
		}
	}
	return n
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
