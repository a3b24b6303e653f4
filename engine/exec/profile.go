package exec

import (
	"maps"
	"sync"
)

// profileBytesMax bounds the names that a Profile keeps.
const profileBytesMax = 8 << 20

// Profile adds up the time of stacks of frames, from samples that workers take
// of all functions of a job. Its methods may be called from several goroutines.
type Profile struct {
	mu    sync.Mutex
	us    map[string]int64
	bytes int
}

// Add adds microseconds by stack: names of frames, the outermost first, with a
// semicolon between. New stacks are left out where there are too many.
func (p *Profile) Add(us map[string]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.us == nil {
		p.us = map[string]int64{}
	}
	for stack, more := range us {
		if _, known := p.us[stack]; !known {
			if p.bytes+len(stack) > profileBytesMax {
				continue
			}
			p.bytes += len(stack)
		}
		p.us[stack] += more
	}
}

// Stacks are the microseconds by stack so far.
func (p *Profile) Stacks() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.us)
}
