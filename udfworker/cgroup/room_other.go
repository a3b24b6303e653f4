//go:build unix && !linux

package cgroup

// Room cannot be told here.
func Room() (bytes int64, ok bool) { return 0, false }
