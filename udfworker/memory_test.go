package udfworker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/udfworker/cgroup"
)

// table is what a machine's processes hold, in MiB.
type table struct {
	residentMiB, heldMiB map[int]int64
	filesMiB             int64
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
func (t *table) temporary(int) int64    { return t.filesMiB << 20 }
func (t *table) resident(pid int) int64 { return t.residentMiB[pid] << 20 }
func (t *table) held(pid int) int64 {
	t.exact++
	return t.heldMiB[pid] << 20
}

func none([]int) []int { return nil }

func TestMemoryWatch(t *testing.T) {
	machine := &table{residentMiB: map[int]int64{1: 40}, heldMiB: map[int]int64{1: 20}, newest: "1"}
	watch := &memoryWatch{memoryMeter: memoryMeter{limitBytes: 100 << 20}, system: machine}
	now := time.Now()
	step := func(what string, wantExceeded bool, wantPause time.Duration) {
		t.Helper()
		now = now.Add(watchSlow)
		exceeded, pause := watch.look(now, 1, none)
		if exceeded != wantExceeded || pause != wantPause {
			t.Errorf("%s: exceeded %v, again in %s", what, exceeded, pause)
		}
	}
	step("far below", false, 60*time.Second/4096)
	machine.residentMiB[1] = 72
	step("near", false, watchFast)
	for range 5 {
		step("nothing new", false, watchFast)
	}
	if machine.lists != 1 || machine.exact != 0 {
		t.Errorf("%d lists, %d exact figures", machine.lists, machine.exact)
	}

	// A forked child shares the memory of its parent: the sum is over the
	// limit, what the two hold is not.
	machine.residentMiB[1] = 60
	machine.residentMiB[2], machine.heldMiB[1], machine.heldMiB[2], machine.newest = 60, 40, 40, "2"
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
	watch := &memoryWatch{memoryMeter: memoryMeter{limitBytes: 1 << 30}, system: machine}
	now := time.Now()
	expect := func(what string, after time.Duration, mib int64) {
		t.Helper()
		now = now.Add(after)
		watch.look(now, 1, none)
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

// controls has a test run under each control of memory that this machine has.
func controls(t *testing.T, test func(t *testing.T, group bool)) {
	t.Helper()
	for _, kind := range []string{string(cgroup.V2), string(cgroup.V1), ControlWatch} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv(controlVariable, kind)
			if got := ProbeMemoryControl(); got.Kind != kind {
				t.Skip(got.Reason)
			}
			test(t, kind != ControlWatch)
		})
	}
}

func TestWorkerOverItsLimit(t *testing.T) {
	controls(t, func(t *testing.T, group bool) {
		t.Helper()
		for _, behaviour := range []string{"greedy", "greedychild", "greedyfiles"} {
			t.Run(behaviour, func(t *testing.T) {
				if behaviour == "greedyfiles" && !group {
					t.Skip("without a sandbox the watch does not see what is in /dev/shm")
				}
				p, _ := newPool(t, behaviour, nil)
				const limit, aheadBytes = 300 << 20, 1 << 20
				w, err := p.Acquire(t.Context(), Spec{MemoryBytes: limit})
				if err != nil {
					t.Fatal(err)
				}
				<-w.Dead()
				d := w.Death()
				if d.Kind != OverLimit || d.LimitBytes != limit || d.PeakBytes < limit-10*aheadBytes || d.PeakBytes > 2*limit || group && d.PeakBytes > limit+aheadBytes {
					t.Errorf("%s (%s): %v\n%s", d.Kind, d, d.Facts(), d.Output)
				}
				p.Release(w, true)
			})
		}
	})
}

// TestGroupsAreRemoved when their workers end, in whatever way, and the pool
// with the supervisor.
func TestGroupsAreRemoved(t *testing.T) {
	if control := ProbeMemoryControl(); control.Kind == ControlWatch || control.Kind == ControlNone {
		t.Skip(control.Reason)
	}
	p, _ := newPool(t, "fork", nil)
	for _, reusable := range []bool{true, false} {
		w, err := p.Acquire(t.Context(), Spec{MemoryBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		pool := filepath.Dir(groupOf(t, w.PID()))
		p.Release(w, reusable)
		if reusable {
			continue
		}
		eventually(t, "only its files are in the pool", 5*time.Second, func() bool { return len(folders(t, pool)) == 0 })
		p.Close()
		if _, err := os.Stat(pool); err == nil {
			t.Errorf("%s is left", pool)
		}
	}
}

// groupOf is the folder of the memory group of a process.
func groupOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if _, group, ok := strings.Cut(line, ":memory:"); ok {
			return "/sys/fs/cgroup/memory" + group
		} else if group, ok := strings.CutPrefix(line, "0::"); ok && strings.Contains(group, "alink-pool") {
			return "/sys/fs/cgroup" + group
		}
	}
	t.Fatalf("process %d is in no group: %s", pid, text)
	return ""
}

func folders(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
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
