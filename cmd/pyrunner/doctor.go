package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/udfworker/cgroup"
)

// finding is one line of what the machine offers.
type finding struct {
	Name string `json:"name"`
	// OK tells whether it is there and works.
	OK bool `json:"ok"`
	// Value is what was found, Reason why it is not (more), or what it is for.
	Value  string `json:"value"`
	Reason string `json:"reason,omitempty"`
}

// checkup is the answer of `pyrunner doctor`.
type checkup struct {
	// Isolation is the level at which workers are shut in here where their
	// functions do not say, and Reason why it is not higher.
	Isolation string    `json:"isolation"`
	Reason    string    `json:"reason,omitempty"`
	Machine   []finding `json:"machine"`
	Sandbox   []finding `json:"sandbox"`
	// MemoryControl is by what the limits of workers' memory are kept: the best
	// of Memory.
	MemoryControl string    `json:"memory_control"`
	Memory        []finding `json:"memory"`
	Python        []finding `json:"python"`
	Disk          []finding `json:"disk"`
}

func (c *cli) doctorCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "doctor", Short: "What this machine offers: sandbox layers, memory control, Pythons, uv, disk",
		Long: "Probes, by doing, what this machine offers to the engine, and says for each part\n" +
			"why there is not more. The layers of the sandbox are found by starting a process\n" +
			"in all of them; the first line says what workers get.",
		Args: cobra.NoArgs,
	}
	settingFlags(command, "cache_dir", "uv")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		s, err := settings(command)
		if err != nil {
			return err
		}
		options := engine.Options{CacheDir: s.Text("cache_dir"), UV: s.Text("uv")}
		report := examine(command.Context(), options)
		if *asJSON {
			return printJSON(c.stdout, report)
		}
		return report.print(c.stdout)
	}
	return command
}

func examine(ctx context.Context, options engine.Options) checkup {
	status, layers := engine.ProbeSandbox()
	report := checkup{Isolation: status.Level, Reason: status.Reason, MemoryControl: engine.ProbeMemoryControl().Kind, Memory: memoryFindings()}
	for _, l := range layers {
		f := finding{Name: l.Level.String() + " " + l.Name, OK: l.OK, Value: l.Value, Reason: l.Reason}
		if f.OK && f.Value == "" {
			f.Value = "works"
		}
		if l.Remedy != "" {
			f.Reason += "; hint: " + l.Remedy
		}
		report.Sandbox = append(report.Sandbox, f)
	}
	report.Machine = append([]finding{
		{Name: "platform", OK: runtime.GOOS == "linux", Value: runtime.GOOS + "/" + runtime.GOARCH, Reason: ifNot(runtime.GOOS == "linux", "Linux is what is tested")},
		{Name: "processors", OK: true, Value: fmt.Sprint(runtime.NumCPU()), Reason: "the default of parallelism"},
	}, machineFindings()...)
	report.Python, report.Disk = pythonFindings(ctx, options)
	return report
}

// memoryFindings tries each kind of memory control by starting a process in a
// group. The first one that works is used.
func memoryFindings() (list []finding) {
	for _, kind := range cgroup.Kinds {
		f := finding{Name: string(kind)}
		groups, refused := cgroup.Open(kind)
		if groups != nil {
			f.OK, f.Value = true, "groups in "+filepath.Dir(groups.Place())
			groups.Close()
		} else {
			f.Reason = refused[0].Why
		}
		list = append(list, f)
	}
	return append(list, watchFinding())
}

func ifNot(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}

// pythonFindings are interpreters, uv, and the cache of environments.
func pythonFindings(ctx context.Context, options engine.Options) (python, disk []finding) {
	disk = append(disk, shmFinding())
	s, err := engine.OpenEnvironments(options)
	if err != nil {
		return nil, append(disk, finding{Name: "cache", Value: options.CacheDir, Reason: sentence(err)})
	}
	libc := ""
	for _, p := range s.Pythons(ctx) {
		f := finding{Name: "Python " + p.Version, OK: p.Recent, Value: p.Path, Reason: ifNot(p.Recent, "too old: workers need 3.10 or later")}
		python = append(python, f)
		if fields := strings.Fields(p.Platform); libc == "" && len(fields) > 3 {
			libc = strings.Join(fields[2:], " ")
		}
	}
	if len(python) == 0 {
		python = append(python, finding{Name: "Python", Reason: "no interpreter was found on PATH or where uv and pyenv put them"})
	}
	path, version, err := s.Installer(ctx)
	python = append(python, finding{Name: "uv", OK: err == nil, Value: strings.TrimSpace(version + " " + path), Reason: ifNot(err == nil, sentence(err))})
	python = append(python, finding{Name: "C library", OK: libc != "", Value: libc, Reason: ifNot(libc != "", "the interpreters name none: wheels for glibc may not fit")})
	cache := freeSpace("cache", s.CacheDir())
	if list, err := s.List(); err == nil {
		cache.Value += fmt.Sprintf(", %s of %s", count(len(list), "environment"), bytesText(sizeOf(list)))
	}
	return python, append(disk, cache, freeSpace("temporary files", os.TempDir()))
}

// sentence is an error in one line.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	d := diag.From(err)
	return strings.Join(strings.Fields(d.Message+ifAny(": ", d.Cause)+ifAny("; hint: ", d.Hint)), " ")
}

func ifAny(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func (r checkup) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "sandbox of workers: %s%s\n", r.Isolation, ifAny("; not higher: ", r.Reason))
	for _, part := range []struct {
		title string
		list  []finding
	}{
		{"machine", r.Machine},
		{"layers of the sandbox", r.Sandbox},
		{"memory control of workers: " + r.MemoryControl, r.Memory},
		{"Python", r.Python},
		{"disk", r.Disk},
	} {
		fmt.Fprintf(w, "\n%s\n", part.title)
		for _, f := range part.list {
			mark := "yes"
			if !f.OK {
				mark = "no"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s%s\n", mark, f.Name, f.Value, reasonText(f))
		}
	}
	return w.Flush()
}

func reasonText(f finding) string {
	switch {
	case f.Reason == "":
		return ""
	case f.Value == "":
		return f.Reason
	}
	return " (" + f.Reason + ")"
}
