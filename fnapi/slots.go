package fnapi

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// Bounds of a worker's slots.
const (
	// slotBytes is the size of a slot: what is larger goes in several pieces.
	slotBytes = 4 << 20
	// inlineBytesMax is what travels in the frame itself: copying it twice costs
	// less than keeping a slot for it.
	inlineBytesMax = 64 << 10
	// inputSlotsMax are as many as bundles in flight, and as many again for what
	// functions keep of batches; outputSlotsMax is what a worker sends ahead.
	inputSlotsMax  = 2 * bundlesInFlightMax
	outputSlotsMax = 3
)

// slot is a segment of shared memory of one worker. The engine makes all of
// them, sealed against growing and shrinking, so that neither side can have
// the other read what is not there. What the engine writes (an input slot) the
// worker can only read.
type slot struct {
	number uint16
	file   *os.File
	memory []byte
}

// slots are those of one direction of one worker. A slot is free, or lent to
// whoever fills it or reads it.
type slots struct {
	input bool
	max   int
	// first is the number of the first slot.
	first uint16
	// live counts the slots of all workers.
	live *atomic.Int64

	mu     sync.Mutex
	all    []*slot
	free   []*slot
	broken bool // no more can be made
	closed bool
}

// take lends a free slot; the one used last comes first, since its memory is
// at hand. made says that it is new, and has to be handed to the worker. It
// gives nil where none is to be had; nobody waits for one.
func (s *slots) take() (lent *slot, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, false
	case len(s.free) > 0:
		lent = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		return lent, false
	case s.broken || len(s.all) == s.max:
		return nil, false
	}
	fresh, err := newSlot(s.first+uint16(len(s.all)), s.input)
	if err != nil {
		s.broken = true
		return nil, false
	}
	s.all = append(s.all, fresh)
	s.live.Add(1)
	return fresh, true
}

// give takes back the slot of a number; false says that it was not lent.
func (s *slots) give(number uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := int(number) - int(s.first)
	if at < 0 || at >= len(s.all) || slices.Contains(s.free, s.all[at]) {
		return false
	}
	s.free = append(s.free, s.all[at])
	return true
}

// lent finds the slot of a number that is lent, or nil.
func (s *slots) lent(number uint16) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := int(number) - int(s.first)
	if at < 0 || at >= len(s.all) || slices.Contains(s.free, s.all[at]) {
		return nil
	}
	return s.all[at]
}

// close unmaps all slots. Nobody uses their memory any more.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, one := range s.all {
		one.close()
		s.live.Add(-1)
	}
	s.all, s.free = nil, nil
}
