package envmgr

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Limits of what an archive unpacks to.
const (
	unpackedFilesMax = 200_000
	unpackedBytesMax = 32 << 30
)

// archiveEndings are those of the archives that are read, the longest first.
var archiveEndings = []string{".tar.gz", ".tar.bz2", ".tar.zst", ".tgz", ".tar", ".zip"}

// archiveFolder is the name of the folder that an archive is unpacked into: its
// own without the ending. ok is false where the ending is none of ours.
func archiveFolder(name string) (folder string, ok bool) {
	for _, ending := range archiveEndings {
		if folder, ok := strings.CutSuffix(name, ending); ok && path.Base(folder) != "." && !strings.HasSuffix(folder, "/") && folder != "" {
			return folder, true
		}
	}
	return "", false
}

// unpacking is an archive on its way into a folder. Everything is written
// through root, so that no name and no link leads outside.
type unpacking struct {
	root *os.Root
	dir  string
	// links are made last: nothing is written through one.
	links             []link
	files, bytesTaken int64
}

type link struct{ path, target string }

// unpackArchive unpacks an archive into an existing folder. Whatever would lie
// outside of it, or is neither file, folder nor link, is an error.
func unpackArchive(archive, name, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // a handle of a folder
	u := &unpacking{root: root, dir: dir}
	if strings.HasSuffix(name, ".zip") {
		err = u.zip(archive)
	} else {
		err = u.compressed(archive, name)
	}
	if err != nil {
		return err
	}
	return u.makeLinks()
}

func (u *unpacking) zip(archive string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // only read
	for _, f := range z.File {
		if err := u.zipEntry(f); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) zipEntry(f *zip.File) error {
	mode := f.Mode()
	if mode.IsDir() {
		return u.folder(f.Name)
	}
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	defer func() { _ = in.Close() }() // only read
	if mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		return u.link(f.Name, string(target))
	}
	if !mode.IsRegular() {
		return notAFile(f.Name)
	}
	return u.file(f.Name, in, mode)
}

func (u *unpacking) compressed(archive, name string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	switch {
	case strings.HasSuffix(name, "gz"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		return u.tar(z)
	case strings.HasSuffix(name, ".bz2"):
		return u.tar(bzip2.NewReader(in))
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer z.Close()
		return u.tar(z)
	}
	return u.tar(in)
}

func (u *unpacking) tar(in io.Reader) error {
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = u.tarEntry(h, t)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacking) tarEntry(h *tar.Header, in io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(h.Name)
	case tar.TypeReg:
		return u.file(h.Name, in, h.FileInfo().Mode())
	case tar.TypeSymlink:
		return u.link(h.Name, h.Linkname)
	case tar.TypeLink:
		return u.copy(h.Name, h.Linkname)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return notAFile(h.Name)
}

func notAFile(name string) error {
	return fmt.Errorf("%s is neither a file nor a folder nor a link", name)
}

// place is where an entry goes; its folder is made.
func (u *unpacking) place(name string) (string, error) {
	if strings.ContainsRune(name, 0) || !filepath.IsLocal(filepath.FromSlash(strings.TrimSuffix(name, "/"))) {
		return "", fmt.Errorf("%q lies outside of the archive's folder", name)
	}
	if u.files++; u.files > unpackedFilesMax {
		return "", fmt.Errorf("it holds more than %d files", unpackedFilesMax)
	}
	place := filepath.Clean(filepath.FromSlash(name))
	if parent := filepath.Dir(place); parent != "." {
		if err := u.root.MkdirAll(parent, 0o700); err != nil {
			return "", err
		}
	}
	return place, nil
}

func (u *unpacking) folder(name string) error {
	place, err := u.place(name)
	if err != nil {
		return err
	}
	return u.root.MkdirAll(place, 0o700)
}

func (u *unpacking) file(name string, in io.Reader, mode fs.FileMode) error {
	place, err := u.place(name)
	if err != nil {
		return err
	}
	out, err := u.root.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|mode.Perm()&0o100)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it holds %s twice", name)
	}
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, unpackedBytesMax-u.bytesTaken+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if u.bytesTaken += n; u.bytesTaken > unpackedBytesMax {
		return fmt.Errorf("it unpacks to more than %d bytes", int64(unpackedBytesMax))
	}
	return nil
}

// copy makes a copy of a file that came before: what a hard link is in tar.
func (u *unpacking) copy(name, target string) error {
	source, err := u.place(target)
	if err != nil {
		return err
	}
	in, err := u.root.Open(source)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = in.Close() }() // only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return notAFile(name)
	}
	return u.file(name, in, info.Mode())
}

func (u *unpacking) link(name, target string) error {
	place, err := u.place(name)
	if err != nil {
		return err
	}
	u.links = append(u.links, link{place, target})
	return nil
}

// makeLinks makes the symbolic links and then follows each: one that leads
// outside, by whatever way, or to nothing, is an error.
func (u *unpacking) makeLinks() error {
	for _, l := range u.links {
		if filepath.IsAbs(l.target) {
			return fmt.Errorf("the link %q leads to %q, outside of the archive's folder", l.path, l.target)
		}
		if err := u.root.Symlink(l.target, l.path); err != nil {
			return err
		}
	}
	for _, l := range u.links {
		if _, err := u.root.Stat(l.path); err != nil {
			return fmt.Errorf("the link %q leads to %q, which is not in the archive's folder", l.path, l.target)
		}
	}
	return nil
}
