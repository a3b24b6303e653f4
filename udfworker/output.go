package udfworker

import (
	"strings"
	"sync"
)

// outputBytesMax is how much of a worker's last output is kept.
const outputBytesMax = 8 << 10

// tail keeps the last outputBytesMax bytes written to it. Its methods may be
// called from several goroutines.
type tail struct {
	mu   sync.Mutex
	ring [outputBytesMax]byte
	// written counts all bytes; the next one goes to written % outputBytesMax.
	written int
}

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if len(p) > outputBytesMax {
		t.written += len(p) - outputBytesMax
		p = p[len(p)-outputBytesMax:]
	}
	for len(p) > 0 {
		copied := copy(t.ring[t.written%outputBytesMax:], p)
		t.written += copied
		p = p[copied:]
	}
	return n, nil
}

// String is what is kept, as valid UTF-8. Where something is lost it begins
// at the beginning of a line, if there is one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written <= outputBytesMax {
		return strings.ToValidUTF8(string(t.ring[:t.written]), "�")
	}
	at := t.written % outputBytesMax
	text := string(t.ring[at:]) + string(t.ring[:at])
	if i := strings.IndexByte(text, '\n'); i >= 0 && i+1 < len(text) {
		text = text[i+1:]
	}
	return strings.ToValidUTF8(text, "�")
}
