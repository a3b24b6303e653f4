package engine

import (
	"os"
	"runtime"

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
	return openShell(options, options.Parallelism)
}
