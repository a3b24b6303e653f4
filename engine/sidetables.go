package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/alink-runtime/alink/engine/connector/file"
)

// sideTablesPrefix begins the name of the folder of sideTables.
const sideTablesPrefix = ".alink-tables."

// sideTables is where the tables lie that functions get whole: files of Arrow's
// below the spill folder, for each domain in a folder that its workers see. A
// file belongs to a job, which removes it at its end. Unlike a spool's it has a
// name, since workers open it; what a killed engine leaves, the next one with
// the same spill folder removes.
type sideTables struct {
	spillDir string

	mu sync.Mutex
	// dir is made when it is first needed; "" until then.
	dir    string
	remove func() error
	closed bool
	// made counts the files.
	made int
}

// newSideTables makes no folder yet.
func newSideTables(spillDir string) *sideTables { return &sideTables{spillDir: spillDir} }

// Folder is where the tables of a domain lie.
func (t *sideTables) Folder(domain string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, err := t.folderLocked(domain)
	if err != nil {
		return "", fmt.Errorf("keep tables for functions: %w", err)
	}
	return dir, nil
}

func (t *sideTables) folderLocked(domain string) (string, error) {
	if t.closed {
		return "", os.ErrClosed
	}
	if t.dir == "" {
		parent, err := filepath.Abs(t.spillDir)
		if err != nil {
			return "", err
		}
		if t.dir, t.remove, err = file.Scratch(parent, sideTablesPrefix); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(t.dir, domainFolder(domain))
	return dir, os.MkdirAll(dir, 0o700)
}

// New makes a file for a table of a domain. Its name is no other's: workers know
// what they have read by it.
func (t *sideTables) New(domain string) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, err := t.folderLocked(domain)
	if err != nil {
		return nil, err
	}
	t.made++
	path := filepath.Join(dir, fmt.Sprintf("%d.arrow", t.made))
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// EndDomain removes the folder of a domain, unless a job still has a table
// there.
func (t *sideTables) EndDomain(domain string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir != "" {
		_ = os.Remove(filepath.Join(t.dir, domainFolder(domain))) // not where it is in use
	}
}

// Close removes everything.
func (t *sideTables) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.dir == "" {
		return nil
	}
	t.dir = ""
	return t.remove()
}
