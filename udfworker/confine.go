package udfworker

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Limits of every worker, whatever it is asked to do.
const (
	openFilesMax = 4096
	// processesMax counts threads too, of which numeric libraries start as many
	// as there are cores. It is the worker's group's limit, where it has one, and
	// in a user namespace its user's, which the kernel does not hold root to.
	processesMax = 1024
	// scratchBytesMax is what a worker's temporary files may take where it has
	// no limit of memory, of which they are a part at L2; scratchBytesMin is
	// what they always may.
	scratchBytesMax = 1 << 30
	scratchBytesMin = 64 << 20
	scratchFilesMax = 64 << 10
	// sharersMax is how many workers the bytes are meant for that workers of one
	// sandbox share.
	sharersMax = 8
)

// levelFor is the level that a policy gets on this machine.
func levelFor(policy sandbox.Policy, report sandbox.Report) (sandbox.Level, error) {
	switch {
	case policy.Mode == sandbox.Off:
		return sandbox.L0, nil
	case policy.Mode == sandbox.Strict && report.Level < sandbox.L2:
		return sandbox.L0, notStrict(report)
	}
	return report.Level, nil
}

// notStrict says which layer keeps a worker from being shut in as was asked.
func notStrict(report sandbox.Report) error {
	missing := report.Missing()
	d := diag.New(diag.NoSandbox, "sandbox=\"strict\" needs level L2, and this machine offers %s", report.Level).
		WithFact("missing: %s (%s)", missing.Name, missing.Reason)
	if missing.Remedy != "" {
		return d.WithHint("%s; or sandbox=\"auto\", which takes what there is. pyrunner doctor shows all layers", missing.Remedy)
	}
	return d.WithHint("sandbox=\"auto\" takes what there is; pyrunner doctor shows all layers")
}

// confine is what the worker is shut in with.
func (p launchParams) confine(level sandbox.Level, endpoint, scratch string, environ []string) sandbox.Spec {
	if level == sandbox.L0 {
		return sandbox.Spec{}
	}
	s := sandbox.Spec{
		Level: level, Network: p.Policy.Network, Mounts: p.Policy.Mounts,
		Visible: sandbox.InterpreterPaths(p.Interpreter),
		// What is missing of these, the worker finds missing itself.
		Optional: slices.Concat([]string{p.Harness}, libraryFolders(environ), p.Paths, p.Visible),
		Limits: sandbox.Limits{
			OpenFiles: openFilesMax, Processes: processesMax, ScratchFiles: scratchFilesMax, ScratchBytes: p.scratchBytes(),
		},
	}
	for _, url := range []string{endpoint, p.Logging, p.Provision} {
		path, ok := strings.CutPrefix(url, "unix:")
		if !ok {
			path, ok = strings.CutPrefix(url, localScheme)
		}
		if ok {
			s.Visible = append(s.Visible, strings.TrimPrefix(path, "//"))
		} else if url != "" { // a runner of Beam is reached over the network
			s.Network = true
		}
	}
	if p.Page != "" {
		s.Writable = append(s.Writable, p.Page)
	}
	if !p.writes() { // where it may write elsewhere, files may be of any size
		s.Limits.FileBytes = s.Limits.ScratchBytes
	}
	if level < sandbox.L2 {
		s.Writable = append(s.Writable, scratch)
	}
	return s
}

// share makes the limits of a worker those of a sandbox in which each worker has
// a folder of its own with them. What all share, /tmp beside these folders and
// /dev/shm, so has half of the files in each that a worker may have in a file
// system: with what is in its folder none has more than it had by itself. Bytes
// are each worker's own group's to count, where that has a limit; the room is
// then for several at once. Processes are counted by the groups.
func (p launchParams) share(limits *sandbox.Limits) {
	const sharedFolders = 2
	limits.ScratchFiles /= sharedFolders
	if p.MemoryBytes > 0 {
		limits.ScratchBytes *= sharersMax
	} else {
		limits.ScratchBytes /= sharedFolders
	}
	limits.Processes = 0
}

