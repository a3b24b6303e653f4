// Package cgroup limits the memory of all processes of a worker together, with
// the kernel's control groups: version 2 where its memory controller is there
// and a group can be made, or else version 1. The kernel counts what no watch
// sees in time: shared memory, files in a tmpfs, page tables, processes that
// left their parents.
//
// The supervisor has a group of its own, the pool, in which it makes one for
// each worker. A pool is locked while its process lives; those that are not
// are what killed supervisors have left behind, and the next one removes them.
//
// The package imports x/sys only, as what is trusted to confine stays small.
package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is a version of control groups.
type Kind string

// The kinds, the better one first.
const (
	V2 Kind = "cgroup2"
	V1 Kind = "cgroup1"
)

// Kinds are all kinds, the better one first.
var Kinds = []Kind{V2, V1}

// Bounds of the package.
const (
	// sweepMax is how many pools of others are looked at.
	sweepMax = 1024
	// poolTries is how often a pool is made that another process takes for a
	// dead one's before it is locked.
	poolTries = 3
	// gatherTries is how often the processes of a group are moved out of it, of
	// which new ones may start meanwhile.
	gatherTries = 10
	// killTries and killPause bound the killing of processes that fork
	// meanwhile.
	killTries = 50
	killPause = 2 * time.Millisecond
	// nearBytes is how near to its limit a group of version 1 has been that was
	// out of memory: what was asked for did not fit.
	nearBytes = 4 << 20
)

// Names of groups.
const (
	poolPrefix = "alink-pool-"
	restName   = "alink-rest"
	probeName  = "probe"
)

// tree is the file system of control groups. The kernel's implements it; its
// errors are those of system calls.
type tree interface {
	// Read gives a file whole.
	Read(file string) (string, error)
	// Write writes a file that is there, in one call.
	Write(file, text string) error
	Mkdir(dir string) error
	Rmdir(dir string) error
	// Dirs lists the names of the groups within a group.
	Dirs(dir string) ([]string, error)
	// Lock locks a group until the closer is closed or the process ends. It
	// fails where another process has the lock.
	Lock(dir string) (io.Closer, error)
	// Delegated reports whether systemd has given a group and all below it to
	// the processes in it.
	Delegated(dir string) bool
	// Kill sends a process SIGKILL.
	Kill(pid int) error
	// Open opens a group, in which processes of version 2 are then started.
	Open(dir string) (handle io.Closer, fd int, err error)
	// Try starts a process in a group that New has made, which ends at once.
	Try(g *Group) error
}

// Limits are a group's.
type Limits struct {
	// MemoryBytes is what its processes may hold together, files that the
	// kernel can drop apart; 0 is no limit.
	MemoryBytes int64
	// TasksMax is how many threads it may have; 0 is no limit.
	TasksMax int64
}

// Usage is what a group's processes use.
type Usage struct {
	// HeldBytes is what the kernel cannot give to others: without files that it
	// can read again.
	HeldBytes int64
	// PeakBytes is the most that was charged, such files included; 0 where the
	// kernel does not tell.
	PeakBytes int64
	// Kills counts processes that the kernel has killed for want of memory, and
	// AtLimit says that the group's own limit was reached, not one around it.
	Kills   int64
	AtLimit bool
}

// Control makes groups. It is safe for concurrent use.
type Control struct {
	tree tree
	kind Kind
	// pool is where groups are made; home is where this process is, and goes
	// back to.
	pool, home string
	// tasksPool and tasksHome are the same in the hierarchy that counts
	// processes, which version 1 has apart; "" where it cannot be had.
	tasksPool, tasksHome string
	// countsTasks says that groups have limits of processes; it is not known
	// before the probe.
	countsTasks bool
	locks       []io.Closer
}

// Refusal says why a kind of group cannot be had.
type Refusal struct {
	Kind Kind
	Why  string
}

