package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/alink-runtime/alink/diag"
)

// bytesText is a size as people read it.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	for value >= 999.95 && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

// ago is a time in the past as people read it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour") + " ago"
	}
	return count(int(d/(24*time.Hour)), "day") + " ago"
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// cut shortens a text to a width on the screen.
func cut(text string, width int) string { return runewidth.Truncate(text, width, "…") }

// inputBytesMax bounds scripts, plans and lists that are read whole.
const inputBytesMax = 64 << 20

// readInput reads a small file that the user has named.
func readInput(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", diag.New(diag.FileMissing, "there is no file %s", path)
	}
	if err == nil && info.Size() > inputBytesMax {
		err = fmt.Errorf("it has %d bytes; the limit is %d", info.Size(), inputBytesMax)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return "", diag.New(diag.FileUnreadable, "%s cannot be read", path).WithCause(err)
	}
	return string(data), nil
}
