package sandbox

import (
	"testing"

	"github.com/alink-runtime/alink/grant"
)

// Workers are shared by functions of one key: what differs has keys that differ.
func TestKey(t *testing.T) {
	if (Policy{}).Key() != (Policy{Mode: Auto}).Key() {
		t.Error("the default mode is not its name")
	}
	seen := map[string]Policy{}
	for _, p := range []Policy{
		{},
		{Mode: Strict},
		{Network: true},
		{Mounts: []grant.Mount{{Path: "/a"}}},
		{Mounts: []grant.Mount{{Path: "/a", Write: true}}},
		{Mounts: []grant.Mount{{Path: "/a", Exact: true}}},
		{Mounts: []grant.Mount{{Path: "/a"}, {Path: "/b"}}},
	} {
		if other, twice := seen[p.Key()]; twice {
			t.Errorf("%+v and %+v have one key", p, other)
		}
		seen[p.Key()] = p
	}
}
