package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	mount2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	self   = 100
	engine = 99
)

// TestPlaces2: where groups of version 2 are made, and why nowhere.
func TestPlaces2(t *testing.T) {
	const root = "/sys/fs/cgroup"
	for name, c := range map[string]struct {
		mounts, own string
		make        func(*fakeKernel)
		// in is the group in which the pool is; rest are the processes that were
		// moved there. why are parts of what is said where there is none.
		in   string
		rest []int
		why  []string
		// uncounted says that groups there cannot limit processes.
		uncounted bool
	}{
		"the machine's root": {
			own: "/", in: root,
			make: func(k *fakeKernel) { k.roots = []string{root}; k.top(root, self, engine) },
		},
		"a delegated scope": {
			own: "/user.slice/run-1.scope", in: root + "/user.slice/run-1.scope", rest: []int{engine, self},
			make: func(k *fakeKernel) {
				k.slice(root).group(root+"/user.slice/run-1.scope", engine, self)
				k.delegated, k.foreign = []string{root + "/user.slice/run-1.scope"}, []string{root}
			},
		},
		"a second engine of a delegated scope": {
			own: "/user.slice/run-1.scope/alink-rest", in: root + "/user.slice/run-1.scope",
			make: func(k *fakeKernel) {
				scope := root + "/user.slice/run-1.scope"
				k.slice(root).group(scope)
				must(t, k.Write(scope+"/cgroup.subtree_control", "+memory"))
				k.group(scope+"/alink-rest", engine, self)
				k.delegated = []string{scope}
			},
		},
		"beside a terminal's scope": {
			own: "/user.slice/terminal.scope", in: root + "/user.slice",
			make: func(k *fakeKernel) { k.slice(root).group(root+"/user.slice/terminal.scope", self, 7) },
		},
		"a session of an ordinary user": {
			own: "/user.slice/session-3.scope", why: []string{"session-3.scope cannot have limits: permission denied; no group can be made in " + root + "/user.slice: permission denied"},
			make: func(k *fakeKernel) {
				k.slice(root).group(root+"/user.slice/session-3.scope", self)
				k.foreign, k.delegated = []string{root + "/user.slice"}, []string{}
			},
		},
		"a session of root, whose slice has no limits": {
			own: "/one/session-3.scope", in: root + "/one",
			make: func(k *fakeKernel) {
				k.slice(root).group(root+"/one").group(root+"/one/session-3.scope", self)
			},
		},
		"a service with processes around it": {
			own: "/one/two", why: []string{"one/two has processes in it", "is not delegated; /sys/fs/cgroup/one has processes"},
			make: func(k *fakeKernel) {
				k.slice(root).group(root+"/one", 7)
				k.files[root+"/one/cgroup.subtree_control"] = ""
				k.group(root+"/one/two", self)
				k.files[root+"/one/two/cgroup.controllers"] = "memory"
			},
		},
		"a container with a tree of its own": {
			own: "/", in: root, rest: []int{self},
			make: func(k *fakeKernel) {
				k.group(root, self)
				k.files[root+"/cgroup.controllers"] = "cpu memory pids"
			},
		},
		"a slice whose groups cannot limit processes": {
			own: "/user.slice/terminal.scope", in: root + "/user.slice", uncounted: true,
			make: func(k *fakeKernel) {
				k.slice(root).group(root+"/user.slice/terminal.scope", self, 7)
				k.files[root+"/user.slice/cgroup.controllers"], k.files[root+"/user.slice/cgroup.subtree_control"] = "memory", "memory"
			},
		},
		"a container that may only read": {
			own: "/", why: []string{"read-only file system"},
			make: func(k *fakeKernel) {
				k.group(root, self)
				k.files[root+"/cgroup.controllers"], k.readOnly = "cpu memory pids", []string{root}
			},
		},
		"version 1 has the controller": {
			own: "/", why: []string{"no memory controller"},
			make: func(k *fakeKernel) { k.roots = []string{root}; k.group(root, self) },
		},
		"not mounted": {mounts: "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", own: "/", why: []string{"version 2 is not mounted"}},
		"outside":     {own: "/../../system.slice", why: []string{"outside"}},
		"a part of the tree": {
			mounts: "41 31 0:38 /pod/one /groups\\040here rw - cgroup2 cgroup2 rw\n",
			own:    "/pod/one/app", in: "/groups here",
			make: func(k *fakeKernel) {
				k.top("/groups here")
				must(t, k.Write("/groups here/cgroup.subtree_control", "+memory"))
				k.group("/groups here/app", self)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			mounts := c.mounts
			if mounts == "" {
				mounts = mount2
			}
			k := newFake(t, mounts, "4:memory:/elsewhere\n0::"+c.own+"\n")
			if c.make != nil {
				c.make(k)
			}
			control, refused := open(k, []Kind{V2})
			if c.why != nil {
				if control != nil {
					t.Fatalf("the pool %s", control.Place())
				}
				for _, part := range c.why {
					if len(refused) != 1 || !strings.Contains(refused[0].Why, part) {
						t.Errorf("%v where %q is expected", refused, part)
					}
				}
				return
			}
			if control == nil {
				t.Fatal(refused)
			}
			if path.Dir(control.Place()) != c.in || !slices.Equal(k.tried, []string{"16777216"}) {
				t.Errorf("the pool %s, tried %q", control.Place(), k.tried)
			}
			if rest := k.groups[c.in+"/"+restName]; len(c.rest) > 0 && !slices.Equal(rest, c.rest) {
				t.Errorf("moved %v", rest)
			}
			if control.CountsTasks() == c.uncounted {
				t.Errorf("counts tasks: %t", control.CountsTasks())
			}
			checkGroup2(t, k, control)
		})
	}
}

