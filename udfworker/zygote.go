package udfworker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Bounds of zygotes.
const (
	// zygoteTime is how long a zygote may take to import what workers need, and
	// forkTime how long to fork one.
	zygoteTime = 20 * time.Second
	forkTime   = 2 * time.Second
	// zygoteIdleTime is how long a zygote stays without workers: one that has
	// died is replaced within that time.
	zygoteIdleTime = 2 * time.Second
	// zygoteBytesMax is what a zygote may hold. Some 25 MiB are what workers need,
	// and for each that lives 1.5 MiB that were taken to fork it; the rest is for
	// what packages run at the start of Python.
	zygoteBytesMax = 128 << 20
	// tenantsMax is how many workers there may be in a sandbox.
	tenantsMax = 32
	// unfitMax bounds what is remembered of kinds of workers that cannot be
	// forked.
	unfitMax = 1024
)

// zygote is a process in a sandbox that has imported what workers need, and
// that workers of one kind are forked from: they share its sandbox and trust
// one another. Each is the supervisor's own child all the same, and has a
// control group of its own. It runs none of their functions.
type zygote struct {
	id, kind string
	child    *Child
	level    sandbox.Level
	// control is where it is asked for workers. The server's mu is held while
	// it is used, once ready is closed.
	control *net.UnixConn
	// ready is closed when unfit is final: why no worker can be forked, or nil.
	ready chan struct{}
	unfit error
	group *cgroup.Group
	// gone is closed when it is dead and killed is final.
	gone chan struct{}
	// scratch is a folder in which those of its workers are, where the sandbox
	// has no file system of its own, and scratchBytes what each may write. Else
	// door leads to where they are.
	scratch      string
	scratchBytes int64
	door         *sandbox.Door
	// temporary are the folders that its workers may write in besides their own,
	// seen from outside. furniture is what was in them before the first worker.
	temporary []*os.File
	furniture map[string]bool
	output    tail
	read      chan struct{}

	// The server's mu guards these.

	// tenants are the workers that have a folder in its sandbox, by their ids.
	tenants map[string]bool
	dead    bool
	// killed says that somebody has killed it, which says nothing of the next;
	// its limit has not.
	killed bool
	expire *time.Timer
}

