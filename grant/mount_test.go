package grant

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckMounts(t *testing.T) {
	var many []Mount
	for i := range MountsMax + 1 {
		many = append(many, Mount{Path: fmt.Sprintf("/%03d", i)})
	}
	for _, c := range []struct {
		mounts []Mount
		want   string
	}{
		{nil, ""},
		{many[:MountsMax], ""},
		{[]Mount{{Path: "/a", Write: true}, {Path: "/a/b"}}, ""},
		{many, "at most 64 mounts are possible, not 65"},
		{[]Mount{{Path: "a"}}, `"a" is not an absolute, clean path`},
		{[]Mount{{Path: "/a/../b"}}, "not an absolute, clean path"},
		{[]Mount{{Path: "/a/"}}, "not an absolute, clean path"},
		{[]Mount{{Path: "/a\x00b"}}, "not an absolute, clean path"},
		{[]Mount{{Path: "/"}}, "the root of the file system cannot be mounted"},
		{[]Mount{{Path: "/b"}, {Path: "/a"}}, "not sorted"},
		{[]Mount{{Path: "/a"}, {Path: "/a", Write: true}}, `"/a" stands twice`},
	} {
		err := CheckMounts(c.mounts)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.mounts, err, c.want)
		}
	}
}

// Mounts that differ in anything have keys that differ.
func TestKey(t *testing.T) {
	seen := map[string]Mount{}
	for _, m := range []Mount{{Path: "/a"}, {Path: "/a", Write: true}, {Path: "/a", Exact: true}, {Path: "/a", Write: true, Exact: true}, {Path: "/b"}} {
		if other, twice := seen[m.Key()]; twice {
			t.Errorf("%+v and %+v have one key", m, other)
		}
		seen[m.Key()] = m
	}
}
