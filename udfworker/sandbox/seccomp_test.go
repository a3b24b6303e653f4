package sandbox

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// simulate runs a filter as the kernel does.
func simulate(t *testing.T, program []bpf, audit uint32, number int, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64) // struct seccomp_data
	binary.LittleEndian.PutUint32(data, uint32(number))
	binary.LittleEndian.PutUint32(data[4:], audit)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var a uint32
	for at := 0; at < len(program); at++ {
		p := program[at]
		jump := func(taken bool) {
			if taken {
				at += int(p.jt)
			} else {
				at += int(p.jf)
			}
		}
		switch p.code {
		case bpfLoad:
			a = binary.LittleEndian.Uint32(data[p.k:])
		case bpfEqual:
			jump(a == p.k)
		case bpfAbove:
			jump(a > p.k)
		case bpfAtLeast:
			jump(a >= p.k)
		case bpfBits:
			jump(a&p.k != 0)
		case bpfReturn:
			return p.k
		default:
			t.Fatalf("instruction %d: code %#x", at, p.code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

const (
	perm    = verdictErrno | errnoPerm
	noSys   = verdictErrno | errnoNoSys
	noEntry = verdictErrno | errnoAccess
)

func TestFilter(t *testing.T) {
	alone := filterOptions{ownIPC: true, ownProcesses: true}
	for name, a := range map[string]arch{"amd64": amd64, "arm64": arm64} {
		foreign := arm64.audit
		if a == arm64 {
			foreign = amd64.audit
		}
		read, mmap := map[string]int{"amd64": 0, "arm64": 63}[name], map[string]int{"amd64": 9, "arm64": 222}[name]
		n := func(c call) int { return c.numbers[a.column] }
		for _, c := range []struct {
			what   string
			o      filterOptions
			audit  uint32
			number int
			args   []uint64
			want   uint32
		}{
			{"read", alone, a.audit, read, nil, verdictAllow},
			{"mmap", alone, a.audit, mmap, nil, verdictAllow},
			{"i386", alone, 0x40000003, read, nil, verdictKill},
			{"arm", alone, 0x40000028, read, nil, verdictKill},
			{"foreign", alone, foreign, read, nil, verdictKill},
			{"clone3", alone, a.audit, n(clone3), nil, noSys},
			{"a call of later kernels", alone, a.audit, newestCall + 1, nil, noSys},
			{"the newest call", alone, a.audit, newestCall, nil, verdictAllow},
			{"no call at all", alone, a.audit, -1, nil, noSys},
			{"fork", alone, a.audit, n(clone), []uint64{17}, verdictAllow},
			{"thread", alone, a.audit, n(clone), []uint64{0x3d0f00}, verdictAllow},
			{"user namespace", alone, a.audit, n(clone), []uint64{0x10000000 | 17}, perm},
			{"mount namespace", alone, a.audit, n(clone), []uint64{0x00020000}, perm},
			{"cgroup namespace", alone, a.audit, n(clone), []uint64{0x02000000}, perm},
			{"all namespaces", alone, a.audit, n(clone), []uint64{0x7e020000}, perm},
			{"TIOCSTI", alone, a.audit, n(ioctl), []uint64{0, 0x5412}, perm},
			{"TIOCSTI with a high half", alone, a.audit, n(ioctl), []uint64{0, 0xffffffff_00005412}, perm},
			{"TIOCLINUX", alone, a.audit, n(ioctl), []uint64{0, 0x541c}, perm},
			{"TCGETS", alone, a.audit, n(ioctl), []uint64{0, 0x5401}, verdictAllow},
			{"AF_UNIX", alone, a.audit, n(socket), []uint64{1, 1}, verdictAllow},
			{"AF_UNIX with a high half", alone, a.audit, n(socket), []uint64{1<<32 | 1, 1}, verdictAllow},
			{"AF_INET", alone, a.audit, n(socket), []uint64{2, 2}, noEntry},
			{"AF_INET6", alone, a.audit, n(socket), []uint64{10, 1}, noEntry},
			{"AF_NETLINK", alone, a.audit, n(socket), []uint64{16, 3, 0}, noEntry},
			{"AF_PACKET", alone, a.audit, n(socket), []uint64{17}, noEntry},
			{"AF_VSOCK", alone, a.audit, n(socket), []uint64{40}, noEntry},
			{"network: AF_UNIX", filterOptions{network: true}, a.audit, n(socket), []uint64{1}, verdictAllow},
			{"network: AF_INET", filterOptions{network: true}, a.audit, n(socket), []uint64{2}, verdictAllow},
			{"network: AF_INET6", filterOptions{network: true}, a.audit, n(socket), []uint64{10}, verdictAllow},
			{"network: the resolver", filterOptions{network: true}, a.audit, n(socket), []uint64{16, 3, 0}, verdictAllow},
			{"network: netfilter", filterOptions{network: true}, a.audit, n(socket), []uint64{16, 3, 12}, noEntry},
			{"network: AF_ALG", filterOptions{network: true}, a.audit, n(socket), []uint64{38}, noEntry},
			{"network: AF_PACKET", filterOptions{network: true}, a.audit, n(socket), []uint64{17}, noEntry},
			{"memfd_create", alone, a.audit, n(unmapped[0]), nil, verdictAllow},
			{"memfd_create where it is not counted", filterOptions{ownIPC: true, denyUnmapped: true}, a.audit, n(unmapped[0]), nil, perm},
			{"shmget where it is not counted", filterOptions{ownIPC: true, denyUnmapped: true}, a.audit, n(unmapped[1]), nil, perm},
			{"shmget in an ipc namespace", alone, a.audit, n(shared[0]), nil, verdictAllow},
			{"shmget without one", filterOptions{}, a.audit, n(shared[0]), nil, perm},
			{"mq_open without one", filterOptions{}, a.audit, n(shared[4]), nil, perm},
			{"its own limits", filterOptions{}, a.audit, n(prlimit), []uint64{0}, verdictAllow},
			{"another's limits", filterOptions{}, a.audit, n(prlimit), []uint64{4711}, perm},
			{"its own priority", filterOptions{}, a.audit, n(priorities[0]), []uint64{0, 0, 5}, verdictAllow},
			{"its group's priority", filterOptions{}, a.audit, n(priorities[0]), []uint64{1, 0, 5}, verdictAllow},
			{"another's priority", filterOptions{}, a.audit, n(priorities[0]), []uint64{0, 4711, 5}, perm},
			{"its user's priority", filterOptions{}, a.audit, n(priorities[0]), []uint64{2, 0, 5}, perm},
			{"its own processors", filterOptions{}, a.audit, n(scheduling[0]), []uint64{0}, verdictAllow},
			{"another's processors", filterOptions{}, a.audit, n(scheduling[0]), []uint64{4711}, perm},
			{"another's processors in a pid namespace", alone, a.audit, n(scheduling[0]), []uint64{4711}, verdictAllow},
			{"a watch at L1", filterOptions{}, a.audit, n(outside[7]), nil, perm},
			{"a watch in a root of its own", alone, a.audit, n(outside[7]), nil, verdictAllow},
			{"openat2", alone, a.audit, n(openat2), nil, noSys},
			{"reading, with anything for a mode", alone, a.audit, n(openers[3][0]), []uint64{0, 0, 0, 0o4755}, verdictAllow},
			{"making a file", alone, a.audit, n(openers[3][0]), []uint64{0, 0, 0x241, 0o666}, verdictAllow},
			{"making a setuid file", alone, a.audit, n(openers[3][0]), []uint64{0, 0, 0x241, 0o4755}, perm},
			{"making a setgid file without a name", alone, a.audit, n(openers[3][0]), []uint64{0, 0, 0x410001, 0o2755}, perm},
			{"another's limits in a pid namespace", alone, a.audit, n(prlimit), []uint64{4711}, verdictAllow},
		} {
			if got := simulate(t, a.filter(c.o), c.audit, c.number, c.args...); got != c.want {
				t.Errorf("%s: %s: %#x, want %#x", name, c.what, got, c.want)
			}
		}
		for at, calls := range moded {
			for _, c := range calls {
				if c.numbers[a.column] == none {
					continue
				}
				for mode, want := range map[uint64]uint32{0o1777: verdictAllow, 0o4755: perm, 0o2755: perm} {
					args := make([]uint64, at+1)
					args[at] = mode
					if got := simulate(t, a.filter(alone), a.audit, n(c), args...); got != want {
						t.Errorf("%s: %s with mode %#o: %#x", name, c.name, mode, got)
					}
				}
			}
		}
		for _, c := range denied {
			if n := c.numbers[a.column]; n != none {
				for _, o := range []filterOptions{alone, {}, {network: true}} {
					if got := simulate(t, a.filter(o), a.audit, n); got != perm {
						t.Errorf("%s: %s: %#x", name, c.name, got)
					}
				}
			}
		}
	}
	for _, number := range []int{x32Bit, x32Bit + 59, x32Bit + 165} {
		if got := simulate(t, amd64.filter(alone), amd64.audit, number); got != noSys {
			t.Errorf("x32 call %d: %#x", number-x32Bit, got)
		}
	}
}

// Jumps are of 8 bits and go forward, and a program has at most 4,096
// instructions: the kernel takes no other.
func TestFilterIsAProgram(t *testing.T) {
	for name, a := range map[string]arch{"amd64": amd64, "arm64": arm64} {
		for _, o := range []filterOptions{{}, {network: true, denyUnmapped: true}} {
			p := a.filter(o)
			if len(p) > 4096 || p[len(p)-1].code != bpfReturn {
				t.Errorf("%s: %d instructions, the last %v", name, len(p), p[len(p)-1])
			}
			for i, f := range p {
				if isJump := f.code&7 == 5; isJump && i+1+max(int(f.jt), int(f.jf)) >= len(p) {
					t.Errorf("%s: instruction %d jumps out of the program: %s", name, i, fmt.Sprint(f))
				}
			}
		}
	}
}
