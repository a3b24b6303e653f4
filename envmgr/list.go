package envmgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/diag"
)

// Entry is an environment of the cache.
type Entry struct {
	// ID is the environment's name.
	ID string `json:"id"`
	// Kind is "packages", or "files" of what holds files and archives that go
	// with an environment.
	Kind         string   `json:"kind"`
	Python       string   `json:"python,omitempty"`
	Requirements []string `json:"requirements"`
	// Lock is the name of the lock file that it was made from; Indexes are the
	// package indexes that were asked for.
	Lock          string    `json:"lock,omitempty"`
	Indexes       []string  `json:"indexes,omitempty"`
	SourceBuilds  bool      `json:"source_builds,omitempty"`
	Files         []string  `json:"files,omitempty"`
	Packages      int       `json:"packages"`
	SizeBytes     int64     `json:"size_bytes"`
	Created       time.Time `json:"created"`
	LastUsed      time.Time `json:"last_used"`
	InUse         bool      `json:"in_use"`
	InterpreterOK bool      `json:"interpreter_ok"`
	// AskedBy are the functions and programs that asked for it, latest first.
	AskedBy []string `json:"asked_by"`
	Path    string   `json:"path"`
}

// List gives the environments of the cache, the one used last first.
func (s *Store) List() ([]Entry, error) {
	folders, err := os.ReadDir(s.envs)
	if err != nil {
		return nil, cacheError(s.options.CacheDir, err)
	}
	list := []Entry{}
	for _, folder := range folders {
		if strings.HasPrefix(folder.Name(), buildPrefix) {
			continue
		}
		entry, err := s.entry(folder.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // not whole, or removed meanwhile
		}
		if err != nil {
			return nil, cacheError(s.options.CacheDir, err)
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b Entry) int { return b.LastUsed.Compare(a.LastUsed) })
	return list, nil
}

func (s *Store) entry(key string) (Entry, error) {
	dir := filepath.Join(s.envs, key)
	mark, err := os.Stat(filepath.Join(dir, marker))
	if err != nil {
		return Entry{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return Entry{}, err
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", filepath.Join(dir, "meta.json"), err)
	}
	size, err := treeBytes(dir)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		ID: key, Kind: m.Kind, Python: m.Interpreter.Version, Requirements: append([]string{}, m.Requirements...),
		Lock: m.Lock, Indexes: m.Indexes, SourceBuilds: m.SourceBuilds, Files: m.Files,
		SizeBytes: size, Created: m.Created, LastUsed: mark.ModTime().UTC().Truncate(time.Second), InterpreterOK: true,
		AskedBy: append([]string{}, readUses(filepath.Join(dir, usesFile))...), Path: dir,
	}
	if m.Kind != kindFiles {
		lock, err := os.ReadFile(filepath.Join(dir, "lock.txt"))
		if err != nil {
			return Entry{}, err
		}
		_, interpreterErr := os.Stat(venvPython(dir))
		e.Kind, e.Packages, e.InterpreterOK = kindPackages, countPackages(string(lock)), interpreterErr == nil
	}
	e.InUse, err = s.inUse(key)
	return e, err
}

// treeBytes is what a folder takes on the disk. Files that uv links from its
// own cache count here too, each once.
func treeBytes(dir string) (int64, error) {
	var total int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && !seen[stat.Ino] {
			seen[stat.Ino] = true
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}

// inUse reports whether somebody uses or builds an environment.
func (s *Store) inUse(key string) (bool, error) {
	for _, name := range []string{key, key + useSuffix} {
		f, err := s.tryLock(name)
		if errors.Is(err, fs.ErrPermission) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if f == nil {
			return true, nil
		}
		f.Close()
	}
	return false, nil
}

// Packages lists what is installed in an environment, as "name==version".
func (s *Store) Packages(id string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(s.envs, id, "lock.txt"))
	if errors.Is(err, fs.ErrNotExist) && isDir(filepath.Join(s.envs, id, filesFolder)) {
		return []string{}, nil
	}
	if err != nil {
		return nil, cacheError(s.options.CacheDir, err)
	}
	packages := []string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if line != "" && !strings.ContainsAny(line[:1], " \t#") {
			packages = append(packages, strings.TrimRight(line, " \\"))
		}
	}
	return packages, nil
}

