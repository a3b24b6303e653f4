package udfworker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Bounds of the supervisor.
const (
	// supervisedMax is how many workers one supervisor runs.
	supervisedMax = 256
	// eventsMax is how many events may wait to be read before no worker is
	// started any more.
	eventsMax = 1024
	// graceTime is what a worker gets between being asked to end and SIGKILL.
	graceTime = time.Second
	// outputTime is how long the rest of a dead worker's output is waited for;
	// a process that it left behind may hold the pipe open.
	outputTime = 100 * time.Millisecond
	// shutdownTime is how long the supervisor tries to see all processes dead,
	// shutdownPoll how often it looks.
	shutdownTime = 3 * time.Second
	shutdownPoll = 2 * time.Millisecond
	// scratchTries is how often removing a scratch directory is tried: what is
	// being killed may still write.
	scratchTries = 3
	scratchPause = 20 * time.Millisecond
	// groupTries is how often removing a control group is tried, groupPause
	// apart: it goes when the last process in it has been reaped.
	groupTries = 200
	groupPause = 5 * time.Millisecond
	// askTime bounds the writing of one byte to a worker's pipe, which is full
	// only where the worker reads nothing.
	askTime = time.Millisecond
)

// enginePIDVariable tells the supervisor which process it must not outlive.
const enginePIDVariable = "ALINK_ENGINE_PID"

// pluginName is the one plugin that a supervisor serves.
const pluginName = "workers"

// handshake is what go-plugin compares before anything else: a person who
// starts the subcommand by hand is told that it is none of theirs. It is no
// secret; mutual TLS keeps others out.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "ALINK_WORKER_POOL",
	MagicCookieValue: "e3f0c1de5b7a4c2a9d6b8a4f",
}

// supervisorPlugin joins go-plugin's two sides: on the supervisor's it
// registers the services, on the engine's it hands out the connection.
type supervisorPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (p *supervisorPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	fnpb.RegisterBeamFnExternalWorkerPoolServer(s, p.server)
	s.RegisterService(&lifeServiceDesc, p.server)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin.
func (p *supervisorPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// ServeSupervisor is what `pyrunner worker-pool` runs. It returns when the
// engine has said goodbye; when the engine has died it ends the process itself.
func ServeSupervisor() error {
	if os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		return diag.New(diag.BadOption, "pyrunner worker-pool is started by the engine, and is of no use by itself").
			WithHint("pyrunner help lists the commands")
	}
	// These signals reach a terminal's or a service's whole group of processes,
	// and the engine decides what they mean. They are caught, not ignored: what
	// is ignored would stay so in the workers, where SIGINT cancels a function.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for range signals {
		}
	}()
	engine, err := strconv.Atoi(os.Getenv(enginePIDVariable))
	if err != nil {
		return fmt.Errorf("%s: %w", enginePIDVariable, err)
	}
	gone, err := watchParent(engine)
	if err != nil {
		return fmt.Errorf("watch the engine: %w", err)
	}
	if err := prepareSupervisor(); err != nil {
		return fmt.Errorf("prepare to supervise: %w", err)
	}
	site, err := ParseTemplate(os.Getenv(launcherVariable))
	if err != nil {
		return err
	}
	s := newServer(newLauncher(), site, os.Environ(), os.Stderr)
	go func() {
		<-gone
		s.shutdown()
		os.Exit(0)
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{pluginName: &supervisorPlugin{server: s}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr}),
	})
	s.shutdown()
	return nil
}

