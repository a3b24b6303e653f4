// Command pyrunner is the engine's one binary: the engine of a Python client,
// the supervisor of its workers, and the command line.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `pyrunner runs dataflows on Arrow batches, with Python functions in workers.

  pyrunner error CODE     the long text of a diagnostic
  pyrunner version        version, commit, Arrow and DuckDB versions

  pyrunner engine         the engine of one Python client (started by the client)
  pyrunner worker-pool    the supervisor of workers (started by the engine)
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin *os.File, stdout *os.File, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch command, rest := args[0], args[1:]; command {
	case "engine":
		return runEngine(stdin, stdout, stderr)
	case "worker-pool":
		return report(stderr, udfworker.ServeSupervisor())
	case "error":
		return explainCode(rest, stdout, stderr)
	case "version", "--version":
		printVersion(stdout)
		return exitDone
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return exitDone
	default:
		d := diag.New(diag.BadOption, "pyrunner has no command %q", command).
			WithHint("%s", diag.DidYouMean(command, "commands", []string{"engine", "worker-pool", "error", "version", "help"}))
		fmt.Fprintln(stderr, d.Render())
		return exitUsage
	}
}

// report prints a failure as the user is to read it.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		fmt.Fprintln(stderr, d.Render())
	} else {
		fmt.Fprintln(stderr, "pyrunner:", err)
	}
	return exitFailed
}

func explainCode(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: pyrunner error CODE")
		return exitUsage
	}
	entry, known := diag.Find(diag.Code(strings.ToUpper(args[0])))
	if !known {
		codes := make([]string, len(diag.Entries))
		for i, e := range diag.Entries {
			codes[i] = string(e.Code)
		}
		fmt.Fprintf(stderr, "pyrunner: there is no code %s; %s\n", args[0], diag.DidYouMean(args[0], "codes", codes))
		return exitUsage
	}
	fmt.Fprintf(stdout, "%s (alink.%s): %s\n\n%s\n", entry.Code, entry.Class, entry.Summary, entry.Text)
	return exitDone
}

// version is the release that this is; it is also the wheel's.
const version = "0.1.0"

func printVersion(stdout io.Writer) {
	commit, modules := "unknown", map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
	}
	fmt.Fprintf(stdout, "pyrunner %s (commit %s)\n", version, commit)
	fmt.Fprintf(stdout, "Arrow    %s\n", modules["github.com/apache/arrow-go/v18"])
	fmt.Fprintf(stdout, "Beam     %s\n", modules["github.com/apache/beam/sdks/v2"])
	fmt.Fprintf(stdout, "DuckDB   %s\n", duckdbVersion(modules["github.com/duckdb/duckdb-go-bindings"]))
}

// duckdbVersion reads DuckDB's version from that of its Go binding, which
// codes 1.5.6 as v0.10506.0.
func duckdbVersion(binding string) string {
	var packed int
	if _, err := fmt.Sscanf(binding, "v0.%d.", &packed); err != nil {
		return "none"
	}
	return fmt.Sprintf("%d.%d.%d", packed/10000, packed/100%100, packed%100)
}
