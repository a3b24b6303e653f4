package engine

import (
	"fmt"
	"slices"
	"sync"

	"github.com/alink-runtime/alink/engine/exec"
)

// Limits of what a job has printed and logged. The oldest lines give way.
const (
	logLinesMax = 10_000
	logBytesMax = 16 << 20
	// logBytesKept is what is left of an ended job's when a further job starts.
	logBytesKept = 256 << 10
)

// jobLog keeps the last lines that a job's functions have printed and logged,
// for any number of readers.
type jobLog struct {
	mu    sync.Mutex
	lines []exec.LogLine
	// first is the number of lines[0], counted from the job's start.
	first int
	bytes int // of the lines' texts
}

func (l *jobLog) add(line exec.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	l.bytes += len(line.Text)
	l.trim(logLinesMax, logBytesMax)
}

// shrink lets go of all but the last lines of a job that has ended.
func (l *jobLog) shrink() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trim(logLinesMax, logBytesKept) {
		l.lines = slices.Clone(l.lines)
	}
}

// trim drops the oldest lines, if there are too many, and reports whether it
// has; mu is held. The last one always stays.
func (l *jobLog) trim(linesMax, bytesMax int) bool {
	n := 0
	for n < len(l.lines)-1 && (len(l.lines)-n > linesMax || l.bytes > bytesMax) {
		l.bytes -= len(l.lines[n].Text)
		l.lines[n] = exec.LogLine{}
		n++
	}
	l.lines = l.lines[n:]
	l.first += n
	return n > 0
}

// after gives the lines from a number on, and the number to go on with.
func (l *jobLog) after(from int) (lines []exec.LogLine, next int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = l.first + len(l.lines)
	if from >= next {
		return nil, next
	}
	if missed := l.first - from; missed > 0 {
		lines = append(lines, exec.LogLine{Level: "WARNING", Text: fmt.Sprintf("%d lines of output were dropped", missed)})
	}
	return append(lines, l.lines[max(0, from-l.first):]...), next
}
