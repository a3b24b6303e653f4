//go:build !cgo

package engine

import (
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// openRelational says that this build has no DuckDB.
func openRelational(Options, int, int64) (exec.Relational, error) { return nil, noRelational() }

func openShell(Options, int) (exec.Shell, error) { return nil, noRelational() }

func noRelational() error {
	return diag.New(diag.NoRelational, "this engine was built without DuckDB, which filters, joins, aggregates and sorts need").
		WithHint("build it with cgo (CGO_ENABLED=1 and a C compiler)")
}
