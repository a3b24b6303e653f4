package engine

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/grant"
)

// Policy is what the functions of plans may ask for. Whoever runs an engine for
// others sets it; what a function asks for beyond it is refused before anything
// runs, with the key that would allow it.
type Policy struct {
	// Sandbox is the least that workers are confined: "off" (or ""), "auto" or
	// "strict".
	Sandbox string
	// Network lets functions ask for the machine's network.
	Network bool
	// Read and Write are folders that functions may mount, with what lies in
	// them. What may be written may be read.
	Read, Write []string
	// Interpreters are folders of Pythons that functions may run in as they
	// are.
	Interpreters []string
	// Build lets environments be built from requirements.
	Build bool
	// SourceBuilds lets those ask for packages to be built from source too,
	// which runs their code.
	SourceBuilds bool
	// MemoryBytes, Workers and Timeout are the most that a function gets; 0 is no
	// bound. A function that says nothing gets what is less, this or the
	// default.
	MemoryBytes int64
	Workers     int
	Timeout     time.Duration
}

// Validate reports the first thing that cannot be meant.
func (p *Policy) Validate() error {
	switch {
	case p == nil:
		return nil
	case p.Sandbox != "" && !slices.Contains(plan.Sandboxes, p.Sandbox):
		return diag.New(diag.BadOption, "policy: sandbox must be off, auto or strict, not %q", p.Sandbox).
			WithHint("%s", diag.DidYouMean(p.Sandbox, "values", plan.Sandboxes))
	case p.MemoryBytes != 0 && p.MemoryBytes < plan.MemoryBytesMin:
		return diag.New(diag.BadOption, "policy: a worker's memory must be at least %d MiB", plan.MemoryBytesMin>>20)
	case p.Workers < 0 || p.Timeout < 0:
		return diag.New(diag.BadOption, "policy: workers and timeout cannot be negative")
	}
	for _, folder := range slices.Concat(p.Read, p.Write, p.Interpreters) {
		if !filepath.IsAbs(folder) {
			return diag.New(diag.BadOption, "policy: %q is not an absolute path", folder)
		}
	}
	return nil
}

// workersMax is how many workers the engine gives a function that names no
// number; n is its own choice.
func (p *Policy) workersMax(n int) int {
	if p == nil || p.Workers == 0 {
		return n
	}
	return min(n, p.Workers)
}

// rank orders sandboxes by how much they confine.
func rank(sandbox string) int { return slices.Index(plan.Sandboxes, cmp.Or(sandbox, "off")) }

// applyPolicy refuses what a plan may not ask for, and gives a plan whose
// functions get what they get where they say nothing.
func (e *Engine) applyPolicy(p *plan.Plan) (*plan.Plan, error) {
	allowedPlan := *p
	functions := maps.Clone(p.Functions)
	for id, f := range functions {
		allowed := *f
		problem := e.checkStrict(f)
		if problem == nil && e.options.Policy != nil {
			problem = e.options.Policy.apply(&allowed, e.options.Sandbox)
		}
		if problem == nil && e.options.Policy != nil {
			problem = e.options.Policy.checkEnvironment(f, p.Environments[f.Environment])
		}
		if problem != nil {
			problem.Function = f.Name
			return nil, problem.At("", f.Origin)
		}
		functions[id] = &allowed
	}
	allowedPlan.Functions = functions
	return &allowedPlan, nil
}

// checkStrict refuses a function that wants less than the engine was started
// with: who demands a sandbox does not mean some functions.
func (e *Engine) checkStrict(f *plan.Function) *diag.Diagnostic {
	if e.options.Sandbox != "strict" || f.Options.Sandbox == "" || f.Options.Sandbox == "strict" {
		return nil
	}
	return refused("%s asks for sandbox=%q, but the engine was started with sandbox strict", f.Name, f.Options.Sandbox).
		WithHint("leave sandbox= of %s out, or start the engine with sandbox auto", f.Name)
}

func refused(format string, args ...any) *diag.Diagnostic {
	return diag.New(diag.NotAllowed, format, args...)
}

// allow says which key of the policy would let something pass.
func allow(d *diag.Diagnostic, key string) *diag.Diagnostic {
	return d.WithHint("whoever runs the server can allow it in its policy file: %s", key)
}

