//go:build linux

package cgroup

import "testing"

// TestRoom is that of the narrowest group around.
func TestRoom(t *testing.T) {
	k := newFake1(t)
	const home = "/sys/fs/cgroup/memory/a/b"
	k.group("/sys/fs/cgroup/memory/a").group("/sys/fs/cgroup/memory")
	for dir, limit := range map[string]string{home: "9223372036854771712", "/sys/fs/cgroup/memory/a": "1000", "/sys/fs/cgroup/memory": "9223372036854771712"} {
		k.files[dir+"/memory.limit_in_bytes"] = limit
	}
	k.files["/sys/fs/cgroup/memory/a/memory.usage_in_bytes"] = "900"
	k.files["/sys/fs/cgroup/memory/a/memory.stat"] = "total_inactive_file 200\ntotal_active_file 100\n"
	if bytes, ok := room(k); !ok || bytes != 400 {
		t.Error(bytes, ok)
	}
	k.files["/sys/fs/cgroup/memory/a/memory.limit_in_bytes"] = "9223372036854771712"
	if bytes, ok := room(k); ok {
		t.Error(bytes, "where nothing is limited")
	}
	k2 := newFake(t, mount2, "0::/user.slice/pod")
	k2.slice("/sys/fs/cgroup").group("/sys/fs/cgroup/user.slice/pod")
	k2.files["/sys/fs/cgroup/user.slice/pod/memory.max"] = "5000"
	k2.files["/sys/fs/cgroup/user.slice/pod/memory.current"] = "1000"
	k2.files["/sys/fs/cgroup/user.slice/memory.max"] = "max"
	if bytes, ok := room(k2); !ok || bytes != 4000 {
		t.Error(bytes, ok)
	}
}
