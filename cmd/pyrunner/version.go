package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/server"
)

// version is the release that this is; it is also the wheel's.
const version = "0.1.0"

// commit is what tools/binary was built from; a build without it has Go's own
// stamp, if any.
var commit string

// versions are what `pyrunner version` tells.
type versions struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Protocol int    `json:"protocol"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Arrow    string `json:"arrow"`
	Beam     string `json:"beam"`
	DuckDB   string `json:"duckdb"`
}

func (c *cli) versionCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "version", Short: "Version, commit, protocol, and versions of Arrow, Beam and DuckDB", Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(command)
	command.RunE = func(*cobra.Command, []string) error {
		v := readVersions()
		if *asJSON {
			return printJSON(c.stdout, v)
		}
		return v.print(c.stdout)
	}
	return command
}

func readVersions() versions {
	v := versions{
		Version: version, Commit: "unknown", Protocol: server.Protocol,
		Go: strings.TrimPrefix(runtime.Version(), "go"), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	v.Commit += modified
	if commit != "" {
		v.Commit = commit
	}
	modules := map[string]string{}
	for _, m := range info.Deps {
		modules[m.Path] = m.Version
	}
	v.Arrow = modules["github.com/apache/arrow-go/v18"]
	v.Beam = modules["github.com/apache/beam/sdks/v2"]
	v.DuckDB = duckdbVersion(modules["github.com/duckdb/duckdb-go-bindings"])
	return v
}

func (v versions) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "pyrunner %s (commit %s)\nProtocol %d\nGo       %s %s\nArrow    %s\nBeam     %s\nDuckDB   %s\n",
		v.Version, v.Commit, v.Protocol, v.Go, v.Platform, v.Arrow, v.Beam, v.DuckDB)
	return err
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

func (c *cli) errorCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "error CODE", Short: "The long text of a diagnostic", Example: "  pyrunner error ALK2001",
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, e := range diag.Entries {
				codes = append(codes, string(e.Code)+"\t"+e.Summary)
			}
			return codes, cobra.ShellCompDirectiveNoFileComp
		},
	}
	asJSON := jsonFlag(command)
	command.RunE = func(_ *cobra.Command, args []string) error {
		entry, known := diag.Find(diag.Code(strings.ToUpper(args[0])))
		if !known {
			codes := make([]string, len(diag.Entries))
			for i, e := range diag.Entries {
				codes[i] = string(e.Code)
			}
			return usageError{badUsage("there is no code %s", args[0]).WithHint("%s", diag.DidYouMean(args[0], "codes", codes))}
		}
		if *asJSON {
			return printJSON(c.stdout, map[string]string{
				"code": string(entry.Code), "class": entry.Class, "summary": entry.Summary, "text": entry.Text,
			})
		}
		_, err := fmt.Fprintf(c.stdout, "%s (alink.%s): %s\n\n%s\n", entry.Code, entry.Class, entry.Summary, entry.Text)
		return err
	}
	return command
}

func (c *cli) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "A script that completes command lines in a shell",
		Example: "  source <(pyrunner completion bash)\n" +
			"  pyrunner completion zsh > \"${fpath[1]}/_pyrunner\"\n" +
			"  pyrunner completion fish > ~/.config/fish/completions/pyrunner.fish",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(command *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return command.Root().GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return command.Root().GenZshCompletion(c.stdout)
			}
			return command.Root().GenFishCompletion(c.stdout, true)
		},
	}
}
