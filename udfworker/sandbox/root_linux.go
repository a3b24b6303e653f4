//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

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

// tree is a part of the machine's files that is cut out, to be put in at the
// same path.
type tree struct {
	fd    *int32
	path  string
	isDir bool
}

// ownRoot makes a small root in memory with what the worker may see. The parts
// are opened first: a root of our own hides where they come from, and folders
// above them may be closed to the worker.
func (c *confinement) ownRoot() error {
	// A user namespace can be had without rights in it: that shows here.
	c.ownUser()
	c.add(label{doing: "make the mounts a copy"}, unix.SYS_MOUNT, c.text(""), c.text("/"), c.text(""), unix.MS_REC|unix.MS_SLAVE)
	trees, err := c.cut()
	if err != nil {
		return err
	}
	// Any folder will do to stand on for a moment: nobody else sees it.
	const ground = "/tmp"
	c.mountTemporary(ground, 0, fmt.Sprintf("size=%d,nr_inodes=%d,mode=755", rootBytes, rootFiles))
	c.add(label{}, unix.SYS_CHDIR, c.text(ground))
	c.furnish()
	made := map[string]bool{}
	for _, t := range trees {
		c.put(t, made)
	}
	// While the machine's /proc can be seen; afterwards nobody may mount one.
	c.layer = layerProcesses
	c.ownProcesses()
	c.layer = layerMounts
	here := c.text(".")
	c.add(label{doing: "change the root"}, unix.SYS_PIVOT_ROOT, here, here)
	c.add(label{doing: "let the old root go"}, unix.SYS_UMOUNT2, here, unix.MNT_DETACH)
	c.add(label{}, unix.SYS_CHDIR, c.text("/"))
	const name = "worker"
	c.add(label{}, unix.SYS_SETHOSTNAME, c.text(name), uintptr(len(name)))
	// The last thing has been put into the root.
	attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	c.add(label{doing: "make the root read-only"}, unix.SYS_MOUNT_SETATTR, c.here(), c.text("/"), 0,
		c.pointer(unsafe.Pointer(attributes)), unsafe.Sizeof(*attributes))
	return nil
}

