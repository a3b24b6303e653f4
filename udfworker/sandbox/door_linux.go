//go:build amd64 || arm64

package sandbox

import (
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Door leads into the namespaces of a process that was started at L2. It stays
// open when that process has ended, as long as another is in them.
type Door struct{ user, mounts *os.File }

// OpenDoor opens the door to a process's namespaces. The process must be this
// one's child and not reaped.
func OpenDoor(pid int) (*Door, error) {
	namespaces := "/proc/" + strconv.Itoa(pid) + "/ns/"
	user, err := os.Open(namespaces + "user")
	if err != nil {
		return nil, err
	}
	mounts, err := os.Open(namespaces + "mnt")
	if err != nil {
		_ = user.Close() // a handle of a namespace
		return nil, err
	}
	return &Door{user, mounts}, nil
}

// Close closes the door. Nobody may be going through it.
func (d *Door) Close() {
	_ = d.user.Close() // handles of namespaces
	_ = d.mounts.Close()
}

// MakeRoom makes a folder in Scratch that is a file system of its own, for so
// many bytes and files. Nobody inside can move it or take it away. It fails
// where something of that name is there.
func (d *Door) MakeRoom(name string, bytes, files int64) error {
	s := d.enter()
	system, mount, folder := new(int32), new(int32), new(int32)
	s.add(label{}, unix.SYS_FSOPEN, s.text("tmpfs"), unix.FSOPEN_CLOEXEC).into = system
	configure := func(command uintptr, key, value uintptr) {
		s.add(label{}, unix.SYS_FSCONFIG, 0, command, key, value, 0).from = system
	}
	for key, value := range map[string]string{
		"size": strconv.FormatInt(bytes, 10), "nr_inodes": strconv.FormatInt(files, 10), "mode": "700",
	} {
		configure(unix.FSCONFIG_SET_STRING, s.text(key), s.text(value))
	}
	configure(unix.FSCONFIG_CMD_CREATE, 0, 0)
	made := s.add(label{}, unix.SYS_FSMOUNT, 0, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	made.from, made.into = system, mount
	path := s.text(Scratch + "/" + name)
	const mode, place = 0o700, unix.O_PATH | unix.O_NOFOLLOW | unix.O_DIRECTORY | unix.O_CLOEXEC
	s.add(label{}, unix.SYS_MKDIRAT, s.here(), path, mode)
	s.add(label{}, unix.SYS_OPENAT, s.here(), path, place).into = folder // whoever is inside may have put a link there
	s.add(label{}, unix.SYS_FCHDIR, 0).from = folder
	s.add(label{}, unix.SYS_MOVE_MOUNT, 0, s.text(""), s.here(), s.text("."), unix.MOVE_MOUNT_F_EMPTY_PATH).from = mount
	return d.run(s)
}

// ClearRoom removes what MakeRoom has made, with all that is in it.
func (d *Door) ClearRoom(name string) error {
	s := d.enter()
	path := s.text(Scratch + "/" + name)
	s.add(label{}, unix.SYS_UMOUNT2, path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	s.add(label{}, unix.SYS_UNLINKAT, s.here(), path, unix.AT_REMOVEDIR)
	return d.run(s)
}

// enter begins a script that goes through the door: with the rights of whoever
// has made the namespaces, which nobody inside has.
func (d *Door) enter() *script {
	s := &script{layer: layerRoom}
	s.process(nil)
	s.endInTime()
	s.add(label{}, unix.SYS_SETNS, d.user.Fd(), unix.CLONE_NEWUSER)
	s.add(label{}, unix.SYS_SETNS, d.mounts.Fd(), unix.CLONE_NEWNS)
	return s
}

func (d *Door) run(s *script) error {
	_, err := s.launch(0, &syscall.SysProcAttr{})
	runtime.KeepAlive(d)
	return err
}