// top makes a topmost group with all controllers.
func (k *fakeKernel) top(dir string, pids ...int) *fakeKernel {
	k.group(dir, pids...)
	k.files[dir+"/cgroup.controllers"] = "cpu memory pids"
	return k
}

// slice makes a machine with a slice whose groups have limits of memory.
func (k *fakeKernel) slice(root string) *fakeKernel {
	k.roots = []string{root}
	k.top(root)
	must(k.t, k.Write(root+"/cgroup.subtree_control", "+memory"), k.Write(root+"/cgroup.subtree_control", "+pids"))
	k.group(root + "/user.slice")
	must(k.t, k.Write(root+"/user.slice/cgroup.subtree_control", "+memory"), k.Write(root+"/user.slice/cgroup.subtree_control", "+pids"))
	return k
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// checkGroup2 makes a group, has its process killed, and removes all.
func checkGroup2(t *testing.T, k *fakeKernel, control *Control) {
	t.Helper()
	g, err := control.New("w1", Limits{MemoryBytes: 256 << 20, TasksMax: 5})
	must(t, err)
	tasks := ""
	if control.CountsTasks() {
		tasks = "5"
	}
	for file, want := range map[string]string{"memory.max": "268435456", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": tasks} {
		if got := k.files[path.Join(g.dir, file)]; got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
	var attributes syscall.SysProcAttr
	must(t, g.Fork(&attributes, func() error { return nil }))
	k.files[g.dir+"/memory.current"], k.files[g.dir+"/memory.peak"] = "9000", "10000\n"
	k.files[g.dir+"/memory.stat"] = "anon 1\ninactive_file 1000\nactive_file 2000\n"
	k.files[g.dir+"/memory.events"] = "low 0\noom 4\noom_kill 3\noom_group_kill 1\n"
	if u, err := g.Usage(); err != nil || u != (Usage{HeldBytes: 6000, PeakBytes: 10000, Kills: 3, AtLimit: true}) {
		t.Errorf("%+v, %v", u, err)
	}
	delete(k.files, g.dir+"/memory.peak") // before Linux 5.19
	if u, err := g.Usage(); err != nil || u.PeakBytes != 256<<20 {
		t.Errorf("%+v, %v", u, err)
	}
	k.files[g.dir+"/memory.events"] = "oom 0\noom_kill 1\n" // a limit around it
	if u, err := g.Usage(); err != nil || u.AtLimit || u.Kills != 1 {
		t.Errorf("%+v, %v", u, err)
	}
	k.groups[g.dir] = []int{200}
	if err := g.Remove(); err == nil {
		t.Error("a group with a process was removed")
	}
	g.Kill()
	must(t, g.Remove(), g.Remove())
	if !slices.Equal(k.killed, []int{200}) {
		t.Errorf("killed %v", k.killed)
	}
	control.Close()
	for dir := range k.groups {
		if strings.Contains(dir, poolPrefix) {
			t.Errorf("%s is left", dir)
		}
	}
}

const mount1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
`

func newFake1(t *testing.T) *fakeKernel {
	t.Helper()
	k := newFake(t, mount1, "8:pids:/\n4:memory:/a/b\n0::/\n")
	k.v1 = true
	return k.group("/sys/fs/cgroup/memory/a/b", self)
}

func TestGroup1(t *testing.T) {
	k := newFake1(t)
	k.group("/sys/fs/cgroup/pids", self)
	control, refused := open(k, Kinds)
	if control == nil || control.Kind() != V1 || len(refused) != 1 || refused[0].Kind != V2 {
		t.Fatal(control, refused)
	}
	if !strings.HasPrefix(control.Place(), "/sys/fs/cgroup/memory/a/b/"+poolPrefix) || !strings.HasPrefix(control.tasksPool, "/sys/fs/cgroup/pids/"+poolPrefix) {
		t.Errorf("places %q, %q", control.Place(), control.tasksPool)
	}
	g, err := control.New("w1", Limits{MemoryBytes: 16 << 20, TasksMax: 5})
	must(t, err)
	if k.files[g.dir+"/memory.limit_in_bytes"] != "16777216" || k.groups[g.tasks] != nil {
		t.Error(k.files[g.dir+"/memory.limit_in_bytes"], g.tasks)
	}
	if !control.CountsTasks() || k.files[g.tasks+"/pids.max"] != "5" {
		t.Error(control.CountsTasks(), k.files[g.tasks+"/pids.max"])
	}
	k.files[g.dir+"/memory.usage_in_bytes"], k.files[g.dir+"/memory.max_usage_in_bytes"] = "900\n", "1000\n"
	k.files[g.dir+"/memory.stat"] = "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 200\n"
	k.files[g.dir+"/memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
	if u, err := g.Usage(); err != nil || u != (Usage{HeldBytes: 600, PeakBytes: 1000, Kills: 2}) {
		t.Errorf("%+v, %v", u, err)
	}
	k.files[g.dir+"/memory.max_usage_in_bytes"] = fmt.Sprint(15 << 20)
	if u, err := g.Usage(); err != nil || !u.AtLimit {
		t.Errorf("%+v, %v", u, err)
	}
	k.groups[g.dir] = []int{200, 201}
	g.Kill()
	if !slices.Equal(k.killed, []int{200, 201}) {
		t.Errorf("killed %v", k.killed)
	}
	must(t, g.Remove())
	control.Close()
	if len(k.groups) != 2 {
		t.Errorf("left: %v", k.groups)
	}
}

// TestNothingIsToBeHad gives a reason for each kind.
func TestNothingIsToBeHad(t *testing.T) {
	k := newFake1(t)
	if control, _ := open(k, Kinds); control == nil || control.CountsTasks() {
		t.Error("processes are limited without a hierarchy for it")
	}
	k = newFake1(t)
	k.readOnly = []string{"/sys/fs/cgroup"}
	control, refused := open(k, Kinds)
	if control != nil || len(refused) != 2 || !strings.Contains(refused[1].Why, "/sys/fs/cgroup/memory/a/b: read-only file system") {
		t.Error(control, refused)
	}
	if control, refused = open(nil, Kinds); control != nil || len(refused) != 2 {
		t.Error(control, refused)
	}
}

// TestLeftovers: what a killed process has left is killed and removed; what
// another one uses stays.
func TestLeftovers(t *testing.T) {
	k := newFake1(t)
	const home = "/sys/fs/cgroup/memory/a/b/"
	k.group(home+"alink-pool-1-1-x").group(home+"alink-pool-1-1-x/w1", 300).group(home + "alink-pool-1-1-x/w2")
	k.group(home+"alink-pool-2-1-y").group(home+"alink-pool-2-1-y/w1", 301)
	k.group(home+"others", 302)
	k.locked = []string{home + "alink-pool-2-1-y"}
	control, _ := open(k, Kinds)
	if control == nil {
		t.Fatal("no pool")
	}
	if !slices.Equal(k.killed, []int{300}) {
		t.Errorf("killed %v", k.killed)
	}
	names, _ := k.Dirs(strings.TrimSuffix(home, "/"))
	if len(names) != 3 || slices.Contains(names, "alink-pool-1-1-x") || !slices.Contains(names, "alink-pool-2-1-y") || !slices.Contains(names, "others") {
		t.Errorf("groups %v", names)
	}
	if len(k.locked) != 2 {
		t.Errorf("locked %v", k.locked)
	}
}
