package engine

import "sync"

// grantBytesMin is what a job gets at least, so that small jobs work however
// many there are.
const grantBytesMin = 64 << 20

// budget shares the memory for relational work among jobs: each gets half of
// what is left, so that one alone has much and a late one never nothing.
type budget struct {
	mu        sync.Mutex
	freeBytes int64
}

// take gives a job its share, and what returns it.
func (b *budget) take() (bytes int64, giveBack func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	share := max(0, b.freeBytes/2)
	b.freeBytes -= share
	return max(share, grantBytesMin), sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.freeBytes += share
	})
}