// forks reports whether workers like this one are forked from a zygote. In one
// sandbox only control groups tell them apart and hold each to its own limits,
// and a worker gets its connections from outside, as the local lane can be
// handed over.
func (s *server) forks(params launchParams, endpoint string, level sandbox.Level) bool {
	if s.groups == nil || params.Kind == "" || level == sandbox.External || !strings.HasPrefix(endpoint, localScheme) {
		return false
	}
	if level >= sandbox.L2 && !s.groups.CountsTasks() {
		return false // a user namespace of its own does
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.unfit[params.Kind]
}

// startForked starts worker id from a zygote. It gives errUnfit where that
// cannot be done and the worker has to be started by itself.
func (s *server) startForked(ctx context.Context, id, endpoint string, params launchParams, level sandbox.Level) error {
	z, err := s.zygoteFor(params, level)
	if err != nil {
		return err
	}
	select {
	case <-z.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if z.unfit != nil {
		return errUnfit
	}
	passed, err := dial(endpoint, params.Page)
	if err != nil {
		return err
	}
	defer passed.close()
	scratch, inside := z.scratchOf(id)
	line, err := params.forkLine(id, inside)
	if err != nil {
		return err
	}
	if err := s.moveIn(z, id); err != nil {
		return err
	}
	err = s.launch(id, scratch, params, func(w *supervised) (*Child, sandbox.Level, error) {
		if err := ctx.Err(); err != nil {
			return nil, level, err // nobody waits for it, or will end it
		}
		if z.dead {
			return nil, level, errUnfit
		}
		child, err := z.fork(w.group, line, passed, func(pid int) bool { return s.byPID[pid] != nil || s.zygotePIDs[pid] != nil })
		if err != nil {
			fmt.Fprintf(s.log, "zygote %s: no worker was forked: %v\n", z.id, err)
			z.kill()
			return nil, level, errUnfit
		}
		w.zygote = z
		return child, z.level, nil
	})
	if err != nil {
		s.moveOut(z, id)
	}
	return err
}

// errUnfit says that a worker cannot be forked.
var errUnfit = errors.New("no worker can be forked")

// scratchOf is the folder for a worker's temporary files, as this process
// reaches it, "" where it does not, and as the worker does.
func (z *zygote) scratchOf(id string) (outside, inside string) {
	if z.scratch != "" {
		return z.scratch + "/" + id, z.scratch + "/" + id
	}
	return "", sandbox.Scratch + "/" + id
}

// moveIn makes the folder of a worker that is to be forked from z. From L2 on it
// is a file system of its own, which holds the worker to its limits and keeps
// room for it whatever others write.
func (s *server) moveIn(z *zygote, id string) error {
	s.mu.Lock()
	dead := z.dead
	if !dead {
		z.tenants[id] = true // its sandbox stays
		z.expire.Stop()
	}
	s.mu.Unlock()
	if dead {
		return errUnfit
	}
	var err error
	if z.door != nil {
		err = z.door.MakeRoom(id, z.scratchBytes, scratchFilesMax)
	} else {
		err = os.Mkdir(z.scratch+"/"+id, 0o700)
	}
	if err != nil {
		fmt.Fprintf(s.log, "worker %s: it has no folder beside other workers: %v\n", id, err)
		s.leave(z, id)
		return errUnfit
	}
	return nil
}

// zygoteFor gives the zygote of a kind of workers; it starts one where there is
// none.
func (s *server) zygoteFor(params launchParams, level sandbox.Level) (*zygote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if z := s.zygotes[params.Kind]; z != nil {
		if len(z.tenants) < tenantsMax {
			return z, nil
		}
		z.kill() // it is of no use any more
		s.forgetLocked(z)
	}
	if s.closing {
		return nil, errEnding
	}
	s.launches++
	z := &zygote{
		id: fmt.Sprintf("z%d", s.launches), kind: params.Kind, level: level,
		ready: make(chan struct{}), read: make(chan struct{}), scratchBytes: params.scratchBytes(), tenants: map[string]bool{},
		gone: make(chan struct{}),
	}
	z.expire = time.AfterFunc(zygoteIdleTime, func() { s.expire(z) })
	z.expire.Stop()
	inside := sandbox.Scratch
	var err error
	if level < sandbox.L2 {
		if z.scratch, err = os.MkdirTemp(params.ScratchDir, z.id+"-"); err != nil {
			return nil, fmt.Errorf("no scratch directory: %w", err)
		}
		inside = z.scratch
	}
	if err := s.spawnLocked(z, params, inside); err != nil {
		if z.group != nil {
			s.finishing.Go(func() { s.removeGroup(z.id, z.group) })
		}
		if z.scratch != "" {
			err = errors.Join(err, os.RemoveAll(z.scratch))
		}
		return nil, notConfined(params.Policy, err)
	}
	s.zygotes[z.kind], s.zygotePIDs[z.child.PID], s.sandboxes[z] = z, z, struct{}{}
	s.tellZygotesLocked()
	go func() {
		defer close(z.read)
		_, _ = io.Copy(&z.output, z.child.Output) // ends with the pipe, or by its deadline
	}()
	go s.raise(z)
	return z, nil
}

// tellZygotesLocked tells how many zygotes there are, and what they may hold:
// as long as its sandbox is there, since its workers share its memory, also when
// it is dead.
func (s *server) tellZygotesLocked() {
	bytes := int64(len(s.sandboxes)) * zygoteBytesMax
	s.emitLocked(Event{Kind: EventZygotes, Zygotes: len(s.zygotePIDs), ZygoteBytes: bytes, When: time.Now()})
}

// spawnLocked starts a zygote's process.
func (s *server) spawnLocked(z *zygote, params launchParams, scratch string) (err error) {
	command, err := params.zygoteCommand(scratch, s.environ, z.level)
	if err != nil {
		return err
	}
	z.group, err = s.groups.New(z.id, cgroup.Limits{MemoryBytes: zygoteBytesMax, TasksMax: processesMax})
	if err != nil {
		return err
	}
	command.Group = z.group
	var inner *os.File
	if z.control, inner, err = controlPair(); err != nil {
		return err
	}
	defer inner.Close()
	if _, err = z.control.Write(command.Input); err == nil {
		command.Control = inner
		z.child, err = s.launcher.Launch(command)
		wake(s.launched)
	}
	if err != nil {
		_ = z.control.Close()
	}
	return err
}

// raise waits until a zygote has imported what workers need, and looks whether
// it may fork: with one thread alone, since a fork copies no other.
func (s *server) raise(z *zygote) {
	err := z.control.SetReadDeadline(time.Now().Add(zygoteTime))
	if err == nil {
		_, err = z.hear()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if z.dead {
		err = errEnded // however that was heard
	}
	if err == nil {
		err = z.settleLocked()
	}
	z.unfit = err
	close(z.ready)
	if err == nil {
		z.expire.Reset(zygoteIdleTime)
		return
	}
	z.kill()
	s.finishing.Go(func() { s.judge(z) })
}

// judge finds out why a zygote could not be raised, once it is dead: where that
// was nobody's doing, it goes for all workers of its kind.
func (s *server) judge(z *zygote) {
	<-z.gone
	s.mu.Lock()
	closing, killed := s.closing, z.killed && errors.Is(z.unfit, errEnded)
	if !closing && !killed {
		if len(s.unfit) >= unfitMax {
			clear(s.unfit)
		}
		s.unfit[z.kind] = true
	}
	s.mu.Unlock()
	if closing || killed {
		return
	}
	select {
	case <-z.read:
	case <-time.After(outputTime):
	}
	fmt.Fprintf(s.log, "zygote %s: workers are started one by one, since they cannot be forked: %v\n%s", z.id, z.unfit, z.output.String())
}

// errEnded says that a zygote has ended.
var errEnded = errors.New("it has ended")

// kill ends a zygote, which holds nothing. The server's mu is held.
func (z *zygote) kill() {
	if !z.dead {
		_ = syscall.Kill(z.child.PID, syscall.SIGKILL)
	}
}

// expire ends a zygote that nobody needs any more.
func (s *server) expire(z *zygote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(z.tenants) == 0 {
		z.kill()
		s.forgetLocked(z)
	}
}

// forgetLocked has nobody ask a zygote any more.
func (s *server) forgetLocked(z *zygote) {
	if s.zygotes[z.kind] == z {
		delete(s.zygotes, z.kind)
	}
}

// buryZygoteLocked handles a zygote's death. Its workers live on, and so does
// its sandbox until the last of them is dead.
func (s *server) buryZygoteLocked(z *zygote) {
	z.dead = true
	delete(s.zygotePIDs, z.child.PID)
	s.forgetLocked(z)
	z.expire.Stop()
	_ = z.control.Close() // ends raise
	close(z.gone)
	s.tellZygotesLocked()
	s.finishing.Go(func() {
		_ = z.child.Output.SetReadDeadline(time.Now().Add(outputTime))
		<-z.read
		_ = z.child.Output.Close()
	})
	s.leaveLocked(z)
}

// leaveLocked ends a zygote's sandbox when nobody is left in it.
func (s *server) leaveLocked(z *zygote) {
	if _, open := s.sandboxes[z]; !open || !z.dead || len(z.tenants) > 0 {
		return
	}
	delete(s.sandboxes, z)
	s.tellZygotesLocked()
	endNamespace(z.child)
	s.finishing.Go(func() {
		s.removeGroup(z.id, z.group) // process 1 of the sandbox is in it
		<-z.ready
		for _, folder := range z.temporary {
			_ = folder.Close() // a folder
		}
		if z.door != nil {
			z.door.Close()
		}
		s.removeScratch(z.id, z.scratch)
	})
}

// moveOut handles the death of a worker that was forked from z, or would have
// been: its folder goes, with all that is in it.
func (s *server) moveOut(z *zygote, id string) {
	if z.door != nil {
		if err := z.door.ClearRoom(id); err != nil {
			fmt.Fprintf(s.log, "worker %s: its folder is left over: %v\n", id, err)
		}
	} else {
		s.removeScratch(id, z.scratch+"/"+id)
	}
	s.leave(z, id)
}

// leave takes a worker without a folder off the tenants of z. What has been left
// in folders that all share goes with the sandbox, when the last worker is dead:
// none is forked there any more, so that it does not add up.
func (s *server) leave(z *zygote, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(z.tenants, id)
	switch {
	case z.dead:
	case z.untidy():
		z.kill()
		s.forgetLocked(z)
	case len(z.tenants) == 0:
		z.expire.Reset(zygoteIdleTime)
	}
	s.leaveLocked(z)
}

// untidy reports whether there are files that may outlive the worker that made
// them. The server's mu is held.
func (z *zygote) untidy() bool {
	for _, folder := range z.temporary {
		names, err := namesIn(folder)
		if err != nil || slices.ContainsFunc(names, func(name string) bool { return !z.furniture[name] && !z.tenants[name] }) {
			return true
		}
	}
	return false
}

// untidyMax bounds what is looked at of a folder.
const untidyMax = 1024

func namesIn(folder *os.File) ([]string, error) {
	if _, err := folder.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := folder.Readdirnames(untidyMax)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return names, err
}
