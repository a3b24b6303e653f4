package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// reaperPath is the reaper in the worker's root.
	reaperPath = "/.reaper"
	// The root itself holds folders, links and a few files of our own.
	rootBytes = 4 << 20
	rootFiles = 16 << 10
	// Defaults of the file systems for temporary files.
	scratchBytesDefault = 1 << 30
	scratchFilesDefault = 64 << 10
)

// System folders that are shown, and links that stand for one on most systems.
// What is missing is passed over.
var (
	systemFolders = []string{"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store"}
	// Of /etc only what programs need to start and to say what time it is:
	// passwd, group and hosts are made.
	systemFiles = []string{
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/alternatives",
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts", "/etc/mime.types", "/etc/os-release",
		"/sys/devices/system/cpu", "/sys/devices/system/node",
	}
	networkFiles = []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
	}
	devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
)

// tree is a part of the machine's files that was cut out, to be put in at the
// same path.
type tree struct {
	fd    int
	path  string
	isDir bool
}

// ownRoot makes a small root in memory with what the worker may see. The parts
// are opened first: a root of our own hides where they come from, and folders
// above them may be closed to the worker.
func (h *helper) ownRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mounts a copy: %w", err)
	}
	trees, links, err := h.cut()
	if err != nil {
		return err
	}
	// Any folder will do to stand on for a moment: nobody else sees it.
	const ground = "/tmp"
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=755", rootBytes, rootFiles)
	if err := unix.Mount("tmpfs", ground, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	if err := os.Chdir(ground); err != nil {
		return err
	}
	if err := h.furnish(links); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.put(); err != nil {
			return &Error{Layer: layerMounts, Path: t.path, Text: err.Error()}
		}
	}
	// While the machine's /proc can be seen; afterwards nobody may mount one.
	if err := h.step(layerProcesses, h.ownProcesses); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let the old root go: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Sethostname([]byte("worker"))
}

// wanted is a path to be shown.
type wanted struct {
	path            string
	write, optional bool
	device          bool
	mount           bool
	// exact says that no part of the path may be a link.
	exact bool
}

// at opens what a path names, as a place to work from.
func (w wanted) at() (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	if !w.exact {
		return unix.Open(w.path, int(how.Flags), 0)
	}
	how.Resolve = unix.RESOLVE_NO_SYMLINKS
	fd, err = unix.Openat2(unix.AT_FDCWD, w.path, &how)
	if errors.Is(err, unix.ELOOP) {
		err = errors.New("it leads through a link")
	}
	return fd, err
}

// wants lists what is shown, a folder before what lies in it. Where a path is
// named twice, the policy's mount wins, then what may be written.
func (h *helper) wants() []wanted {
	var list []wanted
	add := func(paths []string, w wanted) {
		for _, path := range paths {
			w.path = path
			list = append(list, w)
		}
	}
	add(systemFolders, wanted{optional: true})
	add(systemFiles, wanted{optional: true})
	if h.Network {
		add(networkFiles, wanted{optional: true})
	}
	add(devices, wanted{device: true, write: true})
	add(h.Visible, wanted{})
	add(h.Optional, wanted{optional: true})
	add(h.Writable, wanted{write: true})
	for _, m := range h.Mounts {
		list = append(list, wanted{path: m.Path, write: m.Write, mount: true, exact: m.Exact, device: strings.HasPrefix(m.Path, "/dev/")})
	}
	byPath := map[string]wanted{}
	for _, w := range list {
		w.path = throughLinks(w.path)
		byPath[w.path] = w // the later are the more particular
	}
	list = list[:0]
	for _, w := range byPath {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b wanted) int { return strings.Compare(a.path, b.path) })
	return list
}

// throughLinks is where a path in a folder of the system is that is a link, as
// /bin is to /usr/bin: the link is shown, and what it leads to is in place before
// what lies there.
func throughLinks(path string) string {
	for _, folder := range systemFolders {
		rest, ok := strings.CutPrefix(path, folder+"/")
		if !ok {
			continue
		}
		if target, err := os.Readlink(folder); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join("/", target)
			}
			return filepath.Join(target, rest)
		}
	}
	return path
}