// server runs workers. One goroutine reaps all children; mu orders it with
// launches, so that a child is known before its death can be handled, and
// keeps a number from being signalled after it was reaped.
type server struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	launcher Launcher
	environ  []string
	log      io.Writer

	mu      sync.Mutex
	workers map[string]*supervised
	byPID   map[int]*supervised
	closing bool
	pending []Event
	// report is what the machine offers to confine workers with; it is there
	// when probed is closed.
	report sandbox.Report
	// site is the site's own launcher; nil where the sandbox is ours.
	site   *Template
	probed chan struct{}
	// changed is closed and replaced when pending grows.
	changed chan struct{}
	// launched wakes the reaper where it found nothing to wait for.
	launched chan struct{}
	// watched does so for the watch of memory.
	watched chan struct{}
	oom     *oomCounter
	// zygotes are those that workers may be forked from, by their kinds;
	// zygotePIDs are those that live, and sandboxes those whose sandbox does.
	zygotes    map[string]*zygote
	zygotePIDs map[int]*zygote
	sandboxes  map[*zygote]struct{}
	// unfit are the kinds of workers that cannot be forked.
	unfit map[string]bool
	// groups makes the control groups of workers; nil where there are none, and
	// their memory is watched. control says which and why.
	groups  *cgroup.Control
	control MemoryControl
	// softLevel has workers asked for memory before they reach their limits.
	softLevel bool
	// launches counts workers, so that no two groups have one name.
	launches int
	// finishing counts the goroutines that report a death and clean up.
	finishing sync.WaitGroup
	once      sync.Once
}

// supervised is a worker as the supervisor holds it.
type supervised struct {
	id    string
	child *Child
	// zygote has forked it; nil where it was started by itself.
	zygote *zygote
	// target is who is interrupted: the process, or less than 0 its group.
	target  int
	scratch string
	output  tail
	// read is closed when the output has been read to its end.
	read    chan struct{}
	stopped bool
	kill    *time.Timer
	// group is the worker's control group, or nil.
	group *cgroup.Group
	// memory is nil where the worker has no limit. Only the watch's goroutine
	// uses it, but for peakBytes, which it sets with the server's mu held.
	memory     memoryLook
	limitBytes int64
	peakBytes  int64
	overLimit  bool
	// scratchBytes bounds the files in scratch; overScratch is what was found
	// there beyond that.
	scratchBytes int64
	overScratch  string
}

func newServer(launcher Launcher, site *Template, environ []string, log io.Writer) *server {
	s := &server{
		site:     site,
		launcher: launcher,
		environ:  environ,
		log:      log,
		workers:  map[string]*supervised{},
		byPID:    map[int]*supervised{},

		zygotes:    map[string]*zygote{},
		zygotePIDs: map[int]*zygote{},
		sandboxes:  map[*zygote]struct{}{},
		unfit:      map[string]bool{},

		changed:  make(chan struct{}),
		probed:   make(chan struct{}),
		launched: make(chan struct{}, 1),
		watched:  make(chan struct{}, 1),
		oom:      newOOMCounter(kernelKills),
	}
	s.groups, s.control = openMemoryControl()
	s.softLevel = os.Getenv(softVariable) == ""
	s.pending = []Event{{Kind: EventReady, PID: os.Getpid(), MemoryControl: &s.control, When: time.Now()}}
	go func() {
		if site != nil {
			s.report = externalReport(site)
		} else {
			s.report = sandbox.Probe() // has children of its own, which reapAll must not take
		}
		s.mu.Lock()
		s.emitLocked(Event{Kind: EventSandbox, Sandbox: &s.report, When: time.Now()})
		s.mu.Unlock()
		fmt.Fprintln(s.log, describe(s.report))
		close(s.probed)
		s.reapAll()
	}()
	go s.watchMemory()
	go s.watchScratch()
	return s
}

var workerID = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// StartWorker implements Beam's external worker pool. What Beam has no field
// for is JSON in params.
func (s *server) StartWorker(ctx context.Context, r *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	response := &fnpb.StartWorkerResponse{}
	if err := s.start(ctx, r); err != nil {
		response.Error = errorText(err) // Beam's way: the call itself has worked
	}
	return response, nil
}

// diagnosticMark begins the text of an error that is a diagnostic, as JSON.
const diagnosticMark = "alink:diagnostic:"

// errorText is an error as the response carries it; errorOf reads it.
func errorText(err error) string {
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		if text, err := json.Marshal(d); err == nil {
			return diagnosticMark + string(text)
		}
	}
	return err.Error()
}

func errorOf(text string) error {
	if encoded, ok := strings.CutPrefix(text, diagnosticMark); ok {
		var d diag.Diagnostic
		if json.Unmarshal([]byte(encoded), &d) == nil {
			return &d
		}
	}
	return errors.New(text)
}

