package sandbox

import (
	"bytes"
	"encoding/binary"
)

// Process 1 of a worker's pid namespace is this program. It waits until the
// supervisor closes the pipe on its standard input, or dies, and ends; the
// kernel then kills whatever is left in the namespace. Children that lost
// their parent need no reaping: SIGCHLD is ignored, which the kernel takes as
// a wish to be rid of them.
//
// It handles no signal, and the kernel keeps from process 1 what it does not
// handle, so nothing in the namespace can end it. A program in Go would install
// handlers, and SIGQUIT from the worker would end it. There is nothing in it
// to steal, and nobody asks it anything: the worker is the supervisor's own
// child, not its.
//
//	again:  n = read(0, sp, 1)
//	        if n > 0 or n == -EINTR: goto again
//	        exit_group(0)
var reaperCode = map[arch][]byte{
	amd64: {
		0x31, 0xc0, // xor eax, eax
		0x31, 0xff, // xor edi, edi
		0x48, 0x89, 0xe6, // mov rsi, rsp
		0xba, 0x01, 0x00, 0x00, 0x00, // mov edx, 1
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x7f, 0xee, // jg again
		0x83, 0xf8, 0xfc, // cmp eax, -EINTR
		0x74, 0xe9, // je again
		0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, exit_group
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	},
	arm64: {
		0x00, 0x00, 0x80, 0xd2, // mov x0, 0
		0xe1, 0x03, 0x00, 0x91, // mov x1, sp
		0x22, 0x00, 0x80, 0xd2, // mov x2, 1
		0xe8, 0x07, 0x80, 0xd2, // mov x8, read
		0x01, 0x00, 0x00, 0xd4, // svc 0
		0x1f, 0x00, 0x00, 0xf1, // cmp x0, 0
		0x4c, 0xff, 0xff, 0x54, // b.gt again
		0x1f, 0x10, 0x00, 0xb1, // cmn x0, EINTR
		0x00, 0xff, 0xff, 0x54, // b.eq again
		0x00, 0x00, 0x80, 0xd2, // mov x0, 0
		0xc8, 0x0b, 0x80, 0xd2, // mov x8, exit_group
		0x01, 0x00, 0x00, 0xd4, // svc 0
	},
}

// machines are the numbers of architectures in ELF files.
var machines = map[arch]uint16{amd64: 62, arm64: 183}

// reaper is an ELF file with nothing but the code, of which all is one segment
// that can be read and executed.
func reaper(a arch) []byte {
	const (
		headerBytes  = 64
		programBytes = 56
		base         = 0x400000
		pageBytes    = 0x10000 // the largest of arm64, too
		start        = headerBytes + programBytes
	)
	code := reaperCode[a]
	size := uint64(start + len(code))
	var b bytes.Buffer
	for _, field := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1},
		uint16(2), machines[a], uint32(1), // 64 bits, little-endian; executable
		uint64(base + start), uint64(headerBytes), uint64(0), uint32(0),
		uint16(headerBytes), uint16(programBytes), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(pageBytes), // PT_LOAD, r-x
		code,
	} {
		_ = binary.Write(&b, binary.LittleEndian, field) // a buffer takes what it is given
	}
	return b.Bytes()
}
