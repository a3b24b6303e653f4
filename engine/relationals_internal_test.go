package engine

import (
	"os"
	"testing"
)

// An instance is kept for the next job of the same client that needs the same
// settings, and only after one that has ended well and holds little; few are kept.
func TestRelationals(t *testing.T) {
	dir := t.TempDir()
	foreign := int64(0)
	r := &relationals{options: Options{SpillDir: dir}, foreign: func() int64 { return foreign }}
	const memoryBytes = 64 << 20
	lend := func(domain string, threads int) relational {
		t.Helper()
		one, err := r.open(relationalUse{domain, threads, memoryBytes})
		if err != nil {
			t.Skip(err) // without cgo
		}
		return one
	}
	open := func() int { // each has a folder
		t.Helper()
		folders, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(folders)
	}
	first := lend("a", 1)
	r.giveBack(first, true)
	if again := lend("a", 1); again != first {
		t.Error("the next job got another instance")
	}
	r.giveBack(first, true)
	for name, other := range map[string]relational{"another client": lend("b", 1), "more threads": lend("a", 2)} {
		if other == first {
			t.Errorf("%s got the same instance", name)
		}
		r.giveBack(other, false)
	}
	if n := open(); n != 1 {
		t.Errorf("%d instances are there, not only the one that is kept", n)
	}

	r.giveBack(lend("a", 2), true)
	r.giveBack(lend("b", 1), true)
	if n := open(); n != keptRelationalsMax {
		t.Errorf("%d instances are kept", n)
	}
	large := lend("c", 1)
	foreign += keptGrowthBytesMax + 1
	r.giveBack(large, true)
	if n := open(); n != keptRelationalsMax {
		t.Errorf("%d instances are there after one that holds much", n)
	}
	foreign = 0
	newest := lend("b", 1)
	r.giveBack(newest, true)
	r.endDomain("a")
	if n := open(); n != 1 {
		t.Errorf("%d instances are there after a client has gone", n)
	}
	if lend("b", 1) != newest {
		t.Error("the instance of a client that is there has gone with another's")
	}
	r.close()
	r.giveBack(newest, true)
	if n := open(); n != 0 {
		t.Errorf("%d instances are left behind", n)
	}
}
