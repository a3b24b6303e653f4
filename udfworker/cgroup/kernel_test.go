//go:build linux

package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain also is a process that holds memory, and one that makes a pool in
// a group that it is moved to.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "hold" {
		hold(os.Args[2])
	}
	if len(os.Args) > 2 && os.Args[1] == "open" {
		openIn(os.Args[2])
	}
	os.Exit(m.Run())
}

const holdBytes = 256 << 20

// hold takes memory in one of several ways.
func hold(how string) {
	const file = "/dev/shm/alink-cgroup-test"
	switch how {
	case "child":
		child := exec.Command(os.Args[0], "hold", "heap")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		fmt.Println(child.Run())
	case "memfd":
		fd, err := unix.MemfdCreate("test", 0)
		if err == nil {
			writeAll(os.NewFile(uintptr(fd), "memfd"))
		}
		fmt.Println(err)
	case "tmpfs":
		f, err := os.Create(file)
		if err == nil {
			_ = os.Remove(file)
			writeAll(f)
		}
		fmt.Println(err)
	case "heap":
		kept := [][]byte{}
		for range holdBytes >> 20 {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		}
		runtime.KeepAlive(kept)
	}
	fmt.Println("held")
	time.Sleep(time.Minute)
	os.Exit(1)
}

func writeAll(f *os.File) {
	piece := bytes.Repeat([]byte{1}, 1<<20)
	for range holdBytes >> 20 {
		if _, err := f.Write(piece); err != nil {
			fmt.Println(err)
			return
		}
	}
}

// openIn moves this process to a group, makes a pool there and says where.
func openIn(dir string) {
	if err := (kernel{}).Write(dir+"/cgroup.procs", "0"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	control, refused := Open(V2)
	if control == nil {
		fmt.Println(refused)
		os.Exit(1)
	}
	fmt.Println(control.Place())
	os.Exit(0) // as if it had been killed: the pool is left
}

// start starts this program in a group.
func start(t *testing.T, g *Group, how string) (pid int, output *bufio.Reader) {
	t.Helper()
	reader, writer, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { reader.Close() })
	type started struct {
		pid int
		err error
	}
	done := make(chan started)
	go func() {
		runtime.LockOSThread()
		attributes := &syscall.SysProcAttr{Setpgid: true}
		var s started
		s.err = g.Fork(attributes, func() (err error) {
			self, _ := os.Executable()
			s.pid, err = syscall.ForkExec(self, []string{self, "hold", how}, &syscall.ProcAttr{
				Env: os.Environ(), Files: []uintptr{0, writer.Fd(), writer.Fd()}, Sys: attributes,
			})
			return err
		})
		done <- s
	}()
	s := <-done
	must(t, s.err, writer.Close())
	pid = s.pid
	t.Cleanup(func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
	return pid, bufio.NewReader(reader)
}

func wait(t *testing.T, pid int) syscall.WaitStatus {
	t.Helper()
	var status syscall.WaitStatus
	_, err := syscall.Wait4(pid, &status, 0, nil)
	must(t, err)
	return status
}

func openKernel(t *testing.T, kind Kind) *Control {
	t.Helper()
	control, refused := Open(kind)
	if control == nil {
		t.Skipf("this machine has no %s for us: %s", kind, refused[0].Why)
	}
	t.Cleanup(func() {
		control.Close()
		if _, err := os.Stat(control.Place()); err == nil {
			t.Errorf("the pool %s is left", control.Place())
		}
	})
	return control
}

func remove(t *testing.T, g *Group) {
	t.Helper()
	var err error
	for range 200 {
		if err = g.Remove(); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error(err)
}

// TestKernelKeepsTheLimit whatever the memory is, and says so.
func TestKernelKeepsTheLimit(t *testing.T) {
	const limit = 64 << 20
	for _, kind := range Kinds {
		control := map[Kind]*Control{}
		for _, how := range []string{"heap", "memfd", "tmpfs", "child"} {
			t.Run(string(kind)+"/"+how, func(t *testing.T) {
				if how == "tmpfs" && unix.Access("/dev/shm", unix.W_OK) != nil {
					t.Skip("there is no /dev/shm")
				}
				control[kind] = openKernel(t, kind)
				g, err := control[kind].New("w1", Limits{MemoryBytes: limit, TasksMax: 64})
				must(t, err)
				told := make(chan struct{}, 100)
				must(t, g.OnLimit(func() { told <- struct{}{} }))
				pid, output := start(t, g, how)
				if how == "child" && kind == V1 {
					// The kernel kills the child alone.
					line, _ := output.ReadString('\n')
					if !strings.Contains(line, "killed") {
						t.Errorf("the child: %q", line)
					}
					g.Kill()
				}
				if status := wait(t, pid); !status.Signaled() || status.Signal() != syscall.SIGKILL {
					t.Errorf("status %x", status)
				}
				u, err := g.Usage()
				must(t, err)
				if kind == V1 {
					<-told
				}
				// Each processor charges some pages ahead.
				const aheadBytes = 1 << 20
				if u.Kills == 0 || !u.AtLimit || u.PeakBytes > limit+aheadBytes || u.PeakBytes < limit/2 {
					t.Errorf("%+v", u)
				}
				remove(t, g)
			})
		}
	}
}

// TestKernelKillsAll that is in a group, in sessions of their own too.
func TestKernelKillsAll(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			control := openKernel(t, kind)
			g, err := control.New("w1", Limits{MemoryBytes: 2 * holdBytes})
			must(t, err)
			pid, _ := start(t, g, "child")
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				pids, err := control.processes(g.dir)
				must(t, err)
				if len(pids) == 2 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("processes %v", pids)
				}
			}
			g.Kill()
			if status := wait(t, pid); status.Signal() != syscall.SIGKILL {
				t.Errorf("status %x", status)
			}
			remove(t, g)
		})
	}
}

