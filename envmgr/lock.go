package envmgr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The pause between two tries to take a lock that is held.
const (
	lockPauseMin = 5 * time.Millisecond
	lockPauseMax = 200 * time.Millisecond
)

// lock takes the file lock of a name, between processes and within one. It
// ends when the returned file has been closed here and in every program that
// was started with it. waiting is called once if somebody else holds it. Lock
// files stay: removing one while another process waits for it would let two
// in.
func (s *Store) lock(ctx context.Context, name string, waiting func()) (*os.File, error) {
	return s.flock(ctx, name, unix.LOCK_EX, waiting)
}

// flock is lock with a choice: unix.LOCK_EX, or unix.LOCK_SH, which several
// can have at once.
func (s *Store) flock(ctx context.Context, name string, how int, waiting func()) (*os.File, error) {
	pause := lockPauseMin
	for {
		f, err := s.tryFlock(name, how)
		if err != nil || f != nil {
			return f, err
		}
		if pause == lockPauseMin {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, lockPauseMax)
	}
}

// tryLock is lock without waiting: nil without an error means that somebody
// else holds it.
func (s *Store) tryLock(name string) (*os.File, error) { return s.tryFlock(name, unix.LOCK_EX) }

func (s *Store) tryFlock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.locks, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
}
