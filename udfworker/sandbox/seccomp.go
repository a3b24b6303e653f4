package sandbox

import (
	"maps"
	"slices"
)

// The filter of system calls is assembled by hand. What is there to take
// (libseccomp) needs cgo, or allows what comes from a foreign architecture. It
// is a list of what is denied: user code brings libraries that nobody here has
// heard of, and namespaces and Landlock are what confines them. What it denies
// is what reaches around those, or has a record of holes in the kernel.
//
// The filters of both architectures are made on every platform, so that each
// is tested everywhere.

// bpf is an instruction of classic BPF (struct sock_filter).
type bpf struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Codes of instructions, places in struct seccomp_data, and verdicts.
const (
	bpfLoad    = 0x20 // BPF_LD | BPF_W | BPF_ABS
	bpfEqual   = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	bpfAbove   = 0x25 // BPF_JMP | BPF_JGT | BPF_K
	bpfAtLeast = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	bpfBits    = 0x45 // BPF_JMP | BPF_JSET | BPF_K
	bpfReturn  = 0x06 // BPF_RET | BPF_K

	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16 // the low half of the first argument, on little-endian machines

	verdictAllow = 0x7fff0000
	verdictErrno = 0x00050000
	verdictKill  = 0x80000000 // the whole process
)

// Numbers of errors, flags and requests that are the same on both
// architectures. The tests compare them with x/sys.
const (
	errnoPerm   = 1
	errnoAccess = 13
	errnoNoSys  = 38

	// All but CLONE_NEWTIME, whose bit means something else to clone.
	cloneNamespaces = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

	ioctlFakeInput = 0x5412 // TIOCSTI
	ioctlConsole   = 0x541c // TIOCLINUX

	// setIDBits make a program run as its owner or its group. What a worker
	// writes into a mounted folder has the engine's user as its owner.
	setIDBits = 0o6000
	// makesFile are the flags with which open looks at its mode.
	makesFile = 0x40 | 0x400000 // O_CREAT, O_TMPFILE

	familyUnix    = 1
	familyInet    = 2
	familyInet6   = 10
	familyNetlink = 16
	netlinkRoute  = 0
)

// x32Bit marks calls of the x32 ABI, which have the architecture of x86-64.
const x32Bit = 0x40000000

// newestCall is the newest call that this filter knows (mseal). Later ones
// answer as on an older kernel; programs and libraries expect that.
const newestCall = 462

// arch is what differs between architectures; column is its place in tables.
type arch struct {
	audit  uint32
	x32    bool
	column int
}

var (
	amd64 = arch{audit: 0xc000003e, x32: true, column: 0}
	arm64 = arch{audit: 0xc00000b7, column: 1}
)

// none is the number of a call that an architecture does not have.
const none = -1

// call is a system call with its numbers on amd64 and arm64.
type call struct {
	name    string
	numbers [2]int
}

var (
	clone   = call{"clone", [2]int{56, 220}}
	clone3  = call{"clone3", [2]int{435, 435}}
	ioctl   = call{"ioctl", [2]int{16, 29}}
	socket  = call{"socket", [2]int{41, 198}}
	prlimit = call{"prlimit64", [2]int{302, 261}}
)

// moded calls set the mode of a file, with the place of the mode among their
// arguments; openers have their flags in the place before.
var (
	moded = map[int][]call{
		1: {
			{"chmod", [2]int{90, none}},
			{"fchmod", [2]int{91, 52}},
			{"creat", [2]int{85, none}},
			{"mkdir", [2]int{83, none}},
			{"mknod", [2]int{133, none}},
		},
		2: {
			{"fchmodat", [2]int{268, 53}},
			{"fchmodat2", [2]int{452, 452}},
			{"mkdirat", [2]int{258, 34}},
			{"mknodat", [2]int{259, 33}},
		},
	}
	openers = map[int][]call{
		2: {{"open", [2]int{2, none}}},
		3: {{"openat", [2]int{257, 56}}},
	}
	// openat2 has its mode in memory, out of a filter's sight. The C library
	// does without it.
	openat2 = call{"openat2", [2]int{437, 437}}
)

// scheduling calls act on the process that their argument of this place names;
// 0 is the caller. Those of who have another argument before, which says how
// it is meant.
var (
	scheduling = []call{
		{"sched_setaffinity", [2]int{203, 122}},
		{"sched_setscheduler", [2]int{144, 119}},
		{"sched_setparam", [2]int{142, 118}},
		{"sched_setattr", [2]int{314, 274}},
	}
	priorities = []call{
		{"setpriority", [2]int{141, 140}},
		{"ioprio_set", [2]int{251, 30}},
	}
)

