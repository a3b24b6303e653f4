package engine

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/alink-runtime/alink/diag"
)

// Limits of artifacts.
const (
	artifactBytesMax  = 2 << 30
	artifactFilesMax  = 100_000
	unpackedBytesMax  = 8 << 30
	artifactDirSuffix = ".d"
)

// shelvesDir is the folder of shelves within the folder of artifacts.
const shelvesDir = "shelves"

// artifacts keeps what functions are made of (pickles, archives of modules,
// models) by the hash of its content. Workers see none of it but the shelf of
// their domain, on which stands what that domain's functions refer to.
type artifacts struct {
	dir string
	mu  sync.Mutex // held while something is put on a shelf or dropped
	// tables are those that functions get whole.
	tables *sideTables
}

func newArtifacts(dir string, tables *sideTables) (*artifacts, error) {
	return &artifacts{dir: dir, tables: tables}, os.MkdirAll(filepath.Join(dir, shelvesDir), 0o700)
}

// domainFolder is the name of a folder of a domain's.
func domainFolder(domain string) string {
	sum := sha256.Sum256([]byte(domain)) // it may hold any character
	const enough = 16
	return hex.EncodeToString(sum[:enough])
}

// Folder is the shelf of a domain.
func (a *artifacts) Folder(domain string) (string, error) {
	dir := filepath.Join(a.dir, shelvesDir, domainFolder(domain))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep what functions are made of: %w", err)
	}
	return dir, nil
}

// Tables is where the tables lie that a domain's functions get whole.
func (a *artifacts) Tables(domain string) (string, error) { return a.tables.Folder(domain) }

// EndDomain removes the shelf of a domain, unless something still stands there:
// jobs may outlive their client. It goes with the run directory at the latest.
func (a *artifacts) EndDomain(domain string) {
	if dir, err := a.Folder(domain); err == nil {
		_ = os.Remove(dir) // not where it is in use
	}
	a.tables.EndDomain(domain)
}

// Put keeps data and returns its name, the SHA-256 in hexadecimal.
func (a *artifacts) Put(data []byte) (string, error) {
	if len(data) > artifactBytesMax {
		return "", diag.New(diag.NotShippable, "a function's code, modules or model has %d bytes; the limit is %d", len(data), artifactBytesMax)
	}
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	path := filepath.Join(a.dir, id)
	if _, err := os.Stat(path); err == nil {
		return id, nil
	}
	file, err := os.CreateTemp(a.dir, "put-*")
	if err != nil {
		return "", fmt.Errorf("keep an artifact: %w", err)
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("keep an artifact: %w", err), os.Remove(file.Name()))
	}
	return id, nil
}

// Has reports whether an artifact is there.
func (a *artifacts) Has(id string) bool {
	_, err := a.Blob(id)
	return err == nil
}

// Drop forgets an artifact and what was unpacked of it. One that is not there
// is no error.
func (a *artifacts) Drop(id string) error {
	path, err := a.Blob(id)
	if err != nil {
		return nil // it is not there
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err = os.Remove(path)
	copies, _ := filepath.Glob(filepath.Join(a.dir, shelvesDir, "*", id+"*")) // the pattern is well formed
	for _, path := range copies {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// Blob is where an artifact is kept.
func (a *artifacts) Blob(id string) (string, error) {
	if len(id) != 2*sha256.Size || strings.Trim(id, "0123456789abcdef") != "" {
		return "", diag.New(diag.InvalidPlan, "%q is not the name of an artifact", id)
	}
	path := filepath.Join(a.dir, id)
	if _, err := os.Stat(path); err != nil {
		return "", diag.New(diag.InvalidPlan, "artifact %s has not been sent", id[:12])
	}
	return path, nil
}

// File is the path of an artifact on the shelf of a domain, where it is put.
func (a *artifacts) File(domain, id string) (string, error) {
	return a.shelve(domain, id, "", os.Link)
}

// Dir is the folder on the shelf of a domain into which the archive id has been
// unpacked.
func (a *artifacts) Dir(domain, id string) (string, error) {
	return a.shelve(domain, id, artifactDirSuffix, func(blob, dir string) error {
		part, err := os.MkdirTemp(a.dir, "unpack-*")
		if err != nil {
			return err
		}
		if err = unpack(blob, part); err == nil {
			err = os.Rename(part, dir)
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(part))
		}
		return nil
	})
}

// shelve gives the place of an artifact on the shelf of a domain. Where nothing
// stands there, put makes it of the artifact's file.
func (a *artifacts) shelve(domain, id, suffix string, put func(blob, place string) error) (string, error) {
	blob, err := a.Blob(id)
	if err != nil {
		return "", err
	}
	shelf, err := a.Folder(domain)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	place := filepath.Join(shelf, id+suffix)
	if _, err := os.Stat(place); err == nil {
		return place, nil
	}
	if err := put(blob, place); err != nil {
		return "", fmt.Errorf("hand an artifact to workers: %w", err)
	}
	return place, nil
}

// unpack writes the regular files of a zip archive below dir.
func unpack(path, dir string) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }() // only read
	if len(archive.File) > artifactFilesMax {
		return fmt.Errorf("the archive has %d files; the limit is %d", len(archive.File), artifactFilesMax)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // a handle of a folder
	left := int64(unpackedBytesMax)
	for _, f := range archive.File {
		if !f.Mode().IsRegular() {
			continue
		}
		n, err := unpackFile(root, f, left)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		left -= n
	}
	return nil
}

func unpackFile(root *os.Root, f *zip.File, bytesMax int64) (int64, error) {
	if parent := filepath.Dir(filepath.FromSlash(f.Name)); parent != "." {
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return 0, err
		}
	}
	in, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := root.OpenFile(filepath.FromSlash(f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o600))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, bytesMax+1))
	if err = errors.Join(err, out.Close()); err == nil && n > bytesMax {
		err = fmt.Errorf("the archive unpacks to more than %d bytes", int64(unpackedBytesMax))
	}
	return n, err
}
