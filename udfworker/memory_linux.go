package udfworker

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// procProcesses reads /proc.
type procProcesses struct{}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// tree lists a process and all below it by the lists of children that each
// thread has; a kernel without these lists gives the process alone.
func (procProcesses) tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids) && len(pids) < treeProcessesMax; i++ {
		pids = append(pids, childrenOf(pids[i])...)
	}
	return pids
}

// childrenOf lists the children of a process, by the lists of its threads.
func childrenOf(pid int) (pids []int) {
	lists, err := filepath.Glob(procFile(pid, "task/*/children"))
	if err != nil {
		return nil // the pattern is well formed
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// born is the number of the newest process, the last word of this file.
func (procProcesses) born() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return string(text[bytes.LastIndexByte(bytes.TrimSpace(text), ' ')+1:])
}

// treeProcessesMax bounds what is looked at of a worker that forks without end.
const treeProcessesMax = 512

// resident adds up anonymous and shared memory, what of them is swapped out,
// and page tables, which a large map makes large although it holds nothing.
func (procProcesses) resident(pid int) int64 {
	lines := kibLines(procFile(pid, "status"))
	kib := lines["RssAnon"] + lines["RssShmem"]
	if kib == 0 {
		kib = lines["VmRSS"] // before Linux 4.5
	}
	return (kib + lines["VmSwap"] + lines["VmPTE"]) << 10
}

// held adds up anonymous memory, shared memory and what of either is swapped
// out, each by the process's share. A kernel that does not tell them apart
// (before Linux 5.4) gives all of the share.
func (p procProcesses) held(pid int) int64 {
	lines := kibLines(procFile(pid, "smaps_rollup"))
	if len(lines) == 0 {
		return p.resident(pid)
	}
	kib := lines["Pss_Anon"] + lines["Pss_Shmem"] + lines["SwapPss"]
	if _, ok := lines["Pss_Anon"]; !ok {
		kib = lines["Pss"] + lines["SwapPss"]
	}
	return (kib + kibLines(procFile(pid, "status"))["VmPTE"]) << 10
}

// kibLines reads the lines "name: N kB" of a file; there are none where it
// cannot be read.
func kibLines(file string) map[string]int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	lines := map[string]int64{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(string(line), ":")
		if fields := strings.Fields(value); ok && len(fields) == 2 && fields[1] == "kB" {
			lines[name], _ = strconv.ParseInt(fields[0], 10, 64) // 0 where it is no number
		}
	}
	return lines
}

// temporaryDirs are where a sandbox gives a worker file systems of its own.
var temporaryDirs = []string{"/tmp", "/dev/shm"}

// temporary implements processes: a file system in memory that this process
// does not have at the same place is the worker's own.
func (procProcesses) temporary(pid int) (n int64) {
	for _, dir := range temporaryDirs {
		var ours, theirs unix.Stat_t
		var use unix.Statfs_t
		path := procFile(pid, "root"+dir)
		if unix.Stat(path, &theirs) != nil || unix.Statfs(path, &use) != nil || use.Type != unix.TMPFS_MAGIC {
			continue
		}
		if unix.Stat(dir, &ours) == nil && ours.Dev == theirs.Dev {
			continue
		}
		n += int64(use.Blocks-use.Bfree) * use.Bsize
	}
	return n
}

// deleted adds the files that a process has open and that are in no folder.
func (u *scratchUse) deleted(pid int) {
	entries, err := os.ReadDir(procFile(pid, "fd"))
	if err != nil {
		return // it has ended
	}
	for _, entry := range entries {
		info, err := os.Stat(procFile(pid, "fd/"+entry.Name()))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Nlink > 0 || u.seen[[2]uint64{stat.Dev, stat.Ino}] {
			continue
		}
		u.seen[[2]uint64{stat.Dev, stat.Ino}] = true
		u.files++
		u.add(info)
	}
}

// kernelKills is how often the kernel has killed a process for want of memory,
// in this process's control group, or else on this machine.
func kernelKills() (int64, bool) {
	if text, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			file := ""
			if path, ok := strings.CutPrefix(line, "0::"); ok {
				file = filepath.Join("/sys/fs/cgroup", path, "memory.events")
			} else if _, path, ok := strings.Cut(line, ":memory:"); ok {
				file = filepath.Join("/sys/fs/cgroup/memory", path, "memory.oom_control")
			}
			if n, ok := counterIn(file); ok {
				return n, true
			}
		}
	}
	return counterIn("/proc/vmstat")
}

// counterIn finds the line "oom_kill N" of a file.
func counterIn(file string) (int64, bool) {
	if file == "" {
		return 0, false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// machineBytes is the size of the machine's memory, 0 where it does not tell.
func machineBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