// denied calls fail with EPERM.
var denied = []call{
	// Mounts and roots: what the worker sees was settled before it began.
	{"mount", [2]int{165, 40}},
	{"umount2", [2]int{166, 39}},
	{"pivot_root", [2]int{155, 41}},
	{"chroot", [2]int{161, 51}},
	{"move_mount", [2]int{429, 429}},
	{"open_tree", [2]int{428, 428}},
	{"fsopen", [2]int{430, 430}},
	{"fsconfig", [2]int{431, 431}},
	{"fsmount", [2]int{432, 432}},
	{"fspick", [2]int{433, 433}},
	{"mount_setattr", [2]int{442, 442}},
	{"statmount", [2]int{457, 457}},
	{"listmount", [2]int{458, 458}},
	{"quotactl", [2]int{179, 60}},
	{"quotactl_fd", [2]int{443, 443}},
	{"swapon", [2]int{167, 224}},
	{"swapoff", [2]int{168, 225}},
	{"name_to_handle_at", [2]int{303, 264}},
	{"open_by_handle_at", [2]int{304, 265}},
	{"fanotify_init", [2]int{300, 262}},
	{"fanotify_mark", [2]int{301, 263}},
	{"sysfs", [2]int{139, none}},
	{"ustat", [2]int{136, none}},
	// Namespaces, where a user has rights that kernels did not foresee.
	{"unshare", [2]int{272, 97}},
	{"setns", [2]int{308, 268}},
	{"sethostname", [2]int{170, 161}},
	{"setdomainname", [2]int{171, 162}},
	// Other processes.
	{"ptrace", [2]int{101, 117}},
	{"process_vm_readv", [2]int{310, 270}},
	{"process_vm_writev", [2]int{311, 271}},
	{"process_madvise", [2]int{440, 440}},
	{"process_mrelease", [2]int{448, 448}},
	{"kcmp", [2]int{312, 272}},
	{"pidfd_getfd", [2]int{438, 438}},
	{"migrate_pages", [2]int{256, 238}},
	{"move_pages", [2]int{279, 239}},
	// The kernel's own: keys, programs, modules, clocks, its log.
	{"add_key", [2]int{248, 217}},
	{"request_key", [2]int{249, 218}},
	{"keyctl", [2]int{250, 219}},
	{"bpf", [2]int{321, 280}},
	{"perf_event_open", [2]int{298, 241}},
	{"userfaultfd", [2]int{323, 282}},
	{"io_uring_setup", [2]int{425, 425}},
	{"io_uring_enter", [2]int{426, 426}},
	{"io_uring_register", [2]int{427, 427}},
	{"vmsplice", [2]int{278, 75}},
	{"memfd_secret", [2]int{447, 447}},
	{"init_module", [2]int{175, 105}},
	{"finit_module", [2]int{313, 273}},
	{"delete_module", [2]int{176, 106}},
	{"kexec_load", [2]int{246, 104}},
	{"kexec_file_load", [2]int{320, 294}},
	{"reboot", [2]int{169, 142}},
	{"acct", [2]int{163, 89}},
	{"settimeofday", [2]int{164, 170}},
	{"clock_settime", [2]int{227, 112}},
	{"clock_adjtime", [2]int{305, 266}},
	{"adjtimex", [2]int{159, 171}},
	{"syslog", [2]int{103, 116}},
	{"vhangup", [2]int{153, 58}},
	{"personality", [2]int{135, 92}},
	{"lookup_dcookie", [2]int{212, 18}},
	{"nfsservctl", [2]int{180, 42}},
	{"iopl", [2]int{172, none}},
	{"ioperm", [2]int{173, none}},
	{"modify_ldt", [2]int{154, none}},
	{"uselib", [2]int{134, none}},
	{"_sysctl", [2]int{156, none}},
}

// unmapped calls make memory that no process need map, so that only a control
// group can count it.
var unmapped = []call{
	{"memfd_create", [2]int{319, 279}},
	{"shmget", [2]int{29, 194}},
}

// shared calls reach objects of the machine that lie in no file system; in an
// ipc namespace they are the worker's own.
var shared = []call{
	{"shmget", [2]int{29, 194}},
	{"shmat", [2]int{30, 196}},
	{"msgget", [2]int{68, 186}},
	{"semget", [2]int{64, 190}},
	{"mq_open", [2]int{240, 180}},
}

// outside calls reach files past Landlock: where there is no root of the
// worker's own they are refused. So are not stat, chmod and utime, without
// which ordinary programs do not live.
var outside = []call{
	{"setxattr", [2]int{188, 5}},
	{"lsetxattr", [2]int{189, 6}},
	{"removexattr", [2]int{197, 14}},
	{"lremovexattr", [2]int{198, 15}},
	{"chown", [2]int{92, none}},
	{"lchown", [2]int{94, none}},
	{"fchownat", [2]int{260, 54}},
	{"inotify_add_watch", [2]int{254, 27}},
}

// filterOptions say what the filter leaves to the worker.
type filterOptions struct {
	// network allows sockets of the internet.
	network bool
	// denyUnmapped denies what makes memory that no process need map.
	denyUnmapped bool
	// ownIPC says that the worker has an ipc namespace of its own.
	ownIPC bool
	// ownProcesses says that it has a pid namespace of its own.
	ownProcesses bool
}

