package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeTimeout bounds one probe that starts a process.
const probeTimeout = 10 * time.Second

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

// sandboxFindings probes the layers of a sandbox by using each.
func sandboxFindings(ctx context.Context) []finding {
	return []finding{namespaceFinding(ctx), landlockFinding(), seccompFinding()}
}

// namespaceFinding starts this program in new namespaces, where it mounts
// something: making them may succeed without the rights that they should give.
func namespaceFinding(ctx context.Context) finding {
	f := finding{Name: "user namespaces"}
	self, err := executable()
	if err != nil {
		f.Reason = err.Error()
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	child := exec.CommandContext(ctx, self, "doctor", "--probe-namespaces")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	var said bytes.Buffer
	child.Stderr = &said
	switch err := child.Run(); {
	case err == nil:
		f.OK, f.Value = true, "user, mount, pid, net and ipc namespaces, with the right to mount"
	case child.Process == nil:
		f.Reason = "they cannot be made: " + namespaceReason(err)
	default:
		f.Reason = "they can be made, but give no rights: " + strings.TrimSpace(said.String())
	}
	return f
}

func namespaceReason(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "the limit user.max_user_namespaces is reached or 0"
	case errors.Is(err, unix.EPERM):
		return "forbidden by seccomp, AppArmor or kernel.unprivileged_userns_clone"
	}
	return err.Error()
}

// probeInNamespaces is the other half of namespaceFinding.
func probeInNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", os.TempDir(), "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	return nil
}

func landlockFinding() finding {
	f := finding{Name: "Landlock"}
	const createRulesetVersion = 1
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createRulesetVersion)
	switch {
	case errno == 0:
		f.OK, f.Value = true, fmt.Sprintf("ABI %d", abi)
		const scopesSignals = 6
		if abi < scopesSignals {
			f.Reason = "signals to processes of the same user are covered from ABI 6"
		}
	case errors.Is(errno, unix.ENOSYS):
		f.Reason = "the kernel was built without it"
	case errors.Is(errno, unix.EOPNOTSUPP):
		f.Reason = "the kernel has it, but it is not among the modules of lsm="
	default:
		f.Reason = errno.Error()
	}
	return f
}

// seccompFinding asks for a filter without giving one: what has seccomp
// complains about the address.
func seccompFinding() finding {
	f := finding{Name: "seccomp"}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(nil)))
	if !errors.Is(errno, unix.EFAULT) {
		f.Reason = fmt.Sprintf("filters are not available: %v", errno)
		return f
	}
	f.OK, f.Value = true, "filters"
	if actions, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail"); err == nil {
		f.Value += ": " + strings.TrimSpace(string(actions))
	}
	return f
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
