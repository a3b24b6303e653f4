package fnapi

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"
)

// A page is a file in which a worker says how far it is: the worker maps it and
// writes, the engine reads. The engine does not map it, because a worker that
// cut the file short would kill the engine with it.
//
// It holds words of 64 bits, in the order of the machine, which both are on:
//
//	0  the number in the instruction's id, 0 where none runs
//	1  1 while user code may run, 0 while the worker waits for the engine
//	2  the index of the call in the stage
//	3  the row within the bundle that a row function is at, plus 1, or 0
//	4  steps: functions called, batches taken and given
//	5  rows that the running call of a row function has done
//	6  the number of the last instruction that was begun
//	7  1 while the function is loaded and set up, else 2 where row is exact and
//	   0 where it is as old as the last look
//	8  looks: how often the worker's thread has counted the rows, which it does
//	   ten times a second, unless native code lets no other thread run
//
// What is read may be torn between words. That only ever looks like progress.
const (
	pageName  = "page"
	pageBytes = 4096
	pageWords = 9
)

// progress is what a page says.
type progress struct {
	instruction uint64
	running     bool
	call        int
	row         int64 // -1 where it is not known
	steps       uint64
	rows        uint64
	// begun is the last instruction that was begun; it stays when that has
	// ended.
	begun uint64
	// loading says that the function is being loaded, exact that row is the one
	// that runs now.
	loading, exact bool
	looks          uint64
	// unread says that the page could not be read.
	unread bool
}

type page struct {
	path string
	file *os.File
}

func newPage(path string) (*page, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(pageBytes); err != nil {
		_ = file.Close()
		return nil, err
	}
	return &page{path, file}, nil
}

// read gives what the page says; a page that cannot be read says nothing.
func (p *page) read() progress {
	var words [8 * pageWords]byte
	if _, err := p.file.ReadAt(words[:], 0); err != nil {
		return progress{row: -1, unread: true}
	}
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(words[8*i:]) }
	// Numbers from a worker: whoever uses call and row checks their bounds.
	return progress{
		instruction: word(0), running: word(1) == 1, call: int(word(2) % (1 << 31)),
		row: int64(word(3)%(1<<62)) - 1, steps: word(4), rows: word(5),
		begun: word(6), loading: word(7) == 1, exact: word(7) == 2, looks: word(8),
	}
}

func (p *page) close() { _ = p.file.Close() }

// instructionID is the instruction that a page calls by its number.
func instructionID(number uint64) string { return "b" + strconv.FormatUint(number, 10) }

// instructionNumber is the number of an instruction, 0 for "".
func instructionNumber(id string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(id, "b"), 10, 64) // the engine's own
	return n
}

// Bounds of how often a page is looked at.
const (
	lookShare = 10 // times within a limit
	lookMin   = 10 * time.Millisecond
	lookMax   = time.Second
	// looksExact is how often the rows must have been counted during a stall for
	// the row to be the one that stalls.
	looksExact = 2
)

// stall measures how long a worker has made no progress.
type stall struct {
	last  progress
	since time.Time
}

// observe takes what the page says at a time, and gives how long it has said
// the same, looks apart, while user code ran.
func (s *stall) observe(now time.Time, p progress) time.Duration {
	same := s.last
	same.looks = p.looks
	if s.since.IsZero() || p != same || !p.running || p.instruction == 0 {
		s.last, s.since = p, now
	}
	return now.Sub(s.since)
}

// watchProgress reads a page until done is closed or stalled returns true. It
// calls stalled with what the page says when that has not changed for the
// limit of the call that runs; a call without a limit is left alone.
func watchProgress(done <-chan struct{}, read func() progress, limit func(call int) time.Duration, every time.Duration, stalled func(progress) bool) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var s stall
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			p := read()
			allowed := limit(p.call)
			waited := s.observe(now, p)
			p.exact = p.exact || p.looks >= s.last.looks+looksExact
			if allowed > 0 && waited >= allowed && stalled(p) {
				return
			}
		}
	}
}
