package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// beside is a file that is written out of sight and appears under its name
// when it is whole. Where the system allows, it has no name at all until then,
// so that a killed process leaves nothing.
type beside struct {
	*os.File
	path string
	mode plan.WriteMode
	// temporary is the name it has meanwhile; "" if it has none.
	temporary string
}

func createBeside(path string, mode plan.WriteMode) (*beside, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, unwritable(path, errors.New("it is a folder"))
	case err == nil && !info.Mode().IsRegular():
		return nil, unwritable(path, errors.New("it is not a regular file"))
	case err == nil && mode != plan.Overwrite:
		return nil, exists(path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, unwritable(path, err)
	}
	target := path
	if info != nil {
		// What a link points at is replaced, not the link.
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return nil, unwritable(path, err)
		}
	}
	b := &beside{path: target, mode: mode}
	if err := b.create(); err != nil {
		return nil, unwritable(path, err)
	}
	if info != nil {
		if err := b.Chmod(info.Mode().Perm()); err != nil {
			b.discard()
			return nil, unwritable(path, err)
		}
	}
	return b, nil
}

// create makes the file: without a name where that is possible.
func (b *beside) create() (err error) {
	if b.File, err = createUnnamed(filepath.Dir(b.path)); err == nil {
		return nil
	}
	if b.temporary, err = freeName(b.path); err != nil {
		return err
	}
	b.File, err = os.OpenFile(b.temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	return err
}

// freeName finds a name beside path that no file has.
func freeName(path string) (string, error) {
	placeholder, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return "", err
	}
	return placeholder.Name(), errors.Join(placeholder.Close(), os.Remove(placeholder.Name()))
}

func exists(path string) error {
	return diag.New(diag.OutputExists, "%s exists already", path).
		WithHint("mode=\"overwrite\" replaces it once the job has succeeded")
}

// publish makes the file appear under its name, all of it at once. With
// ErrorIfExists it never replaces a file, not even one that has come since.
func (b *beside) publish() error {
	if err := b.Sync(); err != nil {
		return err
	}
	if b.temporary == "" {
		if b.mode != plan.Overwrite {
			if err := linkError(b.path, b.link(b.path)); err != nil {
				return err
			}
			return b.Close()
		}
		name, err := b.linkTemporary()
		if err != nil {
			return err
		}
		b.temporary = name
	}
	if b.mode != plan.Overwrite {
		if err := linkError(b.path, os.Link(b.temporary, b.path)); err != nil {
			return err
		}
		return errors.Join(os.Remove(b.temporary), b.Close())
	}
	if err := os.Rename(b.temporary, b.path); err != nil {
		return err
	}
	return b.Close()
}

func linkError(path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return exists(path)
	}
	return err
}

// linkTemporary gives an unnamed file a free name beside its own.
func (b *beside) linkTemporary() (string, error) {
	name, err := freeName(b.path)
	if err != nil {
		return "", err
	}
	return name, b.link(name)
}

// discard removes the file; it may be called after a failed publish.
func (b *beside) discard() {
	_ = b.Close() // its content is given up
	if b.temporary != "" {
		_ = os.Remove(b.temporary) // gone already if it was renamed
	}
}