// filter makes the program. Each block begins with the number of the call in
// the accumulator, and leaves it there unless it has decided.
func (a arch) filter(o filterOptions) []bpf {
	load := func(at uint32) bpf { return bpf{bpfLoad, 0, 0, at} }
	verdict := func(v uint32) bpf { return bpf{bpfReturn, 0, 0, v} }
	errno := func(e uint32) bpf { return verdict(verdictErrno | e) }
	equal := func(k uint32, yes, no uint8) bpf { return bpf{bpfEqual, yes, no, k} }
	argument := func(i uint32) bpf { return load(dataArgs + 8*i) }

	p := []bpf{load(dataArch), equal(a.audit, 1, 0), verdict(verdictKill), load(dataNumber)}
	if a.x32 {
		p = append(p, bpf{bpfAtLeast, 0, 1, x32Bit}, errno(errnoNoSys))
	}
	p = append(p, bpf{bpfAbove, 0, 1, newestCall}, errno(errnoNoSys))
	deny := func(calls []call) {
		for _, c := range calls {
			if number := c.numbers[a.column]; number != none {
				p = append(p, equal(uint32(number), 0, 1), errno(errnoPerm))
			}
		}
	}
	deny(denied)
	if o.denyUnmapped {
		deny(unmapped)
	}
	if !o.ownIPC {
		deny(shared)
	}
	// Its flags are in memory, out of a filter's sight; the C library falls
	// back to clone.
	p = append(p, equal(a.number(clone3), 0, 1), errno(errnoNoSys))
	p = append(p, equal(a.number(clone), 0, 4), argument(0), bpf{bpfBits, 0, 1, cloneNamespaces}, errno(errnoPerm), verdict(verdictAllow))
	p = append(p, equal(a.number(ioctl), 0, 5), argument(1), equal(ioctlFakeInput, 1, 0), equal(ioctlConsole, 0, 1), errno(errnoPerm), verdict(verdictAllow))
	p = append(p, a.modes()...)
	if !o.ownProcesses {
		deny(outside)
		p = append(p, a.otherProcesses()...)
	}
	return append(p, a.sockets(o.network)...)
}

// modes keeps the worker from making programs that run as their owner.
func (a arch) modes() (p []bpf) {
	argument := func(i int) bpf { return bpf{bpfLoad, 0, 0, dataArgs + 8*uint32(i)} }
	refuse, allow := bpf{bpfReturn, 0, 0, verdictErrno | errnoPerm}, bpf{bpfReturn, 0, 0, verdictAllow}
	setsID := bpf{bpfBits, 0, 1, setIDBits}
	for _, at := range slices.Sorted(maps.Keys(moded)) {
		for _, c := range moded[at] {
			if c.numbers[a.column] != none {
				p = append(p, bpf{bpfEqual, 0, 4, a.number(c)}, argument(at), setsID, refuse, allow)
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(openers)) {
		for _, c := range openers[at] {
			if c.numbers[a.column] != none {
				p = append(p, bpf{bpfEqual, 0, 6, a.number(c)}, argument(at-1), bpf{bpfBits, 0, 3, makesFile}, argument(at), setsID, refuse, allow)
			}
		}
	}
	return append(p, bpf{bpfEqual, 0, 1, a.number(openat2)}, bpf{bpfReturn, 0, 0, verdictErrno | errnoNoSys})
}

// otherProcesses keeps the worker from setting limits and priorities of
// processes of the same user, the engine among them.
func (a arch) otherProcesses() (p []bpf) {
	argument := func(i uint32) bpf { return bpf{bpfLoad, 0, 0, dataArgs + 8*i} }
	refuse, allow := bpf{bpfReturn, 0, 0, verdictErrno | errnoPerm}, bpf{bpfReturn, 0, 0, verdictAllow}
	for _, c := range append([]call{prlimit}, scheduling...) {
		p = append(p, bpf{bpfEqual, 0, 4, a.number(c)}, argument(0), bpf{bpfEqual, 1, 0, 0}, refuse, allow)
	}
	for _, c := range priorities {
		// Neither another process nor, as 0 may mean, all of this user's.
		p = append(p, bpf{bpfEqual, 0, 6, a.number(c)}, argument(0), bpf{bpfAbove, 2, 0, 1}, argument(1), bpf{bpfEqual, 1, 0, 0}, refuse, allow)
	}
	return p
}

func (a arch) number(c call) uint32 { return uint32(c.numbers[a.column]) }

// sockets is the end of the program.
func (a arch) sockets(network bool) []bpf {
	load := func(i uint32) bpf { return bpf{bpfLoad, 0, 0, dataArgs + 8*i} }
	equal := func(k uint32, yes, no uint8) bpf { return bpf{bpfEqual, yes, no, k} }
	allow, refuse := bpf{bpfReturn, 0, 0, verdictAllow}, bpf{bpfReturn, 0, 0, verdictErrno | errnoAccess}
	if !network {
		return []bpf{equal(a.number(socket), 0, 3), load(0), equal(familyUnix, 1, 0), refuse, allow}
	}
	return []bpf{
		equal(a.number(socket), 0, 7),
		load(0),
		equal(familyUnix, 5, 0),
		equal(familyInet, 4, 0),
		equal(familyInet6, 3, 0),
		equal(familyNetlink, 0, 3), // the resolver asks which addresses there are
		load(2),
		equal(netlinkRoute, 0, 1),
		allow,
		refuse,
	}
}