// Get finds an environment by its name or the beginning of it.
func (s *Store) Get(id string) (Entry, error) {
	folders, err := os.ReadDir(s.envs)
	if err != nil {
		return Entry{}, cacheError(s.options.CacheDir, err)
	}
	var found []Entry
	for _, folder := range folders {
		if id == "" || !strings.HasPrefix(folder.Name(), id) || strings.HasPrefix(folder.Name(), buildPrefix) {
			continue // its size is not looked at, which takes long
		}
		entry, err := s.entry(folder.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // not whole, or removed meanwhile
		}
		if err != nil {
			return Entry{}, cacheError(s.options.CacheDir, err)
		}
		found = append(found, entry)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Entry{}, diag.New(diag.BadOption, "there is no environment %q in %s", id, s.options.CacheDir).
			WithHint("pyrunner env ls lists those that there are")
	}
	d := diag.New(diag.BadOption, "%q is the beginning of %d environments", id, len(found))
	return Entry{}, d.WithHint("give more of the name: %s or %s", found[0].ID, found[1].ID)
}

// Remove removes an environment that nobody uses.
func (s *Store) Remove(id string) error {
	removed, err := s.remove(id)
	if err == nil && !removed {
		return diag.New(diag.EnvironmentBusy, "the environment %s is in use", id).
			WithHint("end the jobs and engines that use it")
	}
	return err
}

// remove reports false if the environment is in use. The marker goes first:
// at no moment is there a marker in a directory that is not whole.
func (s *Store) remove(key string) (bool, error) {
	for _, name := range []string{key, key + useSuffix} {
		f, err := s.tryLock(name)
		if err != nil {
			return false, cacheError(s.options.CacheDir, err)
		}
		if f == nil {
			return false, nil
		}
		defer f.Close()
	}
	dir := filepath.Join(s.envs, key)
	if err := removeIfThere(filepath.Join(dir, marker)); err != nil {
		return false, cacheError(s.options.CacheDir, err)
	}
	if err := removeTree(dir); err != nil {
		return false, cacheError(s.options.CacheDir, err)
	}
	return true, nil
}

// Collection says what Collect is to leave.
type Collection struct {
	// BytesMax is the size of the cache above which environments go, the one
	// used longest ago first; negative is no bound.
	BytesMax int64
	// UnusedFor is the age of the last use from which an environment goes
	// whatever the size; 0 is none.
	UnusedFor time.Duration
	// DryRun only tells.
	DryRun bool
}

// Collect removes environments by last use. It never removes one in use. It
// gives those that went (or would) and those that stay.
func (s *Store) Collect(ctx context.Context, c Collection) (gone, stay []Entry, err error) {
	list, err := s.List()
	if err != nil {
		return nil, nil, err
	}
	var total int64
	for _, e := range list {
		total += e.SizeBytes
	}
	gone, stay = []Entry{}, []Entry{}
	for _, e := range slices.Backward(list) {
		old := c.UnusedFor > 0 && time.Since(e.LastUsed) >= c.UnusedFor
		large := c.BytesMax >= 0 && total > c.BytesMax
		if !old && !large && e.InterpreterOK || e.InUse {
			stay = append(stay, e)
			continue
		}
		removed := true
		if !c.DryRun {
			if err := ctx.Err(); err != nil {
				return gone, stay, err
			}
			if removed, err = s.remove(e.ID); err != nil {
				return gone, stay, err
			}
		}
		if !removed { // somebody has come in the meantime
			stay = append(stay, e)
			continue
		}
		total -= e.SizeBytes
		gone = append(gone, e)
	}
	slices.Reverse(stay)
	return gone, stay, nil
}

// Python is an interpreter of this machine.
type Python struct {
	Path           string `json:"path"`
	Version        string `json:"version"`
	Implementation string `json:"implementation"`
	// Platform names the system, the machine and its C library.
	Platform string `json:"platform"`
	// Recent tells whether workers run on it.
	Recent bool `json:"recent"`
}

// Pythons lists the interpreters that environments can be built on.
func (s *Store) Pythons(ctx context.Context) []Python {
	list := []Python{}
	seen := map[string]bool{}
	for _, path := range interpreterPaths("") {
		p, err := s.probe(ctx, path)
		if err != nil || seen[p.Executable] {
			continue // a broken link or shim is no interpreter
		}
		seen[p.Executable] = true
		list = append(list, Python{Path: p.Executable, Version: p.Version, Implementation: p.Implementation, Platform: p.Platform, Recent: p.recent()})
	}
	return list
}

// Installer gives the path and version of uv.
func (s *Store) Installer(ctx context.Context) (path, version string, err error) {
	u, err := s.installer(ctx, "")
	return u.path, u.version, err
}
