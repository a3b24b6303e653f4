package udfworker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/go-tests/fixture"
	"github.com/alink-runtime/alink/grant"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// newPool makes a pool whose workers behave as told, and checks at the end
// that nothing is left of it.
func newPool(t *testing.T, behaviour string, change func(*PoolOptions)) (*Pool, *testHost) {
	t.Helper()
	dir := fixture.ShortDir(t)
	host := &testHost{dir: dir}
	options := poolOptions(host, dir, behaviour)
	if change != nil {
		change(&options)
	}
	p, err := NewPool(options)
	if err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() {
		var pids []int
		for _, w := range p.Workers() {
			pids = append(pids, w.PID)
		}
		if p.supervisor != nil {
			pids = append(pids, p.supervisor.command.Process.Pid)
		}
		p.Close()
		for _, pid := range pids {
			if alive(pid) {
				t.Errorf("process %d outlived the pool", pid)
			}
		}
		left, _ := filepath.Glob(filepath.Join(dir, scratchDir, "*"))
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		eventually(t, "the pool's goroutines have ended", 5*time.Second, func() bool { return runtime.NumGoroutine() <= goroutines })
	})
	return p, host
}

func acquire(t *testing.T, p *Pool, python string) *Worker {
	t.Helper()
	return acquireWith(t, p, python, "")
}

