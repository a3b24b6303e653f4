package udfworker

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"syscall"
	"time"
)

// scratchPeriod is how often the temporary files of workers are looked at. A
// disk takes less in that time than a limit is.
const scratchPeriod = time.Second

// errEnough ends a walk that has seen more than matters.
var errEnough = errors.New("enough")

// scratchUse is what a worker's temporary files take.
type scratchUse struct {
	bytes, files int64
	// seen are files that are deleted and open, by device and number: several
	// descriptors may be of one.
	seen map[[2]uint64]bool
}

// watchScratch ends workers whose temporary files are too many or too large, as
// long as the process lives. Workers with a file system of their own are left
// to that one's size.
func (s *server) watchScratch() {
	for {
		s.mu.Lock()
		var bounded []*supervised
		for _, w := range s.workers {
			if w.scratch != "" {
				bounded = append(bounded, w)
			}
		}
		shared := map[*zygote]map[string]bool{}
		for z := range s.sandboxes {
			if z.scratch != "" && len(z.tenants) > 0 {
				shared[z] = maps.Clone(z.tenants)
			}
		}
		s.mu.Unlock()
		for z, tenants := range shared {
			s.lookBeside(z, tenants)
		}
		for _, w := range bounded {
			use := scratchUse{seen: map[[2]uint64]bool{}}
			use.look(w.scratch, w.scratchBytes, nil)
			for _, pid := range (procProcesses{}).tree(w.child.PID) {
				use.deleted(pid)
			}
			s.mu.Lock()
			if over := use.over(w.scratchBytes); over != "" && s.workers[w.id] == w {
				w.overScratch = over
				w.killGroup()
			}
			s.mu.Unlock()
		}
		time.Sleep(scratchPeriod)
	}
}

// lookBeside ends the workers of a zygote where there is more beside their own
// folders than one of them may write: none can be told from another there. A
// worker that has come since tenants were listed has written little.
func (s *server) lookBeside(z *zygote, tenants map[string]bool) {
	use := scratchUse{seen: map[[2]uint64]bool{}}
	use.look(z.scratch, z.scratchBytes, tenants)
	s.mu.Lock()
	defer s.mu.Unlock()
	over := use.over(z.scratchBytes)
	if over == "" {
		return
	}
	for _, w := range s.workers {
		if w.zygote == z {
			w.overScratch = over + ", beside its own folder"
			w.killGroup()
		}
	}
	s.forgetLocked(z)
	z.kill()
}

// over says how a limit is passed, or "".
func (u *scratchUse) over(limitBytes int64) string {
	switch {
	case u.bytes > limitBytes:
		return fmt.Sprintf("%s or more, of %s that it may", FormatBytes(u.bytes), FormatBytes(limitBytes))
	case u.files > scratchFilesMax:
		return fmt.Sprintf("more than %d files", scratchFilesMax)
	}
	return ""
}

// look adds the files in a folder, but for some folders in it, as far as it
// matters. It stays within the folder whatever links a process puts there
// meanwhile.
func (u *scratchUse) look(dir string, limitBytes int64, without map[string]bool) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return // it is gone, or shut
	}
	defer func() { _ = root.Close() }() // a handle of a folder
	_ = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, _ error) error {
		switch {
		case u.over(limitBytes) != "":
			return errEnough
		case entry == nil:
			return nil
		case without[path] && entry.IsDir():
			return fs.SkipDir
		}
		u.files++
		if info, err := entry.Info(); err == nil {
			u.add(info)
		}
		return nil
	})
}

// add adds what a file takes on its disk: holes take nothing.
func (u *scratchUse) add(info fs.FileInfo) {
	const blockBytes = 512
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		u.bytes += stat.Blocks * blockBytes
	}
}
