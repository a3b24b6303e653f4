//go:build cgo

package engine

import (
	"github.com/alink-runtime/alink/engine/duck"
	"github.com/alink-runtime/alink/engine/exec"
)

// openRelational opens a job's DuckDB instance.
func openRelational(options Options, threads int, memoryBytes int64) (exec.Relational, error) {
	return duck.Open(duck.Options{Threads: threads, MemoryLimitBytes: memoryBytes, SpillDir: options.SpillDir, BatchRowsMax: options.BatchRows})
}

func openShell(options Options, threads int) (exec.Shell, error) {
	return duck.OpenShell(duck.Options{Threads: threads, MemoryLimitBytes: options.MemoryLimitBytes, SpillDir: options.SpillDir})
}