// mountTemporary mounts a file system in memory.
func (c *confinement) mountTemporary(at string, flags uintptr, options string) {
	kind := c.text("tmpfs")
	c.add(label{doing: "mount a tmpfs at " + at}, unix.SYS_MOUNT, kind, c.text(at), kind, unix.MS_NOSUID|unix.MS_NODEV|flags, c.text(options))
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

// throughLink is what ELOOP says of an exact path.
var throughLink = map[syscall.Errno]string{unix.ELOOP: "it leads through a link"}

// open opens what a path names, as a place to work from; fd is negative where
// that is missing and may be.
func (c *confinement) open(w wanted, fd *int32) {
	about := label{path: w.path}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	var p *step
	if w.exact {
		how.Resolve, about.meaning = unix.RESOLVE_NO_SYMLINKS, throughLink
		p = c.add(about, unix.SYS_OPENAT2, c.here(), c.text(w.path), c.pointer(unsafe.Pointer(how)), unsafe.Sizeof(*how))
	} else {
		p = c.add(about, unix.SYS_OPENAT, c.here(), c.text(w.path), uintptr(how.Flags))
	}
	p.into = fd
	if w.optional {
		p.may = unix.ENOENT
	}
}

// isDir says whether a path is a folder; missing says that there is nothing.
// What cannot be told is found out by opening it.
func (w wanted) isDir() (isDir, missing bool) {
	info, err := os.Stat(w.path)
	return err != nil || info.IsDir(), errors.Is(err, os.ErrNotExist)
}

// wants lists what is shown, a folder before what lies in it. Where a path is
// named twice, the policy's mount wins, then what may be written.
func (c *confinement) wants() []wanted {
	var list []wanted
	add := func(paths []string, w wanted) {
		for _, path := range paths {
			w.path = path
			list = append(list, w)
		}
	}
	add(systemFolders, wanted{optional: true})
	add(systemFiles, wanted{optional: true})
	if c.Network {
		add(networkFiles, wanted{optional: true})
	}
	add(devices, wanted{device: true, write: true})
	add(c.Visible, wanted{})
	add(c.Optional, wanted{optional: true})
	add(c.Writable, wanted{write: true})
	for _, m := range c.Mounts {
		list = append(list, wanted{path: m.Path, write: m.Write, mount: true, exact: m.Exact, device: strings.HasPrefix(m.Path, "/dev/")})
	}
	byPath := make(map[string]wanted, len(list))
	for _, w := range list {
		w.path = c.throughLinks(w.path)
		byPath[w.path] = w // the later are the more particular
	}
	return slices.SortedFunc(maps.Values(byPath), func(a, b wanted) int { return strings.Compare(a.path, b.path) })
}

// systemLinks are the folders of the system that are links, and where they lead.
func systemLinks() map[string]string {
	links := map[string]string{}
	for _, folder := range systemFolders {
		if target, err := os.Readlink(folder); err == nil {
			links[folder] = target
		}
	}
	return links
}

// throughLinks is where a path in a folder of the system is that is a link, as
// /bin is to /usr/bin: the link is shown, and what it leads to is in place before
// what lies there.
func (c *confinement) throughLinks(path string) string {
	for folder, target := range c.links {
		if rest, ok := strings.CutPrefix(path, folder+"/"); ok {
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
func (c *confinement) cut() (trees []tree, err error) {
	var shown []wanted
	for _, w := range c.shows {
		if _, isLink := c.links[w.path]; isLink {
			continue
		}
		isDir, missing := w.isDir()
		switch {
		case missing && w.optional:
		case missing:
			return nil, &Error{Layer: layerMounts, Path: w.path, Missing: true, Text: unix.ENOENT.Error()}
		case isShown(w, shown):
			c.open(wanted{path: w.path, optional: w.optional}, new(int32)) // or not, being in a closed folder
		default:
			trees, shown = append(trees, c.cutTree(w, isDir)), append(shown, w)
		}
	}
	return trees, nil
}

// isShown reports whether w lies in what is shown in the same way already.
func isShown(w wanted, shown []wanted) bool {
	if w.mount {
		return false
	}
	for _, above := range slices.Backward(shown) { // the nearest comes last
		if strings.HasPrefix(w.path, above.path+"/") {
			return w.write == above.write && w.device == above.device
		}
	}
	return false
}

func (c *confinement) cutTree(w wanted, isDir bool) tree {
	const copies = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	t, about := tree{new(int32), w.path, isDir}, label{path: w.path}
	if w.exact {
		at := new(int32)
		c.open(w, at)
		p := c.add(about, unix.SYS_OPEN_TREE, 0, c.text(""), copies|unix.AT_EMPTY_PATH)
		p.from, p.into = at, t.fd
	} else {
		p := c.add(about, unix.SYS_OPEN_TREE, c.here(), c.text(w.path), copies)
		p.into = t.fd
		if w.optional { // it may have gone since
			p.may = unix.ENOENT
		}
	}
	attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if !w.device {
		attributes.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	// Devices are written all the same; but who owns one must not change its
	// mode, which is the machine's.
	if !w.write || w.device {
		attributes.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	// A read-only remount would leave out what is mounted below.
	p := c.add(about, unix.SYS_MOUNT_SETATTR, 0, c.text(""), unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		c.pointer(unsafe.Pointer(attributes)), unsafe.Sizeof(*attributes))
	p.from, p.unless = t.fd, t.fd
	return t
}

// put hangs a tree into the root, which is the working directory, over a folder
// or file that is made where there is none.
func (c *confinement) put(t tree, made map[string]bool) {
	about := label{path: t.path}
	for at, r := range t.path {
		if r == '/' && at > 0 {
			c.folder(about, t.path[:at], made)
		}
	}
	if t.isDir {
		c.folder(about, t.path, made)
	} else {
		c.add(about, unix.SYS_MKNODAT, c.here(), c.text("."+t.path), unix.S_IFREG|0o444).may = unix.EEXIST
	}
	about.meaning = map[syscall.Errno]string{unix.ENOTDIR: "a folder and a file are in each other's place"}
	p := c.add(about, unix.SYS_MOVE_MOUNT, 0, c.text(""), c.here(), c.text("."+t.path), unix.MOVE_MOUNT_F_EMPTY_PATH)
	p.from, p.unless = t.fd, t.fd
	// In a folder that is shown already, a link is there as a link, over which
	// nothing is hung: what it leads to is shown by itself.
	if info, err := os.Lstat(t.path); err == nil && info.Mode()&os.ModeSymlink != 0 {
		p.may = unix.EINVAL
	}
}

// folder makes a folder in the root, unless there is one.
func (c *confinement) folder(about label, path string, made map[string]bool) {
	if !made[path] {
		made[path] = true
		const mode = 0o755
		c.add(about, unix.SYS_MKDIRAT, c.here(), c.text("."+path), mode).may = unix.EEXIST
	}
}

// furnish fills the root, which is the working directory, with what is not the
// machine's.
func (c *confinement) furnish() {
	made := map[string]bool{}
	for _, dir := range []string{"/dev", "/dev/shm", "/etc", "/proc", "/tmp"} {
		c.folder(label{}, dir, made)
	}
	bytes, files := c.Limits.ScratchBytes, c.Limits.ScratchFiles
	if bytes == 0 {
		bytes = scratchBytesDefault
	}
	if files == 0 {
		files = scratchFilesDefault
	}
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=1777", bytes, files)
	c.mountTemporary("tmp", 0, options)
	c.mountTemporary("dev/shm", unix.MS_NOEXEC, options)
	link := func(path, target string) {
		c.add(label{doing: "make the link /" + path}, unix.SYS_SYMLINKAT, c.text(target), c.here(), c.text(path))
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		link("dev/"+name, "/proc/self/fd"+target)
	}
	for path, target := range c.links {
		link(path[1:], target)
	}
	id := strconv.Itoa(insideID)
	const makes = unix.O_CREAT | unix.O_WRONLY
	for path, text := range map[string]string{
		"etc/passwd": "worker:x:" + id + ":" + id + "::" + Scratch + ":/sbin/nologin\n",
		"etc/group":  "worker:x:" + id + ":\n",
		"etc/hosts":  "127.0.0.1 localhost worker\n::1 localhost\n",
	} {
		c.file(path, makes, 0o444, text, false)
	}
	c.file(reaperPath[1:], makes, 0o111, string(reaper(ownArchitecture)), false)
}