// cut opens what is shown. Links stay links where they stand for a part of the
// system, so that a path is the same file as on the machine.
func (h *helper) cut() (trees []tree, links map[string]string, err error) {
	links = map[string]string{}
	var shown []wanted
	for _, w := range h.wants() {
		if slices.Contains(systemFolders, w.path) {
			if target, err := os.Readlink(w.path); err == nil {
				links[w.path] = target
				continue
			}
		}
		if isShown(w, shown) {
			continue
		}
		t, err := cutTree(w)
		if errors.Is(err, unix.ENOENT) && w.optional {
			continue
		}
		if err != nil {
			return nil, nil, &Error{Layer: layerMounts, Path: w.path, Missing: errors.Is(err, unix.ENOENT), Text: err.Error()}
		}
		trees, shown = append(trees, t), append(shown, w)
	}
	return trees, links, nil
}

// isShown reports whether w lies in what is shown in the same way already.
func isShown(w wanted, shown []wanted) bool {
	if w.mount {
		return false
	}
	for _, above := range slices.Backward(shown) { // the nearest comes last
		if strings.HasPrefix(w.path, above.path+"/") {
			_, err := os.Lstat(w.path)
			return err == nil && w.write == above.write && w.device == above.device
		}
	}
	return false
}

func cutTree(w wanted) (tree, error) {
	at, err := w.at()
	if err != nil {
		return tree{}, err
	}
	defer unix.Close(at)
	fd, err := unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return tree{}, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return tree{}, err
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if !w.device {
		attributes.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	// Devices are written all the same; but who owns one must not change its
	// mode, which is the machine's.
	if !w.write || w.device {
		attributes.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	// A read-only remount would leave out what is mounted below.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		return tree{}, err
	}
	return tree{fd, w.path, stat.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// put hangs a tree into the root, which is the working directory.
func (t tree) put() error {
	path := "." + t.path
	if err := t.place(path); err != nil {
		return err
	}
	defer unix.Close(t.fd)
	return unix.MoveMount(t.fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// place makes what a tree is hung over.
func (t tree) place(path string) error {
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() != t.isDir {
			return errors.New("a folder and a file are in each other's place")
		}
		return nil
	}
	if t.isDir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	return file.Close()
}

// furnish fills the root, which is the working directory, with what is not the
// machine's.
func (h *helper) furnish(links map[string]string) error {
	for _, dir := range []string{"dev/shm", "etc", "proc", "tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	bytes, files := h.Limits.ScratchBytes, h.Limits.ScratchFiles
	if bytes == 0 {
		bytes = scratchBytesDefault
	}
	if files == 0 {
		files = scratchFilesDefault
	}
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=1777", bytes, files)
	for target, flags := range map[string]uintptr{"tmp": 0, "dev/shm": unix.MS_NOEXEC} {
		if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|flags, options); err != nil {
			return fmt.Errorf("mount a tmpfs at /%s: %w", target, err)
		}
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+target, "dev/"+name); err != nil {
			return err
		}
	}
	for path, target := range links {
		if err := os.Symlink(target, "."+path); err != nil {
			return err
		}
	}
	id := strconv.Itoa(insideID)
	for path, text := range map[string]string{
		"etc/passwd": "worker:x:" + id + ":" + id + "::" + Scratch + ":/sbin/nologin\n",
		"etc/group":  "worker:x:" + id + ":\n",
		"etc/hosts":  "127.0.0.1 localhost worker\n::1 localhost\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			return err
		}
	}
	a, err := ownArchitecture()
	if err != nil {
		return err
	}
	return os.WriteFile("."+reaperPath, reaper(a), 0o111)
}

// sealRoot makes the root itself read-only, when the last thing has been put
// there, and looks whether process 1 could mount a private /proc.
func (h *helper) sealRoot() error {
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attributes); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs("/proc", &stat); err != nil || stat.Type != unix.PROC_SUPER_MAGIC {
		h.told.Notes = append(h.told.Notes, Error{Layer: layerProc, Text: "the machine's /proc is masked, so that no other can be mounted: workers have none"})
	}
	return nil
}
