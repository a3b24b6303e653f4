package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helperName is the helper's argument list: a program that imports this room
// becomes the helper when it is started under this name.
const helperName = "alink-sandbox"

// Descriptors that the helper gets besides the worker's own.
const (
	specFD = 3 + iota
	statusFD
	endFD
)

// statusTime bounds the wait for the helper's answer.
const statusTime = 10 * time.Second

// statusBytesMax bounds the answer.
const statusBytesMax = 64 << 10

// request is what the helper reads; answer is what it writes.
type request struct {
	Spec
	Parent int `json:"parent"`
	// Trial puts on all layers and runs nothing of anybody's.
	Trial bool `json:"trial,omitempty"`
}

// answer is one of the lines that the helper writes. The last may be of an
// error that came after the others; the end says that the program runs.
type answer struct {
	PID    int      `json:"pid,omitempty"`
	Reaper int      `json:"reaper,omitempty"`
	Layers []string `json:"layers,omitempty"`
	// Notes are layers that are missing without being needed.
	Notes []Error `json:"notes,omitempty"`
	Error *Error  `json:"error,omitempty"`
}

// Start starts a process through the helper, with stdin and stdout as its
// standard input and output, and stdout as its standard error too. It must be
// called on a thread that lives as long as the process may: the kernel ends the
// process when that thread is gone. Whoever reaps children finds the helper
// among them at L2. within calls the function that it is given, which forks
// with the attributes: a control group has all that comes of it from the
// beginning. An *Error says which layer failed.
func Start(spec Spec, stdin, stdout uintptr, within func(*syscall.SysProcAttr, func() error) error) (*Process, error) {
	process, _, err := start(request{Spec: spec, Parent: os.Getpid()}, stdin, stdout, within)
	return process, err
}

// alone forks as Start's within does where there is no control group.
func alone(_ *syscall.SysProcAttr, fork func() error) error { return fork() }

func start(r request, stdin, stdout uintptr, within func(*syscall.SysProcAttr, func() error) error) (process *Process, told answer, err error) {
	var ends pipes
	defer ends.close()
	text, err := json.Marshal(r)
	if err != nil {
		return nil, told, err
	}
	specReader, specWriter, err := ends.pipe()
	if err != nil {
		return nil, told, err
	}
	statusReader, statusWriter, err := ends.pipe()
	if err != nil {
		return nil, told, err
	}
	endReader, endWriter, err := ends.pipe()
	if err != nil {
		return nil, told, err
	}
	// A pipe takes 64 KiB before somebody reads; where that is too little, the
	// rest waits for the helper.
	_, _ = unix.FcntlInt(specWriter.Fd(), unix.F_SETPIPE_SZ, max(64<<10, len(text)))
	_ = syscall.SetNonblock(int(specWriter.Fd()), true)
	if n, err := syscall.Write(int(specWriter.Fd()), text); n != len(text) {
		return nil, told, fmt.Errorf("the description of the process has %d bytes, which is too much: %w", len(text), err)
	}
	_ = specWriter.Close()
	files := []uintptr{stdin, stdout, stdout, specReader.Fd(), statusWriter.Fd(), endReader.Fd()}
	var pid int
	attributes := helperAttributes(r.Spec)
	err = within(attributes, func() (err error) {
		pid, err = syscall.ForkExec("/proc/self/exe", []string{helperName}, &syscall.ProcAttr{Env: helperEnv, Files: files, Sys: attributes})
		return err
	})
	runtime.KeepAlive(specReader)
	runtime.KeepAlive(endReader)
	if err != nil {
		if pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return nil, told, &Error{Layer: forkLayer(r.Spec, err), Text: err.Error()}
	}
	_ = statusWriter.Close()
	told, err = readAnswer(statusReader)
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return nil, told, err
	}
	process = &Process{PID: pid}
	if told.PID != 0 {
		process.PID, process.Reaper, process.End = told.PID, told.Reaper, endWriter
		ends.keep(endWriter)
	}
	return process, told, nil
}

func readAnswer(status *os.File) (told answer, err error) {
	if err := status.SetReadDeadline(time.Now().Add(statusTime)); err != nil {
		return told, err
	}
	decoder := json.NewDecoder(io.LimitReader(status, statusBytesMax))
	for answers := 0; ; answers++ {
		err := decoder.Decode(&told)
		switch {
		case errors.Is(err, io.EOF) && answers > 0:
			return told, nil
		case err != nil:
			return told, &Error{Layer: layerHelper, Text: "it ended without an answer: " + err.Error()}
		case told.Error != nil:
			return told, told.Error
		}
	}
}

// helperEnv keeps the helper's own runtime small: it lives for milliseconds.
var helperEnv = []string{"GOGC=off", "GOMAXPROCS=1", "GORACE=atexit_sleep_ms=0"}

// insideID is what the worker sees itself as. Outside it is the engine's user.
const insideID = 1000

func helperAttributes(s Spec) *syscall.SysProcAttr {
	sys := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if s.Level < L2 {
		return sys
	}
	sys.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if !s.Network {
		sys.Cloneflags |= syscall.CLONE_NEWNET
	}
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: insideID, HostID: os.Geteuid(), Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: insideID, HostID: os.Getegid(), Size: 1}}
	// Not being root in there, it would lose its capabilities when it executes
	// itself.
	sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	return sys
}

// forkLayer is the layer that failed when the helper itself was not started.
func forkLayer(s Spec, err error) string {
	if s.Level >= L2 && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EAGAIN) {
		return layerUser
	}
	return layerHelper
}

// pipes closes what is not kept.
type pipes []*os.File

func (p *pipes) pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err == nil {
		*p = append(*p, r, w)
	}
	return r, w, err
}

func (p *pipes) keep(file *os.File) {
	for i, f := range *p {
		if f == file {
			(*p)[i] = nil
		}
	}
}

func (p *pipes) close() {
	for _, f := range *p {
		if f != nil {
			_ = f.Close() // a pipe's end
		}
	}
}
