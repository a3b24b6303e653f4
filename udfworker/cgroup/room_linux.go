package cgroup

import (
	"math"
	"path"
	"strconv"
	"strings"
)

// Room is what the processes of this process's group, and of those around it,
// may still take before a limit of theirs is reached; ok is false where there
// is no limit that can be seen.
func Room() (bytes int64, ok bool) { return room(system()) }

func room(t tree) (bytes int64, ok bool) {
	bytes = math.MaxInt64
	mounts, err := t.Read("/proc/self/mountinfo")
	if err != nil {
		return 0, false
	}
	own, err := t.Read("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for kind, files := range map[Kind]struct{ limit, controller string }{
		V1: {"memory.limit_in_bytes", "memory"}, V2: {"memory.max", ""},
	} {
		h, err := hierarchyOf(mounts, own, kind, files.controller)
		if err != nil {
			continue
		}
		for dir := h.own; len(dir) >= len(h.mount); dir = path.Dir(dir) {
			text, err := t.Read(path.Join(dir, files.limit))
			if err != nil {
				continue // the topmost has none in version 2
			}
			const none = 1 << 62 // version 1 has a number for no limit, version 2 "max"
			limit, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil || limit > none {
				continue
			}
			g := &Group{control: &Control{tree: t, kind: kind}, dir: dir, limitBytes: limit}
			if u, err := g.Usage(); err == nil {
				bytes, ok = min(bytes, max(0, limit-u.HeldBytes)), true
			}
		}
	}
	return bytes, ok
}
