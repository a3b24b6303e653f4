package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// fakeKernel is a tree of groups that keeps the kernel's rules as far as they
// decide where groups can be made.
type fakeKernel struct {
	t *testing.T
	// files are all files but a group's own lists.
	files map[string]string
	// groups are the processes of each group.
	groups map[string][]int
	// roots are the topmost groups as the machine has them: rules do not hold.
	roots []string
	// readOnly and foreign are groups that may not be written, nor any below.
	readOnly, foreign []string
	delegated, locked []string
	killed            []int
	// tried are the limits of the groups in which a process was started.
	tried []string
	v1    bool
}

func newFake(t *testing.T, mounts, own string) *fakeKernel {
	t.Helper()
	return &fakeKernel{
		t:      t,
		files:  map[string]string{"/proc/self/mountinfo": mounts, "/proc/self/cgroup": own},
		groups: map[string][]int{},
	}
}

// group adds a group with processes, and what its parent gives it.
func (k *fakeKernel) group(dir string, pids ...int) *fakeKernel {
	k.groups[dir] = append(k.groups[dir], pids...)
	if k.v1 {
		for _, file := range []string{"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "memory.stat", "pids.max"} {
			k.files[path.Join(dir, file)] = "0"
		}
		return k
	}
	k.files[path.Join(dir, "cgroup.subtree_control")] = ""
	k.files[path.Join(dir, "cgroup.kill")] = ""
	k.files[path.Join(dir, "cgroup.controllers")] = ""
	if !slices.Contains(k.roots, dir) {
		k.files[path.Join(dir, "cgroup.type")] = "domain"
		k.files[path.Join(dir, "cgroup.controllers")] = k.files[path.Join(path.Dir(dir), "cgroup.subtree_control")]
		k.give(dir)
	}
	return k
}

// give makes the files of the controllers that a group has.
func (k *fakeKernel) give(dir string) {
	controllers := strings.Fields(k.files[path.Join(dir, "cgroup.controllers")])
	for controller, files := range map[string][]string{
		"memory": {"memory.max", "memory.swap.max", "memory.oom.group", "memory.current", "memory.stat", "memory.events", "memory.peak"},
		"pids":   {"pids.max"},
	} {
		for _, file := range files {
			if slices.Contains(controllers, controller) {
				k.files[path.Join(dir, file)] = "0"
			}
		}
	}
}

func (k *fakeKernel) may(file string) error {
	below := func(dir string) bool { return file == dir || strings.HasPrefix(file, dir+"/") }
	switch {
	case slices.ContainsFunc(k.readOnly, below):
		return syscall.EROFS
	case slices.ContainsFunc(k.foreign, below) && !slices.ContainsFunc(k.delegated, below):
		return syscall.EACCES
	}
	return nil
}

func (k *fakeKernel) Read(file string) (string, error) {
	if pids, ok := k.groups[path.Dir(file)]; ok && path.Base(file) == "cgroup.procs" {
		return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(pids)), "\n"), "[]"), nil
	}
	if text, ok := k.files[file]; ok {
		return text, nil
	}
	return "", fs.ErrNotExist
}

func (k *fakeKernel) Write(file, text string) error {
	dir, name := path.Split(file)
	dir = path.Clean(dir)
	if err := k.may(file); err != nil {
		return err
	}
	if _, ok := k.groups[dir]; ok && name == "cgroup.procs" {
		pid, err := strconv.Atoi(text)
		if err != nil {
			k.t.Errorf("process %q", text)
		}
		for other, pids := range k.groups {
			k.groups[other] = slices.DeleteFunc(pids, func(p int) bool { return p == pid })
		}
		k.groups[dir] = append(k.groups[dir], pid)
		return nil
	}
	if _, ok := k.files[file]; !ok {
		return fs.ErrNotExist
	}
	switch name {
	case "cgroup.subtree_control":
		return k.enable(dir, file, strings.TrimPrefix(text, "+"))
	case "cgroup.kill":
		k.killed = append(k.killed, k.groups[dir]...)
		k.groups[dir] = nil
		return nil
	}
	k.files[file] = text
	return nil
}

func (k *fakeKernel) enable(dir, file, controller string) error {
	if !slices.Contains(strings.Fields(k.files[path.Join(dir, "cgroup.controllers")]), controller) {
		return fs.ErrNotExist
	}
	if len(k.groups[dir]) > 0 && !slices.Contains(k.roots, dir) {
		return syscall.EBUSY
	}
	k.files[file] += " " + controller
	for other := range k.groups {
		if path.Dir(other) == dir {
			k.files[path.Join(other, "cgroup.controllers")] = k.files[file]
			k.give(other)
		}
	}
	return nil
}

func (k *fakeKernel) Mkdir(dir string) error {
	if err := k.may(dir); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if _, ok := k.groups[dir]; ok {
		return fs.ErrExist
	}
	if _, ok := k.groups[path.Dir(dir)]; !ok {
		return fs.ErrNotExist
	}
	k.group(dir)
	return nil
}

func (k *fakeKernel) Rmdir(dir string) error {
	pids, ok := k.groups[dir]
	names, _ := k.Dirs(dir)
	switch {
	case !ok:
		return fs.ErrNotExist
	case len(pids) > 0 || len(names) > 0:
		return syscall.EBUSY
	}
	delete(k.groups, dir)
	return nil
}

func (k *fakeKernel) Dirs(dir string) (names []string, err error) {
	for other := range k.groups {
		if path.Dir(other) == dir && other != dir {
			names = append(names, path.Base(other))
		}
	}
	return names, nil
}

type fakeLock struct {
	k   *fakeKernel
	dir string
}

func (l fakeLock) Close() error {
	l.k.locked = slices.DeleteFunc(l.k.locked, func(dir string) bool { return dir == l.dir })
	return nil
}

func (k *fakeKernel) Lock(dir string) (io.Closer, error) {
	if slices.Contains(k.locked, dir) {
		return nil, syscall.EWOULDBLOCK
	}
	k.locked = append(k.locked, dir)
	return fakeLock{k, dir}, nil
}

func (k *fakeKernel) Delegated(dir string) bool { return slices.Contains(k.delegated, dir) }

func (k *fakeKernel) Kill(pid int) error {
	k.killed = append(k.killed, pid)
	for dir, pids := range k.groups {
		k.groups[dir] = slices.DeleteFunc(pids, func(p int) bool { return p == pid })
	}
	return nil
}

func (k *fakeKernel) Open(string) (io.Closer, int, error) {
	return io.NopCloser(nil), 3, nil
}

func (k *fakeKernel) Try(g *Group) error {
	if len(k.groups[g.dir]) > 0 {
		return errors.New("it is not empty")
	}
	for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
		if limit, ok := k.files[path.Join(g.dir, file)]; ok {
			k.tried = append(k.tried, limit)
		}
	}
	return nil
}
