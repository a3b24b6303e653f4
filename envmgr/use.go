package envmgr

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	usesFile = "uses"
	// usesMax bounds the names of who asked for an environment that are kept.
	usesMax = 20
	// useSuffix ends the name of the lock that the users of an environment
	// share and whoever removes it holds alone.
	useSuffix = ".use"
)

// hold takes the environment's lock as one of its users, until Close. It waits
// while somebody removes the environment. In a cache that cannot be written,
// from which nobody removes anything either, there is no lock.
func (s *Store) hold(ctx context.Context, key string) error {
	s.mu.Lock()
	held := s.held[key] != nil
	s.mu.Unlock()
	if held {
		return nil
	}
	f, err := s.flock(ctx, key+useSuffix, unix.LOCK_SH, func() {})
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return nil
	case err != nil:
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] != nil { // another call was faster
		return f.Close()
	}
	s.held[key] = f
	return nil
}

// Close lets go of the environments that were resolved: from then on they may
// be removed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for key, f := range s.held {
		err = errors.Join(err, f.Close())
		delete(s.held, key)
	}
	return err
}

// noteUse writes down who asks for an environment, the latest first. It is
// news for people: where it cannot be written it is left out.
func (s *Store) noteUse(key, who string) {
	who = strings.Join(strings.Fields(who), " ")
	if who == "" {
		return
	}
	path := filepath.Join(s.envs, key, usesFile)
	uses := readUses(path)
	if len(uses) > 0 && uses[0] == who {
		return
	}
	uses = slices.DeleteFunc(uses, func(u string) bool { return u == who })
	uses = append([]string{who}, uses...)
	_ = replaceFile(path, strings.Join(uses[:min(len(uses), usesMax)], "\n")+"\n")
}

func readUses(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // nobody has been noted
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" })
}

// replaceFile writes a file under a name of its own and renames it: several
// processes may do so at once.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = cmp.Or(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