func acquireWith(t *testing.T, p *Pool, python string, mode sandbox.Mode) *Worker {
	t.Helper()
	w, err := p.Acquire(t.Context(), Spec{Policy: sandbox.Policy{Mode: mode}, Environment: envmgr.Spec{Python: python}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWarmWorkersAreReusedByKey(t *testing.T) {
	p, host := newPool(t, "idle", nil)
	first := acquire(t, p, "a")
	other := acquire(t, p, "b")
	if got := p.Workers(); len(got) != 2 || !got[0].Busy || got[0].PID != first.PID() || got[0].Environment != "testa" {
		t.Fatalf("workers: %+v", got)
	}
	p.Release(first, true)
	p.Release(other, true)
	if w := acquire(t, p, "a"); w != first {
		t.Errorf("got worker %s, want the warm %s", w.ID(), first.ID())
	}
	p.Release(first, false)
	<-first.Dead()
	if d := first.Death(); d.Kind != Stopped {
		t.Errorf("an ended worker's death: %+v", d)
	}
	eventually(t, "the endpoint is closed", 5*time.Second, func() bool { return host.endpoints() == 1 })
	if w := acquire(t, p, "a"); w == first || !alive(w.PID()) {
		t.Error("a worker was leased that had been ended")
	} else {
		p.Release(w, true)
	}
	if started, deaths := p.Counts(); started != 3 || deaths != 0 {
		t.Errorf("%d workers started, %d died", started, deaths)
	}
}

// TestAReplacedFileGetsAWorkerThatSeesIt: a mount is of what lay at the path
// when the worker was started.
func TestAReplacedFileGetsAWorkerThatSeesIt(t *testing.T) {
	p, _ := newPool(t, "idle", nil)
	path := filepath.Join(t.TempDir(), "model.txt")
	lease := func() *Worker {
		w, err := p.Acquire(t.Context(), Spec{
			Policy:      sandbox.Policy{Mode: sandbox.Off, Mounts: []grant.Mount{{Path: path}}},
			Environment: envmgr.Spec{Python: "a"},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(w, true)
		return w
	}
	write := func(name string) {
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path)
	first := lease()
	if lease() != first {
		t.Error("a warm worker of the same file was not leased")
	}
	write(path) // the same file with other text, which the worker sees
	if lease() != first {
		t.Error("a warm worker of a file that was written again was not leased")
	}
	write(path + ".new")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if lease() == first {
		t.Error("a worker was leased that sees the file that was replaced")
	}
}

// TestAWorkerRunsFunctionsOfOneDomain: what one client's functions have left in
// a process is out of another's reach.
func TestAWorkerRunsFunctionsOfOneDomain(t *testing.T) {
	p, _ := newPool(t, "idle", nil)
	lease := func(domain string) *Worker {
		w, err := p.Acquire(t.Context(), Spec{Environment: envmgr.Spec{Python: "a"}, Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(w, true)
		return w
	}
	mine := lease("mine")
	if lease("yours") == mine {
		t.Error("a worker was leased to another domain")
	}
	if lease("mine") != mine {
		t.Error("a warm worker of the domain was not leased")
	}
	p.EndIdle("mine")
	<-mine.Dead()
	if d := mine.Death(); d.Kind != Stopped {
		t.Errorf("the worker of a domain that has ended: %+v", d)
	}
	eventually(t, "one worker is left", 5*time.Second, func() bool { return len(p.Workers()) == 1 })
}

func TestIdleWorkersAreBounded(t *testing.T) {
	p, _ := newPool(t, "idle", func(o *PoolOptions) { o.IdleMax = 1; o.IdleTime = 300 * time.Millisecond })
	a, b := acquire(t, p, "a"), acquire(t, p, "a")
	p.Release(a, true)
	p.Release(b, true)
	<-a.Dead()
	if d := a.Death(); d.Kind != Stopped || d.ExitCode != 0 || d.Signal != 0 {
		t.Errorf("a worker over the bound ends by itself when its input ends: %+v", d)
	}
	select {
	case <-b.Dead():
		t.Error("the last used worker was ended at once")
	default:
	}
	<-b.Dead()
	eventually(t, "no worker is listed", 5*time.Second, func() bool { return len(p.Workers()) == 0 })
}

func TestPlaces(t *testing.T) {
	p, _ := newPool(t, "idle", func(o *PoolOptions) { o.WorkersMax = 2; o.PlaceTime = 200 * time.Millisecond })
	a, b := acquire(t, p, "a"), acquire(t, p, "b")
	_, err := p.Acquire(t.Context(), Spec{})
	if d := diag.From(err); d.Code != diag.WorkerNotStarted || !strings.Contains(d.Message, "all 2 are in use") {
		t.Fatalf("over the bound: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user gave up")
	cancel(cause)
	if _, err := p.Acquire(ctx, Spec{}); !errors.Is(err, cause) {
		t.Fatalf("cancelled: %v", err)
	}
	// A waiting lease gets the place of an idle worker of another environment.
	p.Release(b, true)
	c := acquire(t, p, "c")
	<-b.Dead()
	// And one that waits is woken by a release.
	woken := make(chan *Worker)
	go func() {
		w, err := p.Acquire(t.Context(), Spec{Environment: envmgr.Spec{Python: "a"}})
		if err != nil {
			t.Error(err)
		}
		woken <- w
	}()
	time.Sleep(20 * time.Millisecond)
	p.Release(a, true)
	if w := <-woken; w != a {
		t.Error("the warm worker that was released should have been leased")
	}
	p.Release(a, true)
	p.Release(c, true)
}

func TestDeaths(t *testing.T) {
	for _, test := range []struct {
		behaviour string
		kind      DeathKind
		text      string
	}{
		{"crash", Signalled, "signal 9, SIGKILL"},
		{"exit", Exited, "exit status 7"},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			p, host := newPool(t, test.behaviour, nil)
			w := acquire(t, p, "")
			<-w.Dead()
			d := w.Death()
			if d.Kind != test.kind || d.String() != test.text {
				t.Errorf("death: %s, %+v", d, d)
			}
			if d.PeakBytes < 1<<20 || d.PeakBytes > 1<<32 || d.CPUTime <= 0 {
				t.Errorf("measured: %v", d.Facts())
			}
			if test.behaviour == "crash" {
				if len(d.Output) > outputBytesMax || !strings.HasPrefix(d.Output, "line ") || d.LastWords(2) != "line 1999\nthe last words" {
					t.Errorf("output: %d bytes, %.20q … %q", len(d.Output), d.Output, d.LastWords(2))
				}
			}
			if host.endpoints() != 1 {
				t.Error("the endpoint of a leased worker was closed before its release")
			}
			p.Release(w, true)
			eventually(t, "the endpoint is closed", 5*time.Second, func() bool { return host.endpoints() == 0 })
		})
	}
}

func TestWorkerThatCannotStart(t *testing.T) {
	for _, test := range []struct {
		behaviour, fact, cause, hint string
	}{
		{"noimport", "exit status 1", "No module named 'grpc'", "grpcio"},
		{"silent", "said nothing for 300ms", "", "sitecustomize"},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			p, host := newPool(t, test.behaviour, func(o *PoolOptions) { o.StartTime = 300 * time.Millisecond })
			if test.behaviour == "noimport" {
				p.options.StartTime = StartTimeDefault
			}
			_, err := p.Acquire(t.Context(), Spec{})
			d := diag.From(err)
			if d.Code != diag.WorkerNotStarted || !strings.Contains(strings.Join(d.Facts, "\n"), test.fact) ||
				!strings.Contains(d.Cause, test.cause) || !strings.Contains(d.Hint, test.hint) {
				t.Errorf("%s\n%+v", d.Render(), d)
			}
			eventually(t, "the endpoint is closed", 5*time.Second, func() bool { return host.endpoints() == 0 && len(p.Workers()) == 0 })
		})
	}
	for behaviour, want := range map[string]struct {
		signal string
		starts int
	}{"killed": {"SIGKILL", killedStartsMax}, "terminated": {"SIGTERM", startsMax}} {
		t.Run(behaviour, func(t *testing.T) {
			started := 0
			p, _ := newPool(t, behaviour, func(o *PoolOptions) {
				o.Supervisor.OnEvent = func(e Event) {
					if e.Kind == EventStarted {
						started++
					}
				}
			})
			_, err := p.Acquire(t.Context(), Spec{})
			d := diag.From(err)
			if d.Code != diag.WorkerNotStarted || !strings.Contains(strings.Join(d.Facts, "\n"), want.signal) {
				t.Errorf("%v", err)
			}
			p.Close() // after which no more events come
			if started != want.starts {
				t.Errorf("%d workers were started, want %d", started, want.starts)
			}
		})
	}
	t.Run("no interpreter", func(t *testing.T) {
		p, _ := newPool(t, "idle", nil)
		p.options.Resolver = missingInterpreter{}
		_, err := p.Acquire(t.Context(), Spec{})
		if d := diag.From(err); d.Code != diag.WorkerNotStarted || !strings.Contains(d.Cause, "no such file") {
			t.Errorf("%v", err)
		}
	})
}

type missingInterpreter struct{}

func (missingInterpreter) Resolve(context.Context, envmgr.Spec, func(string)) (*envmgr.Environment, error) {
	return &envmgr.Environment{ID: "x", Interpreter: "/nowhere/python"}, nil
}

// TestMemoryOfAllWorkers: the sum of their limits is bounded, idle workers go
// first, and no job waits for ever.
func TestMemoryOfAllWorkers(t *testing.T) {
	const share = 512 << 20
	var short atomic.Int64
	p, _ := newPool(t, "idle", func(o *PoolOptions) {
		o.MemoryBytesMax = 2 * share
		o.PlaceTime = time.Millisecond // memory may be waited for longer
		o.Short = func() { short.Add(1) }
	})
	lease := func(job, python string, bytes int64) *Worker {
		t.Helper()
		w, err := p.Acquire(t.Context(), Spec{Job: job, Environment: envmgr.Spec{Python: python}, MemoryBytes: bytes})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	expect := func(what string, bytes int64, workers int) {
		t.Helper()
		if m := p.Memory(); m.Bytes != bytes || m.LimitBytes != 2*share {
			t.Errorf("%s: %+v", what, m)
		}
		eventually(t, what, 5*time.Second, func() bool { return len(p.Workers()) == workers })
	}
	type leased struct {
		w   *Worker
		err error
	}
	waits := func(ctx context.Context, job, python string) chan leased {
		t.Helper()
		before, got := p.Memory().Waiting, make(chan leased, 1)
		go func() {
			w, err := p.Acquire(ctx, Spec{Job: job, Environment: envmgr.Spec{Python: python}, MemoryBytes: share})
			got <- leased{w, err}
		}()
		eventually(t, job+" waits", 5*time.Second, func() bool { return p.Memory().Waiting == before+1 })
		return got
	}

	idle := lease("before", "a", share)
	p.Release(idle, true)
	first, second := lease("one", "b", share), lease("one", "c", share)
	expect("an idle worker has made room", 2*share, 2)
	if w, err := p.Acquire(t.Context(), Spec{Job: "one", Spare: true, Environment: envmgr.Spec{Python: "b"}, MemoryBytes: share}); w != nil || err != nil {
		t.Errorf("a spare worker beyond the bound: %v, %v", w, err)
	}
	third := lease("one", "d", share) // the others may wait for it
	expect("a job that has workers does not wait", 3*share, 3)
	p.Release(third, false)

	ctx, cancel := context.WithCancel(t.Context())
	gone := waits(ctx, "gone", "e")
	if short.Load() != 1 {
		t.Errorf("%d calls of Short", short.Load())
	}
	cancel()
	if got := <-gone; !errors.Is(got.err, context.Canceled) {
		t.Errorf("a job that was cancelled: %v", got.err)
	}
	// Two steps of one job, neither of which may need the other.
	left, right := waits(t.Context(), "two", "f"), waits(t.Context(), "two", "g")
	p.Release(second, true)
	l, r := <-left, <-right
	if l.err != nil || r.err != nil {
		t.Fatal(l.err, r.err)
	}
	expect("two steps of one job do not wait for each other", 3*share, 3)
	for _, w := range []*Worker{first, l.w, r.w} {
		p.Release(w, true)
	}
	large := lease("large", "h", 4*share)
	expect("somebody must have a worker", 4*share, 1)
	p.Release(large, true)
	p.EndAllIdle()
	expect("all idle workers were ended", 0, 0)
}

// TestMemoryOfZygotes: they count with their workers, and before the first of a
// kind; idle workers whose zygotes are in the way go.
func TestMemoryOfZygotes(t *testing.T) {
	const share = 512 << 20
	p, _ := newPool(t, "idle", func(o *PoolOptions) { o.MemoryBytesMax = 2*share + zygoteBytesMax })
	tell := func(zygotes int) {
		t.Helper()
		p.options.Supervisor.OnEvent(Event{Kind: EventZygotes, Zygotes: zygotes, ZygoteBytes: int64(zygotes) * zygoteBytesMax})
	}
	acquire := func(job, python string, spare bool) *Worker {
		t.Helper()
		w, err := p.Acquire(t.Context(), Spec{Job: job, Spare: spare, Environment: envmgr.Spec{Python: python}, MemoryBytes: share})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	a := acquire("one", "a", false)
	tell(1)
	if m := p.Memory(); m.Bytes != share+zygoteBytesMax {
		t.Errorf("%+v", m)
	}
	if acquire("one", "b", true) != nil {
		t.Error("the zygote of another kind was not counted")
	}
	second := acquire("one", "a", true)
	if second == nil {
		t.Fatal("a second worker of the kind was refused")
	}
	p.Release(second, true)
	p.Release(a, true)
	got := make(chan *Worker, 1)
	held := acquire("one", "a", false)
	tell(2) // another kind's, which is in the way of what comes
	go func() { got <- acquire("two", "a", false) }()
	eventually(t, "it takes the idle one", 5*time.Second, func() bool { return len(got) == 1 })
	second = <-got
	p.Release(second, true)
	go func() { got <- acquire("two", "c", false) }()
	eventually(t, "it waits", 5*time.Second, func() bool { return p.Memory().Waiting == 1 })
	eventually(t, "idle workers go", 5*time.Second, func() bool { return len(p.Workers()) == 1 })
	p.Release(held, false)
	tell(0)
	if w := <-got; w == nil {
		t.Error("nobody is in its way")
	} else {
		p.Release(w, true)
	}
	if m := p.Memory(); m.Bytes != share {
		t.Errorf("%+v", m)
	}
}

// TestNothingThatMayEndAWaitIsMissed: what happens between the look at the memory
// and the wait for it wakes whoever waits, who would otherwise do so for ever.
func TestNothingThatMayEndAWaitIsMissed(t *testing.T) {
	const share = 512 << 20
	p, _ := newPool(t, "idle", func(o *PoolOptions) { o.MemoryBytesMax = share })
	w, err := p.Acquire(t.Context(), Spec{Job: "one", Environment: envmgr.Spec{Python: "a"}, MemoryBytes: share})
	if err != nil {
		t.Fatal(err)
	}
	zygotes := func(n int64) {
		p.options.Supervisor.OnEvent(Event{Kind: EventZygotes, ZygoteBytes: n * zygoteBytesMax})
	}
	zygotes(1)
	missed := func(what string, happens func()) {
		t.Helper()
		c, err := p.claim("another", Spec{Job: "two", MemoryBytes: 2 * share})
		if err != nil || !c.memory {
			t.Fatalf("%s: %+v, %v", what, c, err)
		}
		happens()
		select {
		case <-c.freed:
		default:
			t.Errorf("%s: nobody was told", what)
		}
	}
	missed("a zygote's end", func() { zygotes(0) })
	missed("the end of a worker's place", func() { p.Interrupt(w) })
	missed("the end of the last lease", func() { p.Release(w, false) })
}

func TestInterruptKillsWhatDoesNotListen(t *testing.T) {
	p, _ := newPool(t, "stubborn", nil)
	w := acquire(t, p, "")
	start := time.Now()
	p.Interrupt(w)
	<-w.Dead()
	if d, took := w.Death(), time.Since(start); d.Kind != Stopped || d.Signal != int(syscall.SIGKILL) || took < graceTime {
		t.Errorf("after %s: %+v", took, d)
	}
	p.Release(w, true)
}

func TestWorkerEnvironment(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "x")
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("OMP_NUM_THREADS", "3")
	// An open file of the engine's, without close-on-exec, as libraries and
	// parents leave them.
	secret := filepath.Join(fixture.ShortDir(t), "secret")
	fd, err := syscall.Open(secret, syscall.O_CREAT|syscall.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for _, mode := range []sandbox.Mode{sandbox.Off, sandbox.Auto} {
		t.Run(string(mode), func(t *testing.T) { testEnvironment(t, mode, secret) })
	}
}

func testEnvironment(t *testing.T, mode sandbox.Mode, secret string) {
	t.Helper()
	p, host := newPool(t, "env", nil)
	w := acquireWith(t, p, "", mode)
	said := host.said(w.ID())
	env := map[string]string{}
	for _, variable := range said {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	scratch := env["cwd"]
	within := filepath.Join(host.dir, scratchDir)
	if w.process.Level() >= sandbox.L2 { // a file system of its own
		within = sandbox.Scratch
	}
	if !strings.HasPrefix(scratch, within) || env["HOME"] != scratch || env["TMPDIR"] != scratch {
		t.Errorf("scratch: %v", said)
	}
	if env["LC_ALL"] != "C.UTF-8" || env["OMP_NUM_THREADS"] != "3" || env["PATH"] == "" || env[workerVariable] != w.ID() {
		t.Errorf("what should be there is not: %v", said)
	}
	for name := range env {
		if name == "SECRET_TOKEN" || strings.HasPrefix(name, "PLUGIN_") || name == handshake.MagicCookieKey || name == enginePIDVariable {
			t.Errorf("%s reached the worker", name)
		}
	}
	if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "file pipe:") }) {
		t.Errorf("the worker's own files are not listed: %v", said)
	}
	if slices.Contains(said, "file "+secret) {
		t.Error("the worker has a file of the engine's open")
	}
	p.Release(w, true)
}

// A worker's processes die with it: those in its group, and those that left it.
// (A pid namespace does that by itself: sandbox.TestNothingLeavesTheNamespace.)
func TestDescendantsDieWithTheirWorker(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a subreaper")
	}
	p, host := newPool(t, "fork", nil)
	other := acquireWith(t, p, "other", sandbox.Off)
	w := acquireWith(t, p, "", sandbox.Off)
	var left []int
	for _, word := range host.said(w.ID())[:2] {
		pid, err := strconv.Atoi(word)
		if err != nil || !alive(pid) {
			t.Fatalf("process %q: %v", word, err)
		}
		left = append(left, pid)
	}
	p.Release(w, false)
	<-w.Dead()
	for _, pid := range left {
		eventually(t, "its descendant has died", 5*time.Second, func() bool { return !alive(pid) })
	}
	for _, word := range host.said(other.ID())[:2] {
		if pid, _ := strconv.Atoi(word); !alive(pid) {
			t.Error("another worker's descendant died too")
		}
	}
	eventually(t, "the scratch directory is removed", 5*time.Second, func() bool {
		scratch, _ := filepath.Glob(filepath.Join(host.dir, scratchDir, w.ID()+"-*"))
		return len(scratch) == 0
	})
	p.Release(other, true)
}

func TestSupervisorDies(t *testing.T) {
	p, _ := newPool(t, "stubborn", nil)
	a := acquire(t, p, "")
	b := acquire(t, p, "")
	lost := p.supervisor
	if err := lost.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.Dead()
	<-b.Dead()
	if d := a.Death(); d.Kind != SupervisorLost || d.String() != "the supervisor of workers died" {
		t.Errorf("death: %+v", d)
	}
	eventually(t, "workers die with their supervisor", time.Second, func() bool { return !alive(a.PID()) && !alive(b.PID()) })
	p.Release(a, true)
	p.Release(b, false)
	c := acquire(t, p, "")
	if p.supervisor == lost || !alive(c.PID()) {
		t.Error("no new supervisor was started")
	}
	p.Release(c, true)
}

func TestClosedPool(t *testing.T) {
	p, host := newPool(t, "idle", nil)
	w := acquire(t, p, "")
	p.Close()
	<-w.Dead()
	if _, err := p.Acquire(t.Context(), Spec{}); diag.From(err).Code != diag.ConnectionLost {
		t.Errorf("acquire after close: %v", err)
	}
	p.Release(w, true)
	if host.endpoints() != 0 {
		t.Error("an endpoint is left open")
	}
}

func TestSocketPath(t *testing.T) {
	if err := CheckSocketPath("/" + strings.Repeat("a", SocketPathBytesMax-1)); err != nil {
		t.Error(err)
	}
	err := CheckSocketPath("/" + strings.Repeat("a", SocketPathBytesMax))
	if d := diag.From(err); d.Code != diag.WorkerNotStarted || !strings.Contains(d.Message, "101 bytes, at most 100") {
		t.Errorf("%v", err)
	}
	_, err = NewPool(poolOptions(&testHost{}, "/"+strings.Repeat("a", 90), ""))
	if diag.From(err).Code != diag.WorkerNotStarted {
		t.Errorf("a long run directory: %v", err)
	}
}

func TestTail(t *testing.T) {
	var out tail
	for _, text := range []string{"one\n", "two"} {
		_, _ = out.Write([]byte(text))
	}
	if got := out.String(); got != "one\ntwo" {
		t.Errorf("short: %q", got)
	}
	_, _ = out.Write([]byte(strings.Repeat("x", 3*outputBytesMax) + "\n" + strings.Repeat("y", 10)))
	if got := out.String(); got != strings.Repeat("y", 10) {
		t.Errorf("long: %d bytes, %.20q", len(got), got)
	}
	var odd tail
	for i := range outputBytesMax {
		_, _ = odd.Write([]byte{byte('a' + i%26)})
	}
	_, _ = odd.Write([]byte("\xff"))
	if got := odd.String(); len(got) != outputBytesMax-1+len("�") || !slices.Contains([]rune(got), '�') {
		t.Errorf("bad bytes: %d", len(got))
	}
}

func TestLastWords(t *testing.T) {
	fault := "loading\nFatal Python error: Segmentation fault\n\nThread 0x1 (most recent call first):\n  File \"threading.py\", line 1 in wait\n\n" +
		"Current thread 0x2 (most recent call first):\n" +
		"  File \"job.py\", line 5 in made_up\n  File \"lib.py\", line 8 in call\n\nExtension modules: numpy (total: 1)\n"
	for _, test := range []struct {
		output string
		n      int
		want   string
	}{
		{"", 3, ""},
		{"one\n\n two \r\n", 3, "one\n two"},
		{"one\ntwo\nthree\n", 2, "two\nthree"},
		{fault, 2, "Fatal Python error: Segmentation fault\n  File \"job.py\", line 5 in made_up"},
		{fault, 9, "Fatal Python error: Segmentation fault\n  File \"job.py\", line 5 in made_up\n  File \"lib.py\", line 8 in call"},
	} {
		if got := (Death{Output: test.output}).LastWords(test.n); got != test.want {
			t.Errorf("%q, %d: got %q, want %q", test.output, test.n, got, test.want)
		}
	}
}
