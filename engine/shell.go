package engine

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/connector/file"
	"github.com/alink-runtime/alink/engine/exec"
)

// OpenShell starts a shell of SQL, with the rights of this process. Of the
// options it takes MemoryLimitBytes, all of which is DuckDB's, Parallelism, and
// SpillDir, which is the system's temporary folder by default.
func OpenShell(options Options) (exec.Shell, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	if options.Parallelism == 0 {
		options.Parallelism = runtime.NumCPU()
	}
	if options.MemoryLimitBytes == 0 {
		options.MemoryLimitBytes = machineMemoryBytes() / 2
	}
	if options.SpillDir == "" {
		options.SpillDir = os.TempDir()
	}
	parent := options.SpillDir
	spill, remove, err := file.Scratch(parent, scratchPrefix)
	if err != nil {
		return nil, diag.New(diag.BadOption, "the spill directory %q cannot be used", parent).WithCause(err).
			WithHint("name a folder that exists and can be written")
	}
	options.SpillDir = spill
	s, err := openShell(options, options.Parallelism)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return &shell{Shell: s, remove: sync.OnceValue(remove)}, nil
}

// scratchPrefix begins the names of shells' folders for data beyond memory.
const scratchPrefix = ".alink-sql-"

// shell is a shell with a folder of its own, so that the next one finds what a
// killed one has left.
type shell struct {
	exec.Shell
	remove func() error
}

// Close implements exec.Shell.
func (s *shell) Close() error { return errors.Join(s.Shell.Close(), s.remove()) }