// apply checks f's options and writes what it gets; engineSandbox is what holds
// for functions that say nothing.
func (p *Policy) apply(f *plan.Function, engineSandbox string) *diag.Diagnostic {
	o := &f.Options
	if asked := cmp.Or(o.Sandbox, engineSandbox, "auto"); rank(asked) < rank(p.Sandbox) {
		if o.Sandbox != "" {
			return allow(refused("%s asks for sandbox=%q; functions of this server run with %q at least", f.Name, o.Sandbox, p.Sandbox),
				fmt.Sprintf("sandbox = %q", o.Sandbox))
		}
		o.Sandbox = p.Sandbox
	}
	if o.Network && !p.Network {
		return allow(refused("%s asks for the network, which functions of this server do not get", f.Name), "network = true")
	}
	o.Mounts = slices.Clone(o.Mounts)
	for i, m := range o.Mounts {
		if problem := p.checkMount(f.Name, m); problem != nil {
			return problem
		}
		o.Mounts[i].Exact = !slices.Contains(p.Read, "/")
	}
	if p.MemoryBytes > 0 {
		if o.MemoryBytes > p.MemoryBytes {
			return allow(refused("%s asks for %d MiB of memory; a worker of this server may hold %d MiB", f.Name, o.MemoryBytes>>20, p.MemoryBytes>>20),
				fmt.Sprintf("memory = \"%dMiB\"", o.MemoryBytes>>20))
		}
		o.MemoryBytes = min(f.MemoryBytes(), p.MemoryBytes)
	}
	if p.Workers > 0 && o.Workers > p.Workers {
		return allow(refused("%s asks for %d workers; a function of this server gets %d at most", f.Name, o.Workers, p.Workers),
			fmt.Sprintf("workers = %d", o.Workers))
	}
	return p.capTime(f)
}

// capTime bounds the time that f may be without progress; for ever is more than
// any bound.
func (p *Policy) capTime(f *plan.Function) *diag.Diagnostic {
	if p.Timeout == 0 {
		return nil
	}
	if given := f.Options.TimeoutMS; given != nil && (*given == 0 || f.Timeout() > p.Timeout) {
		asked := "for ever"
		if *given > 0 {
			asked = f.Timeout().String()
		}
		return allow(refused("%s may go without progress %s; functions of this server get %s at most", f.Name, asked, p.Timeout), "timeout")
	}
	if got := f.Timeout(); got == 0 || got > p.Timeout {
		ms := p.Timeout.Milliseconds()
		f.Options.TimeoutMS = &ms
	}
	return nil
}

// checkMount compares a mount with the folders that are allowed. A path that
// leads through links is refused, here and again when it is mounted: a function
// that may write there could change where it leads.
func (p *Policy) checkMount(function string, m grant.Mount) *diag.Diagnostic {
	folders, key := slices.Concat(p.Read, p.Write), "read"
	if m.Write {
		folders, key = p.Write, "write"
	}
	if slices.Contains(p.Read, "/") && slices.Contains(folders, "/") {
		return nil // wherever it leads
	}
	if within(folders, m.Path) {
		target, err := destination(m.Path)
		if err == nil && target == m.Path {
			return nil
		}
		d := refused("%s mounts %s, which leads through a link", function, m.Path).
			WithHint("mount what it leads to")
		if err == nil {
			d.WithFact("it leads to %s", target)
		}
		return d
	}
	d := refused("%s mounts %s, which functions of this server may not %s", function, m.Path, key)
	if len(folders) > 0 {
		d.WithFact("they may %s in %s", key, strings.Join(folders, ", "))
	}
	return allow(d, fmt.Sprintf("%s = [%q]", key, m.Path))
}

// within reports whether a clean path is one of the folders or lies in one.
func within(folders []string, path string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		inside, err := filepath.Rel(folder, path)
		return err == nil && filepath.IsLocal(inside)
	})
}

// checkEnvironment checks what a function wants to run in.
func (p *Policy) checkEnvironment(f *plan.Function, e *plan.Environment) *diag.Diagnostic {
	if e == nil {
		return nil // the plan's validation says so
	}
	if e.Interpreter == "" && !p.Build {
		return allow(refused("%s wants an environment of its own, which this server does not build", f.Name), "build = true")
	}
	if e.SourceBuilds && !p.SourceBuilds {
		return allow(refused("%s wants packages that are built from source, which runs their code", f.Name), "source_builds = true")
	}
	// The engine runs an interpreter that is named, to ask it what it is.
	named := slices.DeleteFunc(append([]string{e.Interpreter, e.BaseInterpreter}, e.Paths...), func(path string) bool { return path == "" })
	for _, path := range named {
		if path != filepath.Clean(path) || !within(p.Interpreters, path) {
			folder := path
			if bin := filepath.Dir(path); filepath.Base(bin) == "bin" {
				folder = filepath.Dir(bin)
			}
			return allow(refused("%s wants to run with %s, which functions of this server may not", f.Name, path),
				fmt.Sprintf("interpreters = [%q]", folder))
		}
	}
	return nil
}
