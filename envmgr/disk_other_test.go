//go:build !linux

package envmgr

// resolveOnSmallDisk needs Linux's mounts.
func resolveOnSmallDisk(_, _, _ string) int { return 1 }