func (s *server) start(ctx context.Context, r *fnpb.StartWorkerRequest) error {
	id := r.GetWorkerId()
	if !workerID.MatchString(id) {
		return fmt.Errorf("worker id %q: only lower-case letters and digits, at most 32, are possible", id)
	}
	var params launchParams
	if err := json.Unmarshal([]byte(r.GetParams()[launchParamsKey]), &params); err != nil {
		return fmt.Errorf("parameter %s: %w", launchParamsKey, err)
	}
	return s.startWith(ctx, id, r.GetControlEndpoint().GetUrl(), params)
}

// startWith starts worker id, which finds its runner at an endpoint.
func (s *server) startWith(ctx context.Context, id, endpoint string, params launchParams) error {
	<-s.probed
	level, err := levelFor(params.Policy, s.report)
	if err != nil {
		return err
	}
	if s.forks(params, endpoint, level) {
		if err := s.startForked(ctx, id, endpoint, params, level); !errors.Is(err, errUnfit) {
			return err
		}
	}
	scratch, inside := "", sandbox.Scratch
	if level < sandbox.L2 || level == sandbox.External {
		if scratch, err = os.MkdirTemp(params.ScratchDir, id+"-"); err != nil {
			return fmt.Errorf("no scratch directory: %w", err)
		}
		inside = scratch
	}
	command, err := params.command(id, endpoint, inside, s.environ, level, s.site)
	if err == nil {
		err = notConfined(params.Policy, s.launch(id, scratch, params, func(w *supervised) (*Child, sandbox.Level, error) {
			command.Group = w.group
			if s.groups == nil && w.limitBytes > 0 { // the watch is all there is
				command.Sandbox.DenyUnmapped, command.Sandbox.Limits.DataBytes = true, dataBytes(w.limitBytes)
			}
			child, err := s.launcher.Launch(command)
			wake(s.launched) // a sandbox that could not be made leaves processes too
			return child, command.level(), err
		}))
	}
	if err != nil && scratch != "" {
		return errors.Join(err, os.RemoveAll(scratch))
	}
	return err
}

var errEnding = errors.New("the supervisor is ending")

// launch takes care of worker id, whose process start makes. It holds the
// server's mu all the while, so that a death is seen when the worker is known.
func (s *server) launch(id, scratch string, params launchParams, start func(*supervised) (*Child, sandbox.Level, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return errEnding
	case s.workers[id] != nil:
		return fmt.Errorf("worker %s runs already", id)
	case len(s.workers) >= supervisedMax:
		return fmt.Errorf("%d workers run already", supervisedMax)
	case len(s.pending) >= eventsMax:
		return fmt.Errorf("%d events were not read", eventsMax)
	}
	w := &supervised{id: id, scratch: scratch, limitBytes: params.MemoryBytes, scratchBytes: params.scratchBytes(), read: make(chan struct{})}
	if err := s.limitLocked(w); err != nil {
		return err
	}
	child, level, err := start(w)
	if err != nil {
		if w.group != nil {
			s.finishing.Go(func() { s.removeGroup(w.id, w.group) })
		}
		return err
	}
	w.child, w.target = child, child.PID
	if level == sandbox.External { // a launcher does not pass signals on
		w.target = -child.PID
	}
	if w.group != nil {
		if err := w.group.OnLimit(func() { s.atLimit(w) }); err != nil {
			fmt.Fprintf(s.log, "worker %s: its control group tells nothing: %v\n", id, err) // it is looked at all the same
		}
	}
	s.workers[id], s.byPID[child.PID] = w, w
	s.emitLocked(Event{
		Worker: id, Kind: EventStarted, PID: child.PID, Forked: w.zygote != nil, When: time.Now(),
		Level: reached(level, w.group != nil && s.control.Kind == string(cgroup.V2)),
	})
	go func() {
		defer close(w.read)
		_, _ = io.Copy(&w.output, child.Output) // ends with the pipe, or by its deadline
	}()
	wake(s.watched)
	return nil
}

