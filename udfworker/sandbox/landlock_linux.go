package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock can control, by the version of its interface that brought it.
const (
	landlockRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// Nothing of a file system's structure applies to a file.
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	landlockSpecial = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK

	landlockRefer    = 2
	landlockTruncate = 3
	landlockTCP      = 4
	landlockDevices  = 5
	// landlockScopes keeps signals and abstract sockets to what the worker
	// started itself.
	landlockScopes = 6
	// landlockSockets covers connecting to a socket that is a file.
	landlockSockets = 9
)

// landlockABI is the version that the kernel offers.
func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno == 0:
		return int(abi), nil
	case errors.Is(errno, unix.ENOSYS):
		return 0, errors.New("the kernel was built without it")
	case errors.Is(errno, unix.EOPNOTSUPP):
		return 0, errors.New("the kernel has it, but it is not among the modules of lsm=")
	default:
		return 0, errno
	}
}

// ruleset is what is handled with a version.
func ruleset(abi int, network bool) unix.LandlockRulesetAttr {
	const first = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // of version 1
	r := unix.LandlockRulesetAttr{Handled_access_fs: first}
	for version, right := range map[int]uint64{
		landlockRefer: unix.LANDLOCK_ACCESS_FS_REFER, landlockTruncate: unix.LANDLOCK_ACCESS_FS_TRUNCATE,
		landlockDevices: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, landlockSockets: unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX,
	} {
		if abi >= version {
			r.Handled_access_fs |= right
		}
	}
	if abi >= landlockTCP && !network {
		r.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= landlockScopes {
		r.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return r
}

// size is how much of a ruleset a version knows.
func rulesetSize(abi int) uintptr {
	const word = 8
	switch {
	case abi >= landlockScopes:
		return 3 * word
	case abi >= landlockTCP:
		return 2 * word
	default:
		return word
	}
}

// landlock confines the thread to the files that it may see. At L2 there are
// no others, and it is a second wall; at L1 it is the only one.
func (h *helper) landlock() error {
	abi, err := landlockABI()
	if err != nil {
		if h.Level >= L2 { // namespaces hold without it
			h.told.Notes = append(h.told.Notes, Error{Layer: layerLandlock, Text: err.Error()})
			return nil
		}
		return err
	}
	attributes := ruleset(abi, h.Network)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attributes)), rulesetSize(abi), 0)
	if errno != 0 {
		return fmt.Errorf("make a set of rules: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, w := range h.rules() {
		err := addRule(int(fd), attributes.Handled_access_fs, w)
		if errors.Is(err, os.ErrNotExist) && w.optional {
			continue
		}
		if err != nil {
			return &Error{Layer: layerLandlock, Path: w.path, Missing: errors.Is(err, os.ErrNotExist), Text: reason(err)}
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("apply the rules: %w", errno)
	}
	return nil
}

// rules are the paths that stay within reach.
func (h *helper) rules() []wanted {
	if h.Level < L2 {
		// Its own folder of /proc, which stays the same when it executes the
		// program.
		list := append(h.wants(), wanted{path: fmt.Sprintf("/proc/%d", os.Getpid()), optional: true})
		for _, path := range []string{"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/osrelease"} {
			list = append(list, wanted{path: path, optional: true})
		}
		return list
	}
	list := []wanted{{path: "/"}, {path: Scratch, write: true}, {path: "/dev/shm", write: true}}
	for _, w := range h.wants() {
		if w.write {
			list = append(list, w)
		}
	}
	return list
}

func addRule(ruleset int, handled uint64, w wanted) error {
	fd, err := w.at()
	if err != nil {
		return &os.PathError{Op: "open", Path: w.path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	allowed := uint64(landlockRead)
	if w.write {
		allowed = handled &^ landlockSpecial
		if !w.device || !w.mount { // a device that was granted may be told what to do
			allowed &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		allowed &= landlockFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: allowed & handled, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
