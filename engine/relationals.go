package engine

import (
	"slices"
	"sync"

	"github.com/alink-runtime/alink/engine/exec"
)

// Bounds of what is kept.
const (
	// keptRelationalsMax bounds the instances: jobs that aggregate have another
	// number of threads than those that do not.
	keptRelationalsMax = 2
	// keptGrowthBytesMax is what the C heap may have grown by since an instance
	// was opened: what queries have freed goes back to the system when it ends.
	keptGrowthBytesMax = 32 << 20
)

// relationals opens the DuckDB instances of jobs, and keeps those of jobs that
// have ended well for the next jobs of the same client: to start one takes 7 ms,
// more than the rest of a small job. Nothing of a job is left in one, since no
// query can leave more than temporary tables, which end with its connection.
type relationals struct {
	options Options
	// foreign is what the process holds beside Go's memory.
	foreign func() int64

	mu     sync.Mutex
	kept   []relational // the oldest first
	closed bool
}

// relational is an instance with what it was opened for.
type relational struct {
	exec.Relational
	use relationalUse
	// foreignBytes were held when it was opened.
	foreignBytes int64
}

// relationalUse are what jobs agree in that may have one instance after another:
// settings of an instance are locked.
type relationalUse struct {
	domain      string
	threads     int
	memoryBytes int64
}

// open gives an instance that is kept, or opens one. The caller gives it back.
func (r *relationals) open(use relationalUse) (relational, error) {
	r.mu.Lock()
	at := slices.IndexFunc(r.kept, func(one relational) bool { return one.use == use })
	if at >= 0 {
		one := r.kept[at]
		r.kept = slices.Delete(r.kept, at, at+1)
		r.mu.Unlock()
		return one, nil
	}
	r.mu.Unlock()
	before := r.foreign()
	opened, err := openRelational(r.options, use.threads, use.memoryBytes)
	return relational{opened, use, before}, err
}

// giveBack takes an instance that nobody uses any more. It is kept if it is
// sound, since after an error of its own DuckDB may refuse all that follows, and
// if not much memory would be kept with it.
func (r *relationals) giveBack(one relational, sound bool) {
	out := []relational{one}
	sound = sound && r.foreign()-one.foreignBytes <= keptGrowthBytesMax
	r.mu.Lock()
	if sound && !r.closed {
		r.kept = append(r.kept, one)
		n := max(0, len(r.kept)-keptRelationalsMax)
		out = slices.Clone(r.kept[:n])
		r.kept = slices.Delete(r.kept, 0, n)
	}
	r.mu.Unlock()
	closeRelationals(out)
}

// endDomain ends what is kept for a client that has gone.
func (r *relationals) endDomain(domain string) {
	r.mu.Lock()
	var out []relational
	r.kept = slices.DeleteFunc(r.kept, func(one relational) bool {
		if one.use.domain != domain {
			return false
		}
		out = append(out, one)
		return true
	})
	r.mu.Unlock()
	closeRelationals(out)
}

// close ends what is kept; nothing is kept any more.
func (r *relationals) close() {
	r.mu.Lock()
	out := r.kept
	r.kept, r.closed = nil, true
	r.mu.Unlock()
	closeRelationals(out)
}

func closeRelationals(out []relational) {
	for _, one := range out {
		_ = one.Close() // in-memory: nothing is lost
	}
}