func (p launchParams) writes() bool {
	for _, m := range p.Policy.Mounts {
		if m.Write {
			return true
		}
	}
	return false
}

func (p launchParams) scratchBytes() int64 {
	if p.MemoryBytes == 0 {
		return scratchBytesMax
	}
	return max(p.MemoryBytes, scratchBytesMin)
}

// libraryFolders are those that an inherited variable leads a worker to.
func libraryFolders(environ []string) []string {
	var folders []string
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if name != "LD_LIBRARY_PATH" && name != "TZDIR" {
			continue
		}
		for _, folder := range filepath.SplitList(value) {
			if filepath.IsAbs(folder) && filepath.Clean(folder) != "/" {
				folders = append(folders, filepath.Clean(folder))
			}
		}
	}
	return folders
}

// notConfined makes a diagnostic of a layer that failed at a worker's start.
func notConfined(policy sandbox.Policy, err error) error {
	failed, ok := errors.AsType[*sandbox.Error](err)
	if !ok {
		return err
	}
	for _, m := range policy.Mounts {
		if m.Path == failed.Path {
			if failed.Missing {
				return diag.New(diag.NoSandbox, "a function was given the mount %s, which does not exist on the engine's machine", m.Path).
					WithHint("correct the path in the function's mounts=, or make it before the job")
			}
			return diag.New(diag.NoSandbox, "a function was given the mount %s, which cannot be shown to it", m.Path).
				WithCause(errors.New(failed.Text)).
				WithHint("the engine's user must be able to open it; leave it out of the function's mounts= otherwise")
		}
	}
	if failed.Layer == sandbox.LayerProgram {
		return fmt.Errorf("%s: %s", failed.Path, failed.Text)
	}
	d := diag.New(diag.NoSandbox, "a worker's sandbox could not be made: %s failed", failed.Layer).WithCause(errors.New(failed.Text))
	if failed.Path != "" {
		d = d.WithFact("path %s", failed.Path)
	}
	return d.WithHint("pyrunner doctor shows what this machine offers; sandbox=\"off\" does without")
}

// SandboxStatus says how far workers are shut in.
type SandboxStatus struct {
	// Level is sandbox.Level's name, or "".
	Level string `json:"level"`
	// Reason is why it is not higher, "" where it is the highest.
	Reason string `json:"reason,omitempty"`
}

// sandboxStatus puts together what the machine offers for processes and for
// memory: L3 is L2 with control groups of version 2.
func sandboxStatus(report sandbox.Report, control MemoryControl) SandboxStatus {
	status := SandboxStatus{Level: reached(report.Level, control.Kind == string(cgroup.V2)).String()}
	switch missing := report.Missing(); {
	case missing.Name != "":
		status.Reason = fmt.Sprintf("%s is missing: %s", missing.Name, missing.Reason)
	case report.Level == sandbox.L2 && status.Level != sandbox.L3.String():
		status.Reason = "limits of memory are kept by " + control.Kind + ", not by a control group of version 2"
	}
	return status
}

// reached is a level with what a control group of version 2 adds.
func reached(level sandbox.Level, group bool) sandbox.Level {
	if level == sandbox.L2 && group {
		return sandbox.L3
	}
	return level
}

// ProbeSandbox finds how far workers would be shut in on this machine, layer by
// layer.
func ProbeSandbox() (SandboxStatus, sandbox.Report) {
	report := sandbox.Probe()
	return sandboxStatus(report, ProbeMemoryControl()), report
}

// describe is one line on what this machine offers.
func describe(report sandbox.Report) string {
	missing := report.Missing()
	if missing.Name == "" {
		return "sandbox: workers start at level " + report.Level.String()
	}
	return fmt.Sprintf("sandbox: workers start at level %s; %s is missing (%s)", report.Level, missing.Name, missing.Reason)
}
