package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func machineFindings() []finding {
	var u unix.Utsname
	kernel := "unknown"
	if err := unix.Uname(&u); err == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	memory := finding{Name: "memory", Value: "unknown"}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		memory = finding{Name: "memory", OK: true, Value: bytesText(int64(info.Totalram) * int64(info.Unit)), Reason: "half of it is the default of memory"}
	}
	user := fmt.Sprintf("uid %d", os.Geteuid())
	return []finding{{Name: "kernel", OK: true, Value: kernel}, memory, {Name: "user", OK: true, Value: user}}
}

func watchFinding() finding {
	f := finding{Name: "watch"}
	if _, err := os.ReadFile("/proc/self/smaps_rollup"); err != nil {
		f.Reason = err.Error()
		return f
	}
	f.OK, f.Value = true, "/proc/PID/smaps_rollup can be read"
	return f
}

func shmFinding() finding {
	f := freeSpace("shared memory", "/dev/shm")
	if !f.OK {
		f.Reason = "/dev/shm is not there: " + f.Reason
	}
	return f
}

func freeSpace(name, dir string) finding {
	f := finding{Name: name}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		f.Reason = err.Error()
		return f
	}
	f.OK, f.Value = true, fmt.Sprintf("%s free in %s", bytesText(int64(stat.Bavail)*stat.Bsize), dir)
	if unix.Access(dir, unix.W_OK) != nil {
		f.OK, f.Reason = false, "it cannot be written"
	}
	return f
}
