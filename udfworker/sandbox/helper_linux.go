package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The helper takes over here and not in main: the packages of an engine take
// ten times as long to initialise as a worker's sandbox takes to be made.
func init() {
	if len(os.Args) == 1 && os.Args[0] == helperName {
		runtime.LockOSThread()
		os.Exit(help())
	}
}

// helper is the process between the supervisor and a worker. At L1 it becomes
// the worker. At L2 it starts two processes in a new pid namespace, of which it
// is no member, and ends: the reaper, process 1 there, and the worker. Both are
// made children of its parent's (CLONE_PARENT), so that the supervisor has the
// worker's own wait status and its number in its own namespace.
//
// All layers are put on the helper's one thread that the worker is made from.
type helper struct {
	request
	status *os.File
	told   answer
}

// helperFailed is the helper's exit status where something failed.
const helperFailed = 120

func help() int {
	// Of this process's descriptors the program gets the first three; no other
	// was inherited, since the supervisor's own are closed on execution.
	for _, fd := range []int{specFD, statusFD, endFD} {
		syscall.CloseOnExec(fd)
	}
	h := &helper{status: os.NewFile(statusFD, "status")}
	text, err := io.ReadAll(os.NewFile(specFD, "spec"))
	if err == nil {
		err = json.Unmarshal(text, &h.request)
	}
	if err != nil {
		err = &Error{Layer: layerHelper, Text: err.Error()}
	} else {
		err = h.run()
	}
	if err != nil {
		failed, ok := errors.AsType[*Error](err)
		if !ok {
			failed = &Error{Layer: layerHelper, Text: err.Error()}
		}
		h.answer(answer{Error: failed, Layers: h.told.Layers})
		return helperFailed
	}
	return 0
}

func (h *helper) answer(a answer) {
	text, _ := json.Marshal(a)                // texts and numbers
	_, _ = h.status.Write(append(text, '\n')) // nobody is there: then nothing matters
}

// step does one layer and remembers that it is on.
func (h *helper) step(layer string, do func() error) error {
	err := do()
	if err == nil {
		h.told.Layers = append(h.told.Layers, layer)
		return nil
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed
	}
	return &Error{Layer: layer, Text: err.Error()}
}

func (h *helper) run() error {
	preferVictim()
	steps := []struct {
		layer string
		do    func() error
	}{
		{layerMounts, h.ownRoot},
		{layerProc, h.sealRoot},
		{layerLimits, h.limit},
		{layerCapabilities, dropCapabilities},
		{layerPrivileges, func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{layerLandlock, h.landlock},
		{layerSeccomp, h.seccomp},
	}
	if h.Level < L2 {
		steps = steps[2:]
	} else {
		h.told.Layers = append(h.told.Layers, layerUser) // the supervisor has made it
	}
	for _, s := range steps {
		if err := h.step(s.layer, s.do); err != nil {
			return err
		}
	}
	if h.Level < L2 {
		return h.become()
	}
	return h.spawn()
}

// preferVictim makes the kernel, short of memory, end workers before engines.
func preferVictim() {
	const score = 500
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0) // a wish
}

// limit sets limits that nobody in the sandbox can raise again.
func (h *helper) limit() error {
	limits := []struct {
		resource int
		value    int64
	}{
		{unix.RLIMIT_FSIZE, h.Limits.FileBytes},
		{unix.RLIMIT_NOFILE, h.Limits.OpenFiles},
		{unix.RLIMIT_DATA, h.Limits.DataBytes},
	}
	if h.Level >= L2 {
		limits = append(limits, struct {
			resource int
			value    int64
		}{unix.RLIMIT_NPROC, h.Limits.Processes})
	}
	for _, l := range limits {
		var now unix.Rlimit
		if l.value == 0 || unix.Getrlimit(l.resource, &now) == nil && now.Max <= uint64(l.value) {
			continue
		}
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: uint64(l.value), Max: uint64(l.value)}); err != nil {
			return err
		}
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

// dropCapabilities gives up all, those that a program could bring included. In
// a user namespace of its own, or as root, the thread has the right to.
func dropCapabilities() error {
	const capabilitiesMax = 64
	for c := range uintptr(capabilitiesMax) {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
			break // the last one; or an ordinary user, to whom no_new_privs does the same
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

// seccomp puts the filter on this thread.
func (h *helper) seccomp() error {
	return install(filterOptions{
		network: h.Network, denyUnmapped: h.DenyUnmapped, ownIPC: h.Level >= L2, ownProcesses: h.Level >= L2,
	})
}

// become makes the helper the program.
func (h *helper) become() error {
	// Changing credentials has cleared the wish to die with the supervisor.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// Not "is it 1?": an engine in a container is process 1.
	if os.Getppid() != h.Parent {
		return errors.New("the supervisor is gone")
	}
	h.answer(h.told)
	if h.Trial {
		return nil
	}
	if err := os.Chdir(h.Dir); err != nil {
		return &Error{Layer: LayerProgram, Path: h.Dir, Text: reason(err)}
	}
	if err := syscall.Exec(h.Argv[0], h.Argv, h.Env); err != nil {
		return programError(h.Argv[0], err)
	}
	return nil
}

// spawn starts the program in the pid namespace that ownProcesses has made.
func (h *helper) spawn() error {
	argv, env, dir := h.Argv, h.Env, h.Dir
	files := []uintptr{0, 1, 2}
	if h.Trial {
		argv, env, dir = []string{reaperPath}, []string{}, "/"
	}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT, Setpgid: true},
	})
	if err != nil {
		return programError(argv[0], err)
	}
	h.told.PID = pid
	h.answer(h.told)
	return nil
}

func programError(path string, err error) error {
	return &Error{Layer: LayerProgram, Path: path, Missing: errors.Is(err, unix.ENOENT), Text: reason(err)}
}

// reason is an error without the path that it is about.
func reason(err error) string {
	if at, ok := errors.AsType[*os.PathError](err); ok {
		return at.Err.Error()
	}
	return err.Error()
}

// ownProcesses makes a pid namespace and, in the new root, which is the working
// directory, process 1 in it, which mounts a
// private /proc before it becomes the reaper: the kernel lets nobody else.
// Where /proc of the machine is masked, as in containers, that is refused, and
// the worker has none; Python and its libraries live without.
func (h *helper) ownProcesses() error {
	if err := unix.Unshare(unix.CLONE_NEWPID); err != nil {
		return err
	}
	// Process 1 needs no rights but for the mount: the execution takes them.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	// Process 1 reaps nobody, which is kept over the execution. The program must
	// not inherit it: it could not wait for its children. signal.Reset would
	// leave it ignored; what is caught is reset for a new process.
	signal.Ignore(syscall.SIGCHLD)
	defer signal.Notify(make(chan os.Signal, 1), syscall.SIGCHLD)
	first := firstProcess{
		path: cString("." + reaperPath), proc: cString("proc"), target: cString("proc"),
		flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY,
	}
	first.argv[0] = first.path
	pid, errno := first.start()
	if errno != 0 {
		return errno
	}
	h.told.Reaper = int(pid)
	return nil
}
