package udfworker

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// table is what a machine's processes hold, in MiB.
type table struct {
	residentMiB, heldMiB map[int]int64
	newest               string
	// lists and exact count what is costly.
	lists, exact int
}

func (t *table) tree(pid int) []int {
	t.lists++
	pids := []int{pid}
	for p := range t.residentMiB {
		if p != pid {
			pids = append(pids, p)
		}
	}
	return pids
}

func (t *table) born() string           { return t.newest }
func (t *table) resident(pid int) int64 { return t.residentMiB[pid] << 20 }
func (t *table) held(pid int) int64 {
	t.exact++
	return t.heldMiB[pid] << 20
}

func TestMemoryWatch(t *testing.T) {
	machine := &table{residentMiB: map[int]int64{1: 40}, heldMiB: map[int]int64{1: 20}, newest: "1"}
	watch := &memoryWatch{limitBytes: 100 << 20, system: machine}
	now := time.Now()
	step := func(what string, wantExceeded bool, wantPause time.Duration) {
		t.Helper()
		now = now.Add(watchSlow)
		exceeded, pause := watch.look(now, 1)
		if exceeded != wantExceeded || pause != wantPause {
			t.Errorf("%s: exceeded %v, again in %s", what, exceeded, pause)
		}
	}
	step("far below", false, watchSlow)
	machine.residentMiB[1] = 60
	step("above half", false, watchFast)
	for range 10 {
		step("nothing new", false, watchFast)
	}
	if machine.lists != 1 || machine.exact != 0 {
		t.Errorf("%d lists, %d exact figures", machine.lists, machine.exact)
	}

	// A forked child shares the memory of its parent: the sum is over the
	// limit, what the two hold is not.
	machine.residentMiB[2], machine.heldMiB[1], machine.heldMiB[2], machine.newest = 60, 30, 30, "2"
	now = now.Add(treePause)
	step("shared", false, watchFast)
	exact := machine.exact
	step("the same sum", false, watchFast)
	if machine.exact != exact {
		t.Error("the exact figure was read again at once")
	}
	// The child writes to what it shares: the sum stays, the share grows.
	machine.heldMiB[1], machine.heldMiB[2] = 55, 55
	now = now.Add(exactPause)
	step("not shared any more", true, watchFast)
	if watch.peakBytes != 110<<20 {
		t.Errorf("peak %d", watch.peakBytes>>20)
	}
	// A leap of the sum is looked at without a pause.
	machine.heldMiB[1], machine.heldMiB[2] = 30, 30
	now = now.Add(exactPause)
	step("shared again", false, watchFast)
	machine.residentMiB[1], machine.heldMiB[1] = 160, 130
	now = now.Add(-watchSlow + time.Millisecond)
	step("a leap", true, watchFast)
}

// TestMemoryIsToldWhenItChanges, and not more often than it is of use.
func TestMemoryIsToldWhenItChanges(t *testing.T) {
	machine := &table{residentMiB: map[int]int64{1: 40}, newest: "1"}
	watch := &memoryWatch{limitBytes: 1 << 30, system: machine}
	now := time.Now()
	expect := func(what string, after time.Duration, mib int64) {
		t.Helper()
		now = now.Add(after)
		watch.look(now, 1)
		if bytes, tell := watch.news(now); tell != (mib > 0) || bytes != mib<<20 {
			t.Errorf("%s: told %t, %d bytes", what, tell, bytes)
		}
	}
	expect("at first", 0, 40)
	machine.residentMiB[1] = 80
	expect("too soon", tellPause/2, 0)
	expect("later", tellPause/2, 80)
	machine.residentMiB[1] = 81
	expect("hardly more", tellPause, 0)
	machine.residentMiB[1] = 60
	expect("less", tellPause, 60)
}

func TestOOMCounter(t *testing.T) {
	kills, known := int64(3), true
	c := newOOMCounter(func() (int64, bool) { return kills, known })
	now := time.Now()
	if c.recent(now) {
		t.Error("kills of before count")
	}
	kills++
	for after, want := range map[time.Duration]bool{0: true, kernelTime / 2: true, kernelTime: false} {
		if c.recent(now); c.recent(now.Add(after)) != want {
			t.Errorf("after %s: %v", after, !want)
		}
	}
	known = false
	if c.recent(now.Add(time.Hour)) {
		t.Error("what cannot be read has not grown")
	}
}

// TestKernelKill: a SIGKILL at the time of a kill by the kernel is the
// kernel's.
func TestKernelKill(t *testing.T) {
	d := deathOf(Event{Kind: EventExited, Signal: int(syscall.SIGKILL), KernelOOM: true})
	if d.Kind != KernelOOM || !strings.Contains(d.String(), "out of memory") {
		t.Errorf("%s: %s", d.Kind, d)
	}
	if machineBytes() == 0 {
		t.Skip("this system does not tell its memory")
	}
	d = deathOf(Event{Kind: EventExited, Signal: int(syscall.SIGKILL), PeakBytes: machineBytes()})
	if !d.ProbablyKernel() {
		t.Error("a worker with all of the memory was probably ended by the kernel")
	}
	if d = deathOf(Event{Kind: EventExited, Signal: int(syscall.SIGKILL), PeakBytes: 1 << 20}); d.ProbablyKernel() {
		t.Error("a small worker was not")
	}
}

func TestWorkerOverItsLimit(t *testing.T) {
	for _, behaviour := range []string{"greedy", "greedychild"} {
		t.Run(behaviour, func(t *testing.T) {
			p, _ := newPool(t, behaviour, nil)
			const limit = 300 << 20
			w, err := p.Acquire(t.Context(), Spec{MemoryBytes: limit})
			if err != nil {
				t.Fatal(err)
			}
			<-w.Dead()
			d := w.Death()
			if d.Kind != OverLimit || d.LimitBytes != limit || d.PeakBytes <= limit || d.PeakBytes > 3*limit {
				t.Errorf("%s (%s): %v\n%s", d.Kind, d, d.Facts(), d.Output)
			}
			p.Release(w, true)
		})
	}
}

// TestLimitIsPartOfTheKey: a worker that may hold more does not stand in for
// one that may hold less.
func TestLimitIsPartOfTheKey(t *testing.T) {
	p, _ := newPool(t, "", nil)
	var pids []int
	for _, limit := range []int64{1 << 30, 2 << 30, 1 << 30} {
		w, err := p.Acquire(t.Context(), Spec{MemoryBytes: limit})
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, w.PID())
		p.Release(w, true)
	}
	if pids[0] == pids[1] || pids[0] != pids[2] {
		t.Errorf("processes %v", pids)
	}
}

func TestTreeOfProcesses(t *testing.T) {
	shell := spawn("sleep 1000 & wait", true)
	defer func() { _ = syscall.Kill(-shell, syscall.SIGKILL) }()
	eventually(t, "the shell's child is listed", 5*time.Second, func() bool {
		return len(procProcesses{}.tree(shell)) == 2
	})
	pids := procProcesses{}.tree(shell)
	if !slices.Contains(pids, shell) || (procProcesses{}).resident(pids[0]) == 0 || (procProcesses{}).held(pids[0]) == 0 {
		t.Errorf("processes %v", pids)
	}
}
