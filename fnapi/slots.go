package fnapi

import (
	"os"
	"sync"
	"sync/atomic"
)

// Bounds of a worker's slots.
const (
	// slotBytes is the size of a slot: what is larger goes in several pieces.
	slotBytes = 4 << 20
	// inlineBytesMax is what travels in the frame itself: copying it twice, and
	// memory of its own for what comes, cost less than keeping a slot for it.
	inlineBytesMax = 16 << 10
	// inputSlotsMax are as many as bundles in flight, and as many again for what
	// functions keep of batches; outputSlotsMax is what a worker sends ahead, and
	// heldSlotsMax what the engine keeps of results where they came.
	inputSlotsMax  = 2 * bundlesInFlightMax
	outputSlotsMax = 3
	heldSlotsMax   = 3
)

// slot is a segment of shared memory of one worker. The engine makes all of
// them, sealed against growing and shrinking, so that neither side can have
// the other read what is not there. What the engine writes (an input slot) the
// worker can only read, and the other way round.
type slot struct {
	number uint16
	file   *os.File
	memory []byte
	state  slotState
}

// slotState says who may use a slot's memory.
type slotState uint8

const (
	// slotFree: nobody.
	slotFree slotState = iota
	// slotLent: the worker, which reads an input slot and fills an output slot.
	slotLent
	// slotHeld: batches of the engine refer to it; see hold.
	slotHeld
)

// slots are those of one direction of one worker.
type slots struct {
	input bool
	// lentMax and heldMax bound how many are lent and held.
	lentMax, heldMax int
	// first is the number of the first slot.
	first uint16
	// live counts the slots of all workers.
	live *atomic.Int64

	mu         sync.Mutex
	all        []*slot
	free       []*slot
	lent, held int
	broken     bool // no more can be made
	closed     bool
}

// take lends a free slot; the one used last comes first, since its memory is
// at hand. made says that it is new, and has to be handed to the worker. It
// gives nil where none is to be had; nobody waits for one.
func (s *slots) take() (lent *slot, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.lent == s.lentMax:
		return nil, false
	case len(s.free) > 0:
		lent = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
	case s.broken || len(s.all) == s.lentMax+s.heldMax:
		return nil, false
	default:
		fresh, err := newSlot(s.first+uint16(len(s.all)), s.input)
		if err != nil {
			s.broken = true
			return nil, false
		}
		s.all = append(s.all, fresh)
		s.live.Add(1)
		lent, made = fresh, true
	}
	lent.state = slotLent
	s.lent++
	return lent, made
}

// give takes back the slot of a number; false says that it was not lent.
func (s *slots) give(number uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lent := s.lentLocked(number)
	if lent == nil {
		return false
	}
	s.lent--
	s.freeLocked(lent)
	return true
}

// find finds the slot of a number that is lent, or nil.
func (s *slots) find(number uint16) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lentLocked(number)
}

func (s *slots) lentLocked(number uint16) *slot {
	at := int(number) - int(s.first)
	if at < 0 || at >= len(s.all) || s.all[at].state != slotLent {
		return nil
	}
	return s.all[at]
}

func (s *slots) freeLocked(one *slot) {
	one.state = slotFree
	s.free = append(s.free, one)
}

// hold keeps what a lent slot contains where it is, or gives nil where as many
// are held as may be. Whoever gets a hold releases it.
func (s *slots) hold(lent *slot) *hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == s.heldMax {
		return nil
	}
	s.lent--
	s.held++
	lent.state = slotHeld
	h := &hold{slots: s, slot: lent}
	h.refs.Store(1)
	return h
}

// let ends a hold. The memory of a worker that is gone goes with it.
func (s *slots) let(held *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	if s.closed {
		s.unmapLocked(held)
		return
	}
	s.freeLocked(held)
}

func (s *slots) unmapLocked(one *slot) {
	one.close()
	s.live.Add(-1)
}

// close unmaps all slots but those that are held, which are when they are let
// go. Nobody uses the memory of the others any more.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, one := range s.all {
		if one.state != slotHeld {
			s.unmapLocked(one)
		}
	}
	s.all, s.free = nil, nil
}

// hold keeps a slot that batches of the engine refer to; the slot is lent again
// when the last reference is released. It implements memory.Allocator, by which
// Arrow's buffers release what they refer to.
type hold struct {
	slots *slots
	slot  *slot
	refs  atomic.Int64
}

func (h *hold) retain() { h.refs.Add(1) }

func (h *hold) release() {
	if h.refs.Add(-1) == 0 {
		h.slots.let(h.slot)
	}
}

// Allocate implements memory.Allocator. Nothing is allocated in a slot.
func (h *hold) Allocate(size int) []byte { return make([]byte, size) }

// Reallocate implements memory.Allocator.
func (h *hold) Reallocate(size int, b []byte) []byte {
	moved := make([]byte, size)
	copy(moved, b)
	return moved
}

// Free implements memory.Allocator.
func (h *hold) Free([]byte) { h.release() }
