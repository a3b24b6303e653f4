package plan

import (
	"testing"

	"github.com/alink-runtime/alink/grant"
)

// A mount of which it matters where it leads is another one.
func TestWorkerKeyTellsMountsApart(t *testing.T) {
	key := func(m grant.Mount) string {
		return (&Function{Options: FunctionOptions{Mounts: []grant.Mount{m}}}).WorkerKey()
	}
	for _, other := range []grant.Mount{{Path: "/b"}, {Path: "/a", Write: true}, {Path: "/a", Exact: true}} {
		if key(grant.Mount{Path: "/a"}) == key(other) {
			t.Errorf("/a and %+v have one key", other)
		}
	}
}