// TestKernelMovesAProcess to a group without a limit of memory, which has
// nothing at its limit.
func TestKernelMovesAProcess(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			control := openKernel(t, kind)
			first, err := control.New("w1", Limits{MemoryBytes: 2 * holdBytes, TasksMax: 64})
			must(t, err)
			second, err := control.New("w2", Limits{TasksMax: 64})
			must(t, err)
			pid, _ := start(t, first, "child")
			must(t, second.Add(pid))
			for _, dir := range []string{second.dir, second.tasks} {
				if dir == "" {
					continue
				}
				if pids, err := control.processes(dir); err != nil || !slices.Contains(pids, pid) {
					t.Errorf("processes %v in %s, %v", pids, dir, err)
				}
			}
			if u, err := second.Usage(); err != nil || u.AtLimit {
				t.Errorf("%+v, %v", u, err)
			}
			second.Kill()
			if status := wait(t, pid); status.Signal() != syscall.SIGKILL {
				t.Errorf("status %x", status)
			}
			if err := second.Add(pid); err == nil {
				t.Error("a process that is gone was moved")
			}
			first.Kill() // its child
			remove(t, first)
			remove(t, second)
		})
	}
}

// TestKernelPlaces2 moves a process around in a tree of version 2, where this
// process is its root's.
func TestKernelPlaces2(t *testing.T) {
	control := openKernel(t, V2)
	if path.Dir(control.Place()) != control.home {
		t.Skip("this process's group has no groups with limits within")
	}
	base := path.Join(control.home, "alink-test")
	for name, delegated := range map[string]bool{"delegated": true, "beside": false} {
		t.Run(name, func(t *testing.T) {
			dir := path.Join(base, name)
			tree := kernel{}
			must(t, tree.Mkdir(base), tree.Write(base+"/cgroup.subtree_control", "+memory"), tree.Mkdir(dir))
			t.Cleanup(func() { removeAll(base) })
			want := base
			if delegated {
				must(t, unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0))
				want = dir
			}
			self, err := os.Executable()
			must(t, err)
			for range 2 { // the second one finds what the first one has left
				said, err := exec.CommandContext(t.Context(), self, "open", dir).CombinedOutput()
				if err != nil || path.Dir(strings.TrimSpace(string(said))) != want {
					t.Fatalf("%v: %s", err, said)
				}
				names, err := tree.Dirs(want)
				must(t, err)
				if pools := strings.Count(strings.Join(names, "\n"), poolPrefix); pools != 1 {
					t.Errorf("groups %v", names)
				}
				if delegated {
					// As a scope's next process would be started.
					dir = path.Join(dir, restName)
				}
			}
		})
	}
}

func removeAll(dir string) {
	names, _ := (kernel{}).Dirs(dir)
	for _, name := range names {
		removeAll(path.Join(dir, name))
	}
	_ = (kernel{}).Rmdir(dir)
}
