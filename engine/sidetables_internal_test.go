package engine

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Engines that start and end in one spill folder at the same time leave each
// other's tables alone, remove what a killed one has left, and nothing else.
func TestSideTablesOfManyEngines(t *testing.T) {
	const leftBehind = sideTablesPrefix + "1.alink-part"
	spill := filepath.Join(t.TempDir(), "odd [name")
	for _, dir := range []string{leftBehind + "/domain", "tables-of-others"} {
		if err := os.MkdirAll(filepath.Join(spill, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(spill, leftBehind, "domain", "1.arrow"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				tables := newSideTables(spill)
				names := map[string]bool{}
				for _, domain := range []string{"", "a/b", ""} {
					file, err := tables.New(domain)
					if err != nil {
						t.Error(err)
						continue
					}
					names[file.Name()] = true
					_ = file.Close()
				}
				for name := range names {
					if _, err := os.Stat(name); err != nil {
						t.Errorf("a table is gone: %v", err)
					}
				}
				if len(names) != 3 {
					t.Errorf("three tables are %d files", len(names))
				}
				tables.EndDomain("") // where tables still lie
				if err := tables.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(spill)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "tables-of-others" {
		t.Errorf("left are %v", entries)
	}
}

// The folder of a domain goes with it, unless a job has a table there.
func TestSideTablesOfADomain(t *testing.T) {
	tables := newSideTables(t.TempDir())
	defer tables.Close()
	file, err := tables.New("d")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	folder := filepath.Dir(file.Name())
	tables.EndDomain("d")
	if _, err := os.Stat(file.Name()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		t.Fatal(err)
	}
	tables.EndDomain("d")
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}
