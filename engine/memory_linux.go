package engine

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/udfworker/cgroup"
)

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

// heldBytes is what this process holds: its private and shared memory, without
// files.
func heldBytes() int64 {
	lines := kibLines("/proc/self/status")
	return (lines["RssAnon"] + lines["RssShmem"]) << 10
}

// foreignBytes is the private memory of this process that is not Go's: that of C
// libraries.
func foreignBytes() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	own := int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
	return kibLines("/proc/self/status")["RssAnon"]<<10 - own
}

// roomBytes is what may still be had: of the machine, and within the control
// groups that this process is in.
func roomBytes() int64 {
	room := kibLines("/proc/meminfo")["MemAvailable"] << 10
	if within, ok := cgroup.Room(); ok {
		room = min(room, within)
	}
	return room
}

// kibLines reads the lines "name: N kB" of a file.
func kibLines(file string) map[string]int64 {
	lines := map[string]int64{}
	text, err := os.ReadFile(file)
	if err != nil {
		return lines // as if nothing were held
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); len(fields) == 2 && fields[1] == "kB" {
			lines[name], _ = strconv.ParseInt(fields[0], 10, 64) // 0 where it is no number
		}
	}
	return lines
}