// wake has whoever waits at a channel with room for one look again.
func wake(sleeper chan struct{}) {
	select {
	case sleeper <- struct{}{}:
	default:
	}
}

// limitLocked prepares what keeps worker w's limit of memory.
func (s *server) limitLocked(w *supervised) (err error) {
	meter := memoryMeter{limitBytes: w.limitBytes}
	if s.groups == nil {
		if w.limitBytes > 0 {
			w.memory = &memoryWatch{memoryMeter: meter, system: procProcesses{}}
		}
		return nil
	}
	s.launches++
	w.group, err = s.groups.New(fmt.Sprintf("%s-%d", w.id, s.launches), cgroup.Limits{MemoryBytes: w.limitBytes, TasksMax: processesMax})
	if w.limitBytes > 0 {
		w.memory = &memoryGroup{memoryMeter: meter, group: w.group}
	}
	return err
}

// watchMemory looks at what workers hold as long as the process lives, and
// ends those that hold more than they may.
func (s *server) watchMemory() {
	runtime.LockOSThread()
	prefer() // what it watches may keep all processors busy
	for {
		s.mu.Lock()
		var limited []*supervised
		for _, w := range s.workers {
			if w.memory != nil {
				limited = append(limited, w)
			}
		}
		s.oom.recent(time.Now())
		s.mu.Unlock()
		if len(limited) == 0 {
			<-s.watched
			continue
		}
		pause := watchSlow
		for _, w := range limited {
			pause = min(pause, s.lookAt(w))
		}
		time.Sleep(pause)
	}
}

// lookAt measures one worker, and says how soon to do so again.
func (s *server) lookAt(w *supervised) (pause time.Duration) {
	exceeded, pause := w.memory.look(time.Now(), w.child.PID, func(known []int) []int { return s.strays(w.id, known) })
	m := w.memory.meter()
	s.mu.Lock()
	defer s.mu.Unlock()
	w.peakBytes = m.peakBytes
	if s.workers[w.id] != w {
		return pause // it has died meanwhile
	}
	if len(s.pending) < eventsMax/2 {
		if bytes, tell := m.news(time.Now()); tell {
			s.emitLocked(Event{Worker: w.id, Kind: EventMemory, MemoryBytes: bytes, When: time.Now()})
		}
	}
	switch {
	case exceeded:
		w.overLimit = true
		w.killGroup()
	case s.softLevel && m.soft(time.Now()):
		w.askForMemory()
		if len(s.pending) < eventsMax/2 {
			s.emitLocked(Event{Worker: w.id, Kind: EventMemory, MemoryBytes: m.nowBytes, Near: true, When: time.Now()})
		}
	}
	return pause
}

