package fnapi

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestPage(t *testing.T) {
	p, err := newPage(filepath.Join(t.TempDir(), pageName))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if got := p.read(); got.running || got.instruction != 0 || got.row != -1 {
		t.Errorf("a new page says %+v", got)
	}
	for i, word := range []uint64{7, 1, 2, 42, 5, 41, 7, 2, 3} {
		if _, err := p.file.WriteAt(binary.NativeEndian.AppendUint64(nil, word), int64(8*i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.read(); got != (progress{7, true, 2, 41, 5, 41, 7, false, true, 3, false}) {
		t.Errorf("it says %+v", got)
	}
	// Whatever a worker writes, or does to the file.
	ones := make([]byte, pageBytes)
	for i := range ones {
		ones[i] = 0xFF
	}
	if _, err := p.file.WriteAt(ones, 0); err != nil {
		t.Fatal(err)
	}
	if got := p.read(); got.call < 0 || got.row < 0 {
		t.Errorf("it says %+v", got)
	}
	if err := os.Truncate(p.path, 3); err != nil {
		t.Fatal(err)
	}
	if got := p.read(); got.running {
		t.Errorf("it says %+v", got)
	}
}

func TestWatchProgress(t *testing.T) {
	const limit = time.Minute
	type at struct {
		after time.Duration
		says  progress
	}
	running := progress{instruction: 1, running: true, row: -1}
	stepped, second, waiting, unlimited := running, running, running, running
	stepped.rows = 1
	second.instruction = 2
	waiting.running = false
	unlimited.call = 1
	for _, test := range []struct {
		name string
		says []at
		// want is when it is told of a stall, within a look; 0 is never.
		want time.Duration
	}{
		{"nothing runs", []at{{0, progress{}}}, 0},
		{"a call that hangs", []at{{0, running}}, limit},
		{"a row after 40 s", []at{{0, running}, {40 * time.Second, stepped}}, 40*time.Second + limit},
		{"another bundle", []at{{0, running}, {50 * time.Second, second}}, 50*time.Second + limit},
		{"it waits for the engine", []at{{0, waiting}}, 0},
		{"it waits, then hangs", []at{{0, waiting}, {3 * limit, running}}, 4 * limit},
		{"a call without a limit", []at{{0, unlimited}}, 0},
		{"then one with a limit", []at{{0, unlimited}, {2 * limit, running}}, 3 * limit},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, done := time.Now(), make(chan struct{})
				read := func() (p progress) {
					for _, a := range test.says {
						if time.Since(began) >= a.after {
							p = a.says
						}
					}
					return p
				}
				allowed := func(call int) time.Duration {
					if call == 1 {
						return 0
					}
					return limit
				}
				var told time.Duration
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					watchProgress(done, read, allowed, lookMax, func(progress) bool {
						told = time.Since(began)
						return true
					})
				}()
				time.Sleep(10 * limit)
				close(done)
				<-ended
				if test.want == 0 && told != 0 || test.want > 0 && (told < test.want || told > test.want+2*lookMax) {
					t.Errorf("told after %s, want %s", told, test.want)
				}
			})
		})
	}
}

// TestStallThatPasses: whoever is told may say that it was nothing, and is told
// again.
func TestStallThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, ended := 0, make(chan struct{})
		go func() {
			defer close(ended)
			watchProgress(nil, func() progress { return progress{instruction: 1, running: true} },
				func(int) time.Duration { return time.Minute }, lookMax, func(progress) bool {
					told++
					return told == 3
				})
		}()
		<-ended
		if told != 3 {
			t.Errorf("told %d times", told)
		}
	})
}
