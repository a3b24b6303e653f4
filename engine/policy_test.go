package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/grant"
)

func TestPolicy(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	ms := func(n int64) *int64 { return &n }
	built, named := &plan.Environment{Requirements: []string{"numpy"}}, &plan.Environment{Interpreter: "/opt/p/bin/python"}
	strict := Policy{Sandbox: "strict"}
	wide := Policy{
		Network: true, Read: []string{"/data"}, Write: []string{dir}, Interpreters: []string{"/opt"}, Build: true,
		MemoryBytes: 100 << 20, Workers: 2, Timeout: time.Minute,
	}
	tests := []struct {
		name        string
		policy      Policy
		asked       plan.FunctionOptions
		environment *plan.Environment
		engine      string
		refusal     string
		hint        string
	}{
		{"less of a sandbox", strict, plan.FunctionOptions{Sandbox: "auto"}, named, "", `f asks for sandbox="auto"; functions of this server run with "strict"`, `sandbox = "auto"`},
		{"none of a sandbox", Policy{Sandbox: "auto"}, plan.FunctionOptions{Sandbox: "off"}, named, "", `f asks for sandbox="off"`, `sandbox = "off"`},
		{"the network", strict, plan.FunctionOptions{Network: true}, named, "", "f asks for the network", "network = true"},
		{"a mount", strict, plan.FunctionOptions{Mounts: []grant.Mount{{Path: "/data/x"}}}, named, "", "f mounts /data/x, which functions of this server may not read", `read = ["/data/x"]`},
		{"writing where it may read", wide, plan.FunctionOptions{Mounts: []grant.Mount{{Path: "/data/x", Write: true}}}, named, "", "may not write", `write = ["/data/x"]`},
		{"a neighbour of what it may read", wide, plan.FunctionOptions{Mounts: []grant.Mount{{Path: "/database"}}}, named, "", "may not read", ""},
		{"a link", wide, plan.FunctionOptions{Mounts: []grant.Mount{{Path: link}}}, named, "", "leads through a link", "what it leads to"},
		{"what lies behind a link", wide, plan.FunctionOptions{Mounts: []grant.Mount{{Path: filepath.Join(link, "passwd")}}}, named, "", "leads through a link", ""},
		{"a mount within", wide, plan.FunctionOptions{Mounts: []grant.Mount{{Path: dir, Write: true}, {Path: filepath.Join(dir, "new")}}}, named, "", "", ""},
		{"memory", wide, plan.FunctionOptions{MemoryBytes: 200 << 20}, named, "", "asks for 200 MiB of memory; a worker of this server may hold 100 MiB", `memory = "200MiB"`},
		{"workers", wide, plan.FunctionOptions{Workers: 3}, named, "", "asks for 3 workers", "workers = 3"},
		{"time", wide, plan.FunctionOptions{TimeoutMS: ms(61_000)}, named, "", "may go without progress 1m1s", "timeout"},
		{"for ever", wide, plan.FunctionOptions{TimeoutMS: ms(0)}, named, "", "may go without progress for ever", "timeout"},
		{"an environment", strict, plan.FunctionOptions{}, built, "", "an environment of its own", "build = true"},
		{"an interpreter", Policy{}, plan.FunctionOptions{}, named, "", "wants to run with /opt/p/bin/python", `interpreters = ["/opt/p"]`},
		{"an environment's folder", Policy{}, plan.FunctionOptions{}, &plan.Environment{Interpreter: "/opt/p"}, "", "wants to run with /opt/p", `interpreters = ["/opt/p"]`},
		{"an interpreter to build on", wide, plan.FunctionOptions{}, &plan.Environment{BaseInterpreter: "/tmp/python"}, "", "wants to run with /tmp/python", ""},
		{"source builds", wide, plan.FunctionOptions{}, &plan.Environment{SourceBuilds: true}, "", "built from source", "source_builds = true"},
		{"an interpreter's folders", wide, plan.FunctionOptions{}, &plan.Environment{Interpreter: "/opt/p/bin/python", Paths: []string{"/elsewhere/x"}}, "", "wants to run with /elsewhere/x", ""},
		{"a path out of what is allowed", wide, plan.FunctionOptions{}, &plan.Environment{Interpreter: "/opt/../bin/sh"}, "", "wants to run with", ""},
		{"all that is allowed", wide, plan.FunctionOptions{Sandbox: "off", Network: true, Mounts: []grant.Mount{{Path: "/data"}}, MemoryBytes: 64 << 20, Workers: 2, TimeoutMS: ms(60_000)}, built, "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.policy.Interpreters = append(test.policy.Interpreters, "/nowhere")
			if test.refusal == "" || test.environment == named && !strings.Contains(test.refusal, "/opt/p") {
				test.policy.Interpreters = append(test.policy.Interpreters, "/opt")
			}
			e := &Engine{options: Options{Policy: &test.policy, Sandbox: test.engine}}
			asked := &plan.Plan{
				Functions:    map[string]*plan.Function{"f1": {Name: "f", Environment: "e", Options: test.asked}},
				Environments: map[string]*plan.Environment{"e": test.environment},
			}
			_, err := e.applyPolicy(asked)
			if test.refusal == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			d, ok := errors.AsType[*diag.Diagnostic](err)
			if !ok || d.Code != diag.NotAllowed || d.Function != "f" {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(d.Message, test.refusal) || !strings.Contains(d.Hint, test.hint) {
				t.Errorf("%s\nhint: %s", d.Message, d.Hint)
			}
		})
	}
}

// Functions that ask for nothing get what is allowed, and the caller's plan
// stays as it is.
func TestPolicyOfThoseThatAskForNothing(t *testing.T) {
	policy := &Policy{Sandbox: "strict", Build: true, MemoryBytes: 100 << 20, Workers: 2, Timeout: time.Second}
	asked := &plan.Plan{
		Functions: map[string]*plan.Function{
			"f": {Name: "f", Environment: "e"}, "m": {Name: "m", Kind: plan.FitFunction, Environment: "e"},
		},
		Environments: map[string]*plan.Environment{"e": {}},
	}
	got, err := (&Engine{options: Options{Policy: policy}}).applyPolicy(asked)
	if err != nil {
		t.Fatal(err)
	}
	for id, f := range got.Functions {
		if o := f.Options; o.Sandbox != "strict" || o.MemoryBytes != 100<<20 || f.Timeout() != time.Second {
			t.Errorf("%s: %+v", id, o)
		}
		if before := asked.Functions[id].Options; before.Sandbox != "" || before.MemoryBytes != 0 || before.TimeoutMS != nil {
			t.Errorf("the plan was changed: %+v", before)
		}
	}
	if policy.workersMax(8) != 2 || policy.workersMax(1) != 1 || (*Policy)(nil).workersMax(8) != 8 {
		t.Error("workers")
	}
	for _, bad := range []Policy{{Sandbox: "stict"}, {Read: []string{"data"}}, {Interpreters: []string{"x"}}, {MemoryBytes: 1}, {Workers: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v", bad)
		}
	}
}
