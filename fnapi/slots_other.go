//go:build !linux

package fnapi

import "errors"

// errNoSlots says that this system has no shared memory that can be sealed.
var errNoSlots = errors.New("there is no sealed shared memory")

func newSlot(uint16, bool) (*slot, error) { return nil, errNoSlots }

func (s *slot) close() { _ = s.file.Close() }

func (s *slot) rights() []byte { return nil }