// atLimit ends a worker of which the kernel kills one process, before another
// of them finds that one dead and goes on.
func (s *server) atLimit(w *supervised) {
	u, err := w.group.Usage()
	if err != nil || !u.AtLimit {
		return // the group is gone, or another one is out of memory
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers[w.id] == w {
		w.overLimit = true
		w.killGroup()
	}
}

// askForMemory has the worker give back what it does not need: a byte on its
// standard input. Where it does not read, the byte is dropped.
func (w *supervised) askForMemory() {
	_ = w.child.Input.SetWriteDeadline(time.Now().Add(askTime)) // a pipe has deadlines
	_, _ = w.child.Input.Write([]byte{'\n'})
}

// strays are the processes of a living worker that left its tree, and are this
// process's children since: those whose environment says so, and those that
// hide it and were known before. In a pid namespace they are all below its
// process 1.
func (s *server) strays(id string, known []int) (pids []int) {
	s.mu.Lock()
	w := s.workers[id]
	s.mu.Unlock()
	if w != nil && w.child.Reaper != 0 {
		return []int{w.child.Reaper}
	}
	for _, pid := range childrenOf(os.Getpid()) {
		s.mu.Lock()
		worker := s.byPID[pid] != nil
		s.mu.Unlock()
		if worker {
			continue
		}
		if of := workerOf(pid); of == id || of == "" && slices.Contains(known, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// StopWorker implements Beam's external worker pool: SIGINT, so that the
// function that runs can clean up, and SIGKILL after graceTime. It returns at
// once; the event tells when the worker is dead.
func (s *server) StopWorker(_ context.Context, r *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	s.stop(r.GetWorkerId(), func(w *supervised) { _ = syscall.Kill(w.target, syscall.SIGINT) })
	return &fnpb.StopWorkerResponse{}, nil
}

// end implements lifeServer: the worker's standard input ends, on which the
// harness exits, and SIGKILL follows after graceTime.
func (s *server) end(id string) {
	s.stop(id, func(w *supervised) { _ = w.child.Input.Close() })
}

// stop asks worker id to end; a worker that is not known is dead already.
func (s *server) stop(id string, ask func(*supervised)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[id]
	if w == nil {
		return
	}
	w.stopped = true
	ask(w)
	if w.kill != nil {
		return
	}
	w.kill = time.AfterFunc(graceTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.workers[id] == w {
			w.killGroup()
		}
	})
}

// killGroup kills the worker and its process group, which a function may have
// left. The server's mu is held and the worker not reaped, so the number is its
// own. What left the group is killed when the worker is dead, as its control
// group or by the end of its namespace.
func (w *supervised) killGroup() {
	for _, target := range []int{-w.child.PID, w.child.PID} {
		_ = syscall.Kill(target, syscall.SIGKILL)
	}
}

// endNamespace has the kernel kill all that is left in a child's pid namespace.
func endNamespace(child *Child) {
	if child.End != nil {
		_ = child.End.Close() // a pipe's end
	}
}

// reapAll reaps children as long as the process lives.
func (s *server) reapAll() {
	for {
		pid, err := nextDead()
		if errors.Is(err, syscall.ECHILD) {
			<-s.launched // without a child there is nobody who could leave an orphan
			continue
		}
		if err != nil {
			fmt.Fprintf(s.log, "waiting for workers: %v\n", err)
			time.Sleep(scratchPause)
			continue
		}
		s.bury(pid)
	}
}

// bury reaps child pid. Where it was a worker, the rest of its process group
// dies with it, and a goroutine reports the death and cleans up.
func (s *server) bury(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.byPID[pid]
	if w != nil {
		w.killGroup()
		endNamespace(w.child)
	}
	status, usage, err := reap(pid)
	if z := s.zygotePIDs[pid]; z != nil {
		u, err := z.group.Usage()
		z.killed = status.Signaled() && status.Signal() == syscall.SIGKILL && (err != nil || u.Kills == 0 || !u.AtLimit)
		s.buryZygoteLocked(z)
	}
	if w != nil {
		delete(s.byPID, pid)
		delete(s.workers, w.id)
		if w.kill != nil {
			w.kill.Stop()
		}
		e := Event{
			Worker: w.id, Kind: EventExited, PID: pid, ExitCode: -1, Stopped: w.stopped,
			PeakBytes: max(int64(usage.Maxrss)*rssUnitBytes, w.peakBytes), //nolint:unconvert // int32 on some systems
			OverLimit: w.overLimit, OverScratch: w.overScratch, LimitBytes: w.limitBytes,
			CPUTime: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
			When:    time.Now(),
		}
		switch {
		case err != nil:
			fmt.Fprintf(s.log, "worker %s: its status is lost: %v\n", w.id, err)
		case status.Signaled():
			e.Signal = int(status.Signal())
			e.KernelOOM = w.group == nil && status.Signal() == syscall.SIGKILL && !w.stopped && !w.overLimit && s.oom.recent(time.Now())
		default:
			e.ExitCode = status.ExitStatus()
		}
		w.askGroup(&e)
		s.finishing.Go(func() { s.finish(w, e) })
	}
	s.killOrphansLocked(false)
}

// askGroup adds to a death what the control group knows of it.
func (w *supervised) askGroup(e *Event) {
	if w.group == nil {
		return
	}
	u, err := w.group.Usage()
	if err != nil || u.Kills == 0 && !e.OverLimit {
		return
	}
	e.OverLimit, e.KernelOOM = e.OverLimit || u.AtLimit, !u.AtLimit && e.Signal == int(syscall.SIGKILL)
	if u.AtLimit {
		e.PeakBytes = u.PeakBytes // what a process had mapped may be charged to others
	}
}

// removeGroup kills what is left in the group of a dead worker or zygote, and
// removes it.
func (s *server) removeGroup(id string, group *cgroup.Group) {
	var err error
	for range groupTries {
		group.Kill()
		if err = group.Remove(); err == nil {
			return
		}
		time.Sleep(groupPause)
	}
	fmt.Fprintf(s.log, "%s: its control group is left over: %v\n", id, err)
}

// killOrphansLocked kills processes that left their worker's process group and
// whose worker is dead. Those that hide whose they are die with the last
// worker, or when all is set.
func (s *server) killOrphansLocked(all bool) {
	reapers := map[int]bool{}
	for _, w := range s.workers {
		reapers[w.child.Reaper] = true
	}
	for z := range s.sandboxes {
		reapers[z.child.Reaper] = true
	}
	for _, pid := range children() {
		if s.byPID[pid] != nil || s.zygotePIDs[pid] != nil || reapers[pid] {
			continue
		}
		if all || len(s.workers) == 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			continue
		}
		if id := workerOf(pid); id != "" && s.workers[id] == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// finish reads the last output of a worker that is dead, reports the death
// and removes its group and its scratch directory.
func (s *server) finish(w *supervised, e Event) {
	if w.group != nil {
		w.group.Kill() // what left its process group
		defer s.removeGroup(w.id, w.group)
	}
	_ = w.child.Input.Close()
	_ = w.child.Output.SetReadDeadline(time.Now().Add(outputTime))
	<-w.read
	_ = w.child.Output.Close()
	e.Output = w.output.String()
	s.mu.Lock()
	s.emitLocked(e)
	s.mu.Unlock()
	if w.zygote != nil {
		s.moveOut(w.zygote, w.id)
		return
	}
	s.removeScratch(w.id, w.scratch)
}

// removeScratch removes the scratch directory of a dead worker or zygote.
func (s *server) removeScratch(id, dir string) {
	var err error
	for try := range scratchTries {
		if err = os.RemoveAll(dir); err == nil {
			return
		}
		if try == 0 {
			openDirectories(dir)
		}
		time.Sleep(scratchPause)
	}
	fmt.Fprintf(s.log, "%s: its scratch directory is left over: %v\n", id, err)
}

// openDirectories makes directories removable that a function has closed. It
// stays within root, whatever links a process that is still alive puts there.
func openDirectories(dir string) {
	_ = os.Chmod(dir, 0o700) // it is ours; what cannot be opened is reported by its removal
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }() // a handle of a folder
	_ = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = root.Chmod(path, 0o700)
		}
		return nil
	})
}

