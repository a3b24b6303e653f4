package udfworker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
	"golang.org/x/sys/unix"
)

// controlPair makes the two ends of a zygote's control. At the outer one the
// kernel says which process has sent what comes.
func controlPair() (outer *net.UnixConn, inner *os.File, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(ends[0]), "control")
	defer file.Close()
	inner = os.NewFile(uintptr(ends[1]), "control")
	err = unix.SetsockoptInt(ends[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		var conn net.Conn
		if conn, err = net.FileConn(file); err == nil {
			return conn.(*net.UnixConn), inner, nil
		}
	}
	return nil, nil, errors.Join(err, inner.Close())
}

// hear waits for a byte on the control, and gives the process that sent it.
func (z *zygote) hear() (pid int, err error) {
	var said [1]byte
	ancillary := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, size, _, _, err := z.control.ReadMsgUnix(said[:], ancillary)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errEnded
	}
	messages, err := unix.ParseSocketControlMessage(ancillary[:size])
	if err != nil {
		return 0, err
	}
	for _, message := range messages {
		if sender, err := unix.ParseUnixCredentials(&message); err == nil {
			return int(sender.Pid), nil
		}
	}
	return 0, errors.New("the kernel does not tell who it is")
}

// settleLocked looks at a zygote that says that it is ready. It is not reaped,
// so that its number is its own.
func (z *zygote) settleLocked() error {
	threads, err := os.ReadDir(procFile(z.child.PID, "task"))
	if err != nil {
		return err
	}
	if len(threads) != 1 {
		return fmt.Errorf("what was imported has started threads: there are %d", len(threads))
	}
	folders := []string{z.scratch}
	if z.level >= sandbox.L2 {
		if z.door, err = sandbox.OpenDoor(z.child.PID); err != nil {
			return err
		}
		folders = nil
		for _, dir := range temporaryDirs {
			folders = append(folders, procFile(z.child.PID, "root"+dir))
		}
	}
	z.furniture = map[string]bool{}
	for _, path := range folders {
		folder, err := os.Open(path)
		if err != nil {
			return err
		}
		z.temporary = append(z.temporary, folder)
		names, err := namesIn(folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			z.furniture[name] = true
		}
	}
	return nil
}

// passed are descriptors that a worker is to have, in the order of the
// harness's _zygote.py, but for its standard input and output.
type passed []int

func (p passed) close() {
	for _, fd := range p {
		_ = unix.Close(fd)
	}
}

// dialTime bounds a connection to the engine.
const dialTime = 5 * time.Second

// dial makes a worker's connections to the engine, and opens its page.
func dial(endpoint, page string) (p passed, err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for range 2 { // for bundles, and for its log
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return p, err
		}
		p = append(p, fd)
		// The time counts for the connecting, too.
		bound, none := unix.NsecToTimeval(int64(dialTime)), unix.Timeval{}
		err = errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound),
			unix.Connect(fd, &unix.SockaddrUnix{Name: strings.TrimPrefix(endpoint, localScheme)}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &none),
		)
		if err != nil {
			return p, fmt.Errorf("connect a worker to the engine: %w", err)
		}
	}
	if page != "" {
		fd, err := unix.Open(page, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return p, fmt.Errorf("open a worker's page: %w", err)
		}
		p = append(p, fd)
	}
	return p, nil
}

// fork has the zygote fork a worker, moves that to its group, and only then has
// it read its launch line. The server's mu is held, so nobody reaps it before
// it is known. taken says whether a process is something else already.
func (z *zygote) fork(group *cgroup.Group, line []byte, passed passed, taken func(pid int) bool) (*Child, error) {
	inputReader, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inputReader.Close()
	output, outputWriter, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, input.Close())
	}
	defer outputWriter.Close()
	child := &Child{Input: input, Output: output}
	in, out := int(inputReader.Fd()), int(outputWriter.Fd())
	// The ends that the worker gets must block, as programs expect.
	if err = errors.Join(syscall.SetNonblock(in, false), syscall.SetNonblock(out, false)); err == nil {
		child.PID, err = z.request(append([]int{in, out}, passed...), taken)
	}
	if err == nil {
		err = group.Add(child.PID)
	}
	if err == nil {
		err = writeInput(input, line)
	}
	if err != nil {
		if child.PID > 0 {
			_ = syscall.Kill(child.PID, syscall.SIGKILL)
		}
		return nil, errors.Join(err, input.Close(), output.Close())
	}
	return child, nil
}

// request asks for a process, and gives its number.
func (z *zygote) request(descriptors []int, taken func(pid int) bool) (pid int, err error) {
	if err := z.control.SetDeadline(time.Now().Add(forkTime)); err != nil {
		return 0, err
	}
	if _, _, err := z.control.WriteMsgUnix([]byte{0}, unix.UnixRights(descriptors...), nil); err != nil {
		return 0, err
	}
	if pid, err = z.hear(); err != nil {
		return 0, err
	}
	if taken(pid) || parentOf(pid) != os.Getpid() {
		return 0, fmt.Errorf("process %d is no worker that it has forked", pid)
	}
	return pid, nil
}

// parentOf is the parent of a process, or 0.
func parentOf(pid int) int {
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0 // gone
	}
	// The second field is the name in parentheses and may hold anything.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1]) // the kernel's
	return parent
}
