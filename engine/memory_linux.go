package engine

import "golang.org/x/sys/unix"

// machineMemoryBytes is the size of the machine's memory.
func machineMemoryBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return memoryBytesUnknown
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// memoryBytesUnknown is assumed where the machine does not tell.
const memoryBytesUnknown = 4 << 30