// Open makes a pool of the best of some kinds that works, which is found by
// making a group and starting a process in it. It gives nil where none does,
// and what speaks against each that is better than what it gives.
func Open(kinds ...Kind) (*Control, []Refusal) { return open(system(), kinds) }

func open(t tree, kinds []Kind) (*Control, []Refusal) {
	var refused []Refusal
	for _, kind := range kinds {
		c, err := openKind(t, kind)
		if err == nil {
			return c, refused
		}
		refused = append(refused, Refusal{kind, err.Error()})
	}
	return nil, refused
}

func openKind(t tree, kind Kind) (*Control, error) {
	if t == nil {
		return nil, errors.New("only Linux has it")
	}
	c := &Control{tree: t, kind: kind}
	err := c.find()
	if err == nil {
		err = c.probe()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Kind is the kind of the groups.
func (c *Control) Kind() Kind { return c.kind }

// CountsTasks reports whether groups keep Limits.TasksMax, too.
func (c *Control) CountsTasks() bool { return c.countsTasks }

// Place is the group in which all groups of workers are.
func (c *Control) Place() string { return c.pool }

// find makes the pool.
func (c *Control) find() error {
	mounts, err := c.tree.Read("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	own, err := c.tree.Read("/proc/self/cgroup")
	if err != nil {
		return err
	}
	if c.kind == V2 {
		return c.find2(mounts, own)
	}
	return c.find1(mounts, own)
}

// find1 takes the group that this process is in: in version 1 it may have
// others within although processes are in it.
func (c *Control) find1(mounts, own string) (err error) {
	h, err := hierarchyOf(mounts, own, V1, "memory")
	if err != nil {
		return err
	}
	c.home = h.own
	if c.pool, err = c.makePool(h.own); err != nil {
		return err
	}
	if h, err := hierarchyOf(mounts, own, V1, "pids"); err == nil {
		if pool, err := c.makePool(h.own); err == nil {
			c.tasksHome, c.tasksPool = h.own, pool
		}
	}
	return nil
}

// find2 takes the group that this process is in, if it may have others within,
// or else the one around it. In version 2 a group has either processes or
// groups with limits.
func (c *Control) find2(mounts, own string) error {
	h, err := hierarchyOf(mounts, own, V2, "")
	if err != nil {
		return err
	}
	c.home = h.own
	var refused []string
	for _, dir := range []string{h.own, path.Dir(h.own)} {
		if len(dir) < len(h.mount) {
			break
		}
		if err := c.enable(dir, dir == h.mount); err != nil {
			refused = append(refused, err.Error())
			continue
		}
		pool, err := c.makePool(dir)
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		c.pool = pool
		if err := c.tree.Write(path.Join(pool, "cgroup.subtree_control"), "+memory"); err != nil {
			return err
		}
		_ = c.tree.Write(path.Join(pool, "cgroup.subtree_control"), "+pids") // a limit more, where it can be had
		return nil
	}
	return errors.New(strings.Join(refused, "; "))
}

// enable has groups within dir get limits of memory.
func (c *Control) enable(dir string, top bool) error {
	controllers, err := c.tree.Read(path.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(controllers), "memory") {
		return fmt.Errorf("%s has no memory controller", dir)
	}
	file := path.Join(dir, "cgroup.subtree_control")
	enabled, err := c.tree.Read(file)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(enabled), "memory") {
		_ = c.tree.Write(file, "+pids") // a limit more, where it can be had
		return nil
	}
	err = c.tree.Write(file, "+memory")
	if errors.Is(err, errBusy) && c.mayGather(dir, top) {
		if err = c.gather(dir); err == nil {
			err = c.tree.Write(file, "+memory")
		}
	}
	if errors.Is(err, errBusy) {
		return fmt.Errorf("%s has processes in it, so groups within cannot have limits, and it is not delegated", dir)
	}
	if err != nil {
		return fmt.Errorf("groups in %s cannot have limits: %w", dir, bare(err))
	}
	_ = c.tree.Write(file, "+pids") // a limit more, where it can be had
	return nil
}

// mayGather reports whether the processes in dir may be moved to a group
// within: where systemd has delegated it to them, and where it is all that a
// container sees.
func (c *Control) mayGather(dir string, top bool) bool {
	if top {
		_, err := c.tree.Read(path.Join(dir, "cgroup.type")) // the machine's own root has none
		return err == nil
	}
	return c.tree.Delegated(dir)
}

// gather moves the processes in dir to a group within, which has no limit.
func (c *Control) gather(dir string) error {
	rest := path.Join(dir, restName)
	if err := c.tree.Mkdir(rest); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for range gatherTries {
		pids, err := c.processes(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			err := c.tree.Write(path.Join(rest, "cgroup.procs"), strconv.Itoa(pid))
			if err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
	}
	return fmt.Errorf("%s gets new processes all the time", dir)
}

// processes lists the processes in a group, without those in groups within.
func (c *Control) processes(dir string) ([]int, error) {
	text, err := c.tree.Read(path.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(text) {
		// 0 is a process of another pid namespace, which cannot be named.
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// makePool makes and locks a group for those of workers in dir, and removes
// what processes that are dead have left there.
func (c *Control) makePool(dir string) (string, error) {
	c.sweep(dir)
	var err error
	for range poolTries {
		pool := path.Join(dir, poolPrefix+uniqueName())
		if err = c.tree.Mkdir(pool); err != nil {
			return "", fmt.Errorf("no group can be made in %s: %w", dir, bare(err))
		}
		lock, failed := c.tree.Lock(pool)
		if failed == nil {
			// Another one may have taken it for a dead one's meanwhile.
			if _, failed = c.tree.Read(path.Join(pool, "cgroup.procs")); failed == nil {
				c.locks = append(c.locks, lock)
				return pool, nil
			}
			_ = lock.Close() // of a group that is gone
		}
		_ = c.tree.Rmdir(pool) // gone already, or swept by the next one
		err = failed
	}
	return "", fmt.Errorf("no group can be kept in %s: %w", dir, err)
}

// sweep removes the pools of processes that are dead, and kills what is left
// in them. What cannot be removed now is left to the next one.
func (c *Control) sweep(dir string) {
	names, err := c.tree.Dirs(dir)
	if err != nil {
		return
	}
	for _, name := range names[:min(len(names), sweepMax)] {
		if !strings.HasPrefix(name, poolPrefix) {
			continue
		}
		pool := path.Join(dir, name)
		lock, err := c.tree.Lock(pool)
		if err != nil {
			continue // its process lives
		}
		workers, _ := c.tree.Dirs(pool) // none where it is gone meanwhile
		for _, worker := range workers {
			g := &Group{control: c, dir: path.Join(pool, worker)}
			g.Kill()
			_ = c.tree.Rmdir(g.dir) // the next one tries again
		}
		_ = c.tree.Rmdir(pool)
		_ = lock.Close()
	}
}

// probe starts a process in a group.
func (c *Control) probe() error {
	const probeBytes, probeTasks = 16 << 20, 8
	g, err := c.New(probeName, Limits{MemoryBytes: probeBytes, TasksMax: probeTasks})
	if err != nil {
		return err
	}
	if err = c.tree.Try(g); err == nil {
		_, err = g.Usage()
	}
	text, failed := c.tree.Read(path.Join(cmp.Or(g.tasks, g.dir), "pids.max"))
	c.countsTasks = failed == nil && strings.TrimSpace(text) == strconv.Itoa(probeTasks)
	return errors.Join(err, g.Remove())
}

// Close removes the pool. All groups in it have been removed; where one could
// not be, it is left to the next pool.
func (c *Control) Close() {
	for _, pool := range []string{c.pool, c.tasksPool} {
		if pool != "" {
			_ = c.tree.Rmdir(pool) // see above
		}
	}
	for _, lock := range c.locks {
		_ = lock.Close() // a handle of a folder
	}
}

// Group is the group of one worker.
type Group struct {
	control *Control
	dir     string
	// limitBytes is its limit of memory.
	limitBytes int64
	// tasks is where its processes are counted in version 1, or "".
	tasks string
	// handle is the open folder of a group of version 2, or what tells of its
	// limit in version 1.
	handle io.Closer
	fd     int
}

// New makes a group; Remove removes it.
func (c *Control) New(name string, limits Limits) (*Group, error) {
	g := &Group{control: c, dir: path.Join(c.pool, name), limitBytes: limits.MemoryBytes, fd: -1}
	if err := c.tree.Mkdir(g.dir); err != nil {
		return nil, fmt.Errorf("no group can be made in %s: %w", c.pool, bare(err))
	}
	err := g.limit(limits)
	if err == nil && c.kind == V2 {
		g.handle, g.fd, err = c.tree.Open(g.dir)
	}
	if err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// setting is a line to write into a file of a group.
type setting struct {
	dir, file, text string
	// needed says that the group is of no use without it; others are further
	// limits, which some kernels lack.
	needed bool
}

func (g *Group) limit(limits Limits) error {
	memory, tasks := strconv.FormatInt(limits.MemoryBytes, 10), strconv.FormatInt(limits.TasksMax, 10)
	var settings []setting
	switch {
	case limits.MemoryBytes == 0:
	case g.control.kind == V1:
		settings = []setting{
			{g.dir, "memory.limit_in_bytes", memory, true},
			{g.dir, "memory.memsw.limit_in_bytes", memory, false}, // there is none without swap accounting
		}
	default:
		settings = []setting{
			{g.dir, "memory.max", memory, true},
			{g.dir, "memory.swap.max", "0", false},
			{g.dir, "memory.zswap.max", "0", false},
			{g.dir, "memory.oom.group", "1", true},
		}
	}
	if g.control.kind == V2 {
		if limits.TasksMax > 0 {
			settings = append(settings, setting{g.dir, "pids.max", tasks, g.control.countsTasks})
		}
	} else if pool := g.control.tasksPool; pool != "" && limits.TasksMax > 0 {
		dir := path.Join(pool, path.Base(g.dir))
		if err := g.control.tree.Mkdir(dir); err == nil {
			g.tasks = dir
			settings = append(settings, setting{dir, "pids.max", tasks, g.control.countsTasks})
		} else if g.control.countsTasks {
			return err
		}
	}
	for _, s := range settings {
		if err := g.control.tree.Write(path.Join(s.dir, s.file), s.text); err != nil && s.needed {
			return err
		}
	}
	return nil
}

// Usage reads what the group uses. Where a file cannot be read the group is
// most likely removed.
func (g *Group) Usage() (Usage, error) {
	now, peak, events, total := "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "total_"
	if g.control.kind == V2 {
		now, peak, events, total = "memory.current", "memory.peak", "memory.events", ""
	}
	bytes, err := g.number(now)
	if err != nil {
		return Usage{}, err
	}
	texts := [2]string{}
	for i, file := range []string{"memory.stat", events} {
		if texts[i], err = g.control.tree.Read(path.Join(g.dir, file)); err != nil {
			return Usage{}, err
		}
	}
	stat := texts[0]
	files := counter(stat, total+"inactive_file") + counter(stat, total+"active_file")
	u := Usage{HeldBytes: max(0, bytes-files), Kills: counter(texts[1], "oom_kill")}
	u.PeakBytes, _ = g.number(peak) // before Linux 5.19 version 2 has none
	if g.control.kind == V2 {
		u.AtLimit = counter(texts[1], "oom") > 0
		if u.AtLimit && u.PeakBytes == 0 {
			u.PeakBytes = g.limitBytes
		}
	} else {
		u.AtLimit = g.limitBytes > 0 && u.PeakBytes >= g.limitBytes-nearBytes
	}
	return u, nil
}

// Add moves a process into the group. What it holds already stays charged to
// the group that it comes from; what it takes from then on is this one's.
func (g *Group) Add(pid int) error {
	for _, dir := range []string{g.dir, g.tasks} {
		if dir == "" {
			continue
		}
		if err := g.control.tree.Write(path.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("no process can be moved to a group in %s: %w", g.control.pool, bare(err))
		}
	}
	return nil
}

// number reads a file that holds a number.
func (g *Group) number(file string) (int64, error) {
	text, err := g.control.tree.Read(path.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(text), 10, 64)
}

// counter finds the line "name N" of a text.
func counter(text, name string) int64 {
	for line := range strings.SplitSeq(text, "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// Kill kills all processes in the group, wherever they went in the tree of
// processes.
func (g *Group) Kill() {
	if g.control.tree.Write(path.Join(g.dir, "cgroup.kill"), "1") == nil {
		return
	}
	// Version 1, and 2 before Linux 5.14: until nobody is left who could fork.
	for range killTries {
		pids, err := g.control.processes(g.dir)
		if err != nil || len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = g.control.tree.Kill(pid) // it may have ended
		}
		time.Sleep(killPause)
	}
}

// Remove removes a group without processes. It fails while some are being
// killed, and may be called again.
func (g *Group) Remove() error {
	if g.handle != nil {
		_ = g.handle.Close() // a handle of a folder
		g.handle = nil
	}
	var errs []error
	for _, dir := range []string{g.dir, g.tasks} {
		if dir == "" {
			continue
		}
		if err := g.control.tree.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hierarchy is a tree of groups as this process sees it.
type hierarchy struct {
	// mount is the topmost group that is seen, own the one that this process is
	// in.
	mount, own string
}

// hierarchyOf finds the hierarchy of version 2, or that of a controller of
// version 1, in the texts of mountinfo and cgroup in /proc/self.
func hierarchyOf(mounts, own string, kind Kind, controller string) (hierarchy, error) {
	name, what := "cgroup", fmt.Sprintf("the %s controller of version 1", controller)
	if kind == V2 {
		name, what = "cgroup2", "version 2"
	}
	group, ok := groupIn(own, controller)
	if !ok {
		return hierarchy{}, fmt.Errorf("this process is in no group of %s", what)
	}
	outside := false
	for line := range strings.SplitSeq(mounts, "\n") {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 || right[0] != name {
			continue
		}
		if kind == V1 && !slices.Contains(strings.Split(right[2], ","), controller) {
			continue
		}
		// What is mounted may be a part, of which this process need not be.
		root, mount := unescape(left[3]), unescape(left[4])
		if below, ok := strings.CutPrefix(group, strings.TrimSuffix(root, "/")); ok && (below == "" || below[0] == '/') && !strings.Contains(below, "..") {
			return hierarchy{mount, path.Join(mount, below)}, nil
		}
		outside = true
	}
	if outside {
		return hierarchy{}, fmt.Errorf("the group %s of this process is outside of what is mounted of %s", group, what)
	}
	return hierarchy{}, fmt.Errorf("%s is not mounted", what)
}

// groupIn finds the group of this process: the line "0::group", or that with a
// controller.
func groupIn(own, controller string) (string, bool) {
	for line := range strings.SplitSeq(own, "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && (controller == "" && parts[0] == "0" || controller != "" && slices.Contains(strings.Split(parts[1], ","), controller)) {
			return parts[2], true
		}
	}
	return "", false
}

// unescape undoes what mountinfo does to blanks and the like: \040.
func unescape(text string) string {
	const digits = 3
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+digits < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+1+digits], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += digits
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// bare is an error without the path that it is about, which the caller tells.
func bare(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return cmp.Or(err, errors.New("unknown"))
}
