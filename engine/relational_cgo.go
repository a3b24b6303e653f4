//go:build cgo

package engine

import (
	"os"

	"github.com/alink-runtime/alink/engine/duck"
	"github.com/alink-runtime/alink/engine/exec"
)

// openRelational opens a job's DuckDB instance.
func openRelational(options Options, memoryBytes int64) (exec.Relational, error) {
	spill := options.SpillDir
	if spill == "" {
		spill = os.TempDir()
	}
	return duck.Open(duck.Options{Threads: options.Parallelism, MemoryLimitBytes: memoryBytes, SpillDir: spill})
}