func (s *server) emitLocked(e Event) {
	s.pending = append(s.pending, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// events implements lifeServer. The engine is the only one that listens.
func (s *server) events(ctx context.Context, send func(Event) error) error {
	for {
		s.mu.Lock()
		batch, changed := s.pending, s.changed
		s.pending = nil
		s.mu.Unlock()
		for _, e := range batch {
			if err := send(e); err != nil {
				return err
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shutdown kills all workers and what they left, and waits until nothing is
// left of them. Whoever calls it second waits for the first.
func (s *server) shutdown() {
	s.once.Do(func() {
		s.mu.Lock()
		s.closing = true
		for _, w := range s.workers {
			w.stopped = true
			w.killGroup()
		}
		for _, z := range s.zygotePIDs {
			z.kill()
		}
		s.mu.Unlock()
		<-s.probed
		for deadline := time.Now().Add(shutdownTime); time.Now().Before(deadline); time.Sleep(shutdownPoll) {
			s.mu.Lock()
			s.killOrphansLocked(true)
			done := len(s.byPID) == 0 && len(s.sandboxes) == 0 && len(children()) == 0
			s.mu.Unlock()
			if done {
				break
			}
		}
		s.finishing.Wait()
		if s.groups != nil {
			s.groups.Close()
		}
	})
}
