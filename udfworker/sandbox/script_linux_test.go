//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// launched runs a script on the tests' launcher, and ends what it has left.
func launched(t *testing.T, write func(c *confinement)) (c *confinement, err error) {
	t.Helper()
	_, end, pipeErr := os.Pipe()
	if pipeErr != nil {
		t.Fatal(pipeErr)
	}
	c = &confinement{script: &script{}}
	c.layer = "a layer"
	c.process(nil)
	write(c)
	done := make(chan struct{})
	launcher <- func() {
		defer close(done)
		_, err = c.launch(0, &syscall.SysProcAttr{})
	}
	<-done
	c.abandon(0, end)
	if pid, err := syscall.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("process %d is left: %v", pid, err)
	}
	return c, err
}

// A script ends with its first error, in whichever process that is, and the
// error says what it is about.
func TestScriptsThatFail(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	open := func(c *confinement) {
		c.add(label{path: missing, doing: "open it"}, unix.SYS_OPENAT, c.here(), c.text(missing))
	}
	want := Error{Layer: "a layer", Path: missing, Missing: true, Text: "open it: no such file or directory"}
	for name, write := range map[string]func(c *confinement){
		"itself":  open,
		"a child": func(c *confinement) { c.process(&c.first); open(c); c.process(nil) },
		"the last": func(c *confinement) {
			c.process(&c.first)
			c.execute([]string{"/bin/true"}, nil)
			c.process(&c.worker)
			open(c)
		},
	} {
		c, err := launched(t, func(c *confinement) {
			write(c)
			c.layer = "what comes after"
			c.add(label{path: "not reached"}, unix.SYS_EXIT_GROUP, 0)
		})
		if failed, ok := errors.AsType[*Error](err); !ok || *failed != want {
			t.Errorf("%s: %v", name, err)
		}
		if done := c.done(); len(done) != 0 {
			t.Errorf("%s: done are %q", name, done)
		}
	}
}

// A script that is ended, as one that hangs is, names the step that it was at,
// and takes what it has started with it, whichever of its processes it was.
func TestScriptsThatAreEnded(t *testing.T) {
	for name, own := range map[string]struct{ killer, killed bool }{
		"itself": {false, false}, "a child": {true, true}, "while a child hangs": {true, false},
	} {
		var self int32
		c, err := launched(t, func(c *confinement) {
			number := func() { c.add(label{}, unix.SYS_GETPID).into = &self }
			number()
			c.layer = "another layer"
			if own.killer {
				c.process(&c.worker)
			}
			if own.killed {
				number()
			}
			about := label{path: "/slow"}
			c.add(about, unix.SYS_KILL, 0, uintptr(unix.SIGKILL)).from = &self
			c.add(about, unix.SYS_PPOLL) // for ever
		})
		failed, ok := errors.AsType[*Error](err)
		if !ok || failed.Layer != "another layer" || failed.Path != "/slow" || !strings.Contains(failed.Text, "was ended") {
			t.Errorf("%s: %v", name, err)
		}
		if done := c.done(); !slices.Equal(done, []string{"a layer"}) {
			t.Errorf("%s: done are %q", name, done)
		}
	}
}

// Of the engine a program inherits its first three descriptors, and no signal
// is held back.
func TestWhatAProgramInherits(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	leak, err := syscall.Dup(int(null.Fd())) // what a library opens need not be closed on execution
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		spec := shell(t, level, "")
		spec.Argv = []string{"/bin/ls", "-1", "/proc/self/fd"}
		out, _ := run(t, spec)
		if got := strings.Fields(out); !slices.Equal(got, []string{"0", "1", "2", "3"}) { // the last is the folder
			t.Errorf("descriptors: %q, %d among them", got, leak)
		}
		spec.Argv = []string{"/bin/cat", "/proc/self/status"}
		out, _ = run(t, spec)
		if !strings.Contains(out, "SigBlk:\t0000000000000000\n") {
			t.Error(out)
		}
	})
}

// A control group of version 2 is entered by the clone itself.
func TestControlGroup(t *testing.T) {
	needs(t, L1)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var root string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[2] == "cgroup2" {
			root = fields[1]
		}
	}
	if root == "" {
		t.Skip("no control groups of version 2 are mounted here")
	}
	group, err := os.MkdirTemp(root, "alink-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.Remove(group)
	fd, err := unix.Open(group, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		var p *Process
		done := make(chan struct{})
		launcher <- func() {
			defer close(done)
			p, err = Start(shell(t, level, "exec sleep 100"), null.Fd(), null.Fd(), func(a *syscall.SysProcAttr, fork func() error) error {
				a.UseCgroupFD, a.CgroupFD = true, fd
				return fork()
			})
		}
		<-done
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
		if err != nil || !strings.Contains(string(text), filepath.Base(group)) {
			t.Errorf("%s, %v", text, err)
		}
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		end(t, p)
	})
}
