//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"slices"
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

// landlock confines the process to the files that it may see. At L2 there are
// no others, and it is a second wall; at L1 it is the only one.
func (c *confinement) landlock() error {
	abi, err := landlockABI()
	if err != nil {
		missing := Error{Layer: layerLandlock, Text: err.Error()}
		if c.Level >= L2 { // namespaces hold without it
			c.notes = append(c.notes, missing)
			return nil
		}
		return &missing
	}
	attributes, rules := ruleset(abi, c.Network), new(int32)
	handled := attributes.Handled_access_fs
	c.add(label{doing: "make a set of rules"}, unix.SYS_LANDLOCK_CREATE_RULESET, c.pointer(unsafe.Pointer(&attributes)), rulesetSize(abi)).into = rules
	for _, w := range c.rules() {
		isDir, missing := w.isDir()
		if missing && w.optional {
			continue
		}
		rule := &unix.LandlockPathBeneathAttr{Allowed_access: w.access(handled, isDir)}
		c.open(w, &rule.Parent_fd)
		p := c.add(label{path: w.path}, unix.SYS_LANDLOCK_ADD_RULE, 0, unix.LANDLOCK_RULE_PATH_BENEATH, c.pointer(unsafe.Pointer(rule)))
		p.from, p.unless = rules, &rule.Parent_fd
		shut := c.add(label{}, unix.SYS_CLOSE)
		shut.from, shut.unless = &rule.Parent_fd, &rule.Parent_fd
	}
	c.add(label{doing: "apply the rules"}, unix.SYS_LANDLOCK_RESTRICT_SELF).from = rules
	return nil
}

// rules are the paths that stay within reach.
func (c *confinement) rules() []wanted {
	if c.Level < L2 {
		// Its own folder of /proc, which stays the same when it executes the
		// program.
		list := append(slices.Clone(c.shows), wanted{path: "/proc/self", optional: true})
		for _, path := range []string{"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/osrelease"} {
			list = append(list, wanted{path: path, optional: true})
		}
		return list
	}
	list := []wanted{{path: "/"}, {path: Scratch, write: true}, {path: "/dev/shm", write: true}}
	for _, w := range c.shows {
		if w.write {
			list = append(list, w)
		}
	}
	return list
}

// access is what is allowed at a path.
func (w wanted) access(handled uint64, isDir bool) uint64 {
	allowed := uint64(landlockRead)
	if w.write {
		allowed = handled &^ landlockSpecial
		if !w.device || !w.mount { // a device that was granted may be told what to do
			allowed &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		}
	}
	if !isDir {
		allowed &= landlockFile
	}
	return allowed & handled
}
