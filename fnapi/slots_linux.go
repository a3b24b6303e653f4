package fnapi

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newSlot makes a slot. The engine's own mapping of an input slot is made before
// the seal that keeps everybody else from writing.
func newSlot(number uint16, input bool) (*slot, error) {
	fd, err := unix.MemfdCreate("alink-slot", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a slot: %w", err)
	}
	s := &slot{number: number, file: os.NewFile(uintptr(fd), "alink-slot")}
	protection, seals := unix.PROT_READ, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL
	if input {
		protection, seals = unix.PROT_READ|unix.PROT_WRITE, seals|unix.F_SEAL_FUTURE_WRITE
	}
	if err = unix.Ftruncate(fd, slotBytes); err == nil {
		s.memory, err = unix.Mmap(fd, 0, slotBytes, protection, unix.MAP_SHARED)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("make a slot: %w", err)
	}
	return s, nil
}

func (s *slot) close() {
	var err error
	if s.memory != nil {
		err = unix.Munmap(s.memory)
		s.memory = nil
	}
	_ = errors.Join(err, s.file.Close()) // memory: nothing is lost
}

// rights is the ancillary data that passes the slot's descriptor.
func (s *slot) rights() []byte { return unix.UnixRights(int(s.file.Fd())) }
