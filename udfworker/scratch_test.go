package udfworker

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestScratchUse counts what files take on the disk, within a folder and
// deleted ones that are open, each once.
func TestScratchUse(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	for path, bytes := range map[string]int{filepath.Join(dir, "a"): mib, filepath.Join(dir, "b", "c"): 2 * mib, outside: 64 * mib} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 1<<40); err != nil { // a hole takes nothing
		t.Fatal(err)
	}
	use := scratchUse{seen: map[[2]uint64]bool{}}
	use.look(dir, 100*mib, nil)
	if use.bytes < 3*mib || use.bytes > 4*mib || use.over(2*mib) == "" || use.over(100*mib) != "" {
		t.Errorf("%d bytes, %d files", use.bytes, use.files)
	}
	beside := scratchUse{seen: map[[2]uint64]bool{}}
	beside.look(dir, 100*mib, map[string]bool{"b": true})
	if beside.bytes < mib || beside.bytes >= 2*mib || beside.files != use.files-2 {
		t.Errorf("beside a folder: %d bytes, %d files", beside.bytes, beside.files)
	}
	few := scratchUse{files: scratchFilesMax + 1}
	if !strings.Contains(few.over(mib), "files") {
		t.Errorf("%q", few.over(mib))
	}
	if runtime.GOOS != "linux" {
		return
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	second, err := os.OpenFile(f.Name(), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err = f.Write(make([]byte, 8*mib)); err != nil {
		t.Fatal(err)
	}
	before := scratchUse{seen: map[[2]uint64]bool{}}
	before.deleted(os.Getpid())
	if err = os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	after := scratchUse{seen: map[[2]uint64]bool{}}
	after.deleted(os.Getpid())
	if more := after.bytes - before.bytes; more < 8*mib || more > 9*mib {
		t.Errorf("a deleted file counts as %d bytes", more)
	}
}

func TestDeathByFiles(t *testing.T) {
	d := deathOf(Event{Kind: EventExited, Signal: 9, OverScratch: "300 MiB or more, of 256 MiB that it may"})
	if d.Kind != OverScratch || d.String() != "it wrote 300 MiB or more, of 256 MiB that it may" {
		t.Errorf("%s: %s", d.Kind, d)
	}
}
