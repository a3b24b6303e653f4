package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/engine"
)

func TestPolicyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.toml")
	for text, want := range map[string]engine.Policy{
		"": {Sandbox: "strict"},
		`[functions]
sandbox = "auto"
network = true
read = ["/srv/data"]
write = ["/srv/scratch"]
memory = "2GiB"
workers = 4
timeout = "10m"
[environments]
build = true
interpreters = ["/opt"]
`: {
			Sandbox: "auto", Network: true, Read: []string{"/srv/data"}, Write: []string{"/srv/scratch"},
			MemoryBytes: 2 << 30, Workers: 4, Timeout: 10 * time.Minute, Build: true, Interpreters: []string{"/opt"},
		},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPolicy(path); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s\n%+v, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{
		"[functions]\nnetworks = true":               "policy.toml has no key functions.networks|did you mean functions.network|networks = true",
		"network = true":                             "has no key network|network",
		"[functions]\nnetwork = \"yes\"":             "is not valid|network = \"yes\"",
		"[functions":                                 "is not valid",
		"[functions]\nmemory = \"much\"":             "memory is no size",
		"[functions]\ntimeout = \"soon\"":            "timeout is no time",
		"[functions]\nsandbox = \"stict\"":           "policy.toml: sandbox must be off, auto or strict|strict",
		"[functions]\nread = [\"data\"]":             `"data" is not an absolute path`,
		"[functions]\nmemory = \"1MiB\"":             "must be at least 64 MiB",
		"x = " + strings.Repeat(" ", policyBytesMax): "too large",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := run1(t, "serve", "--policy", path, "--listen", "unix:"+filepath.Join(t.TempDir(), "own", "s"))
		for _, part := range strings.Split(says, "|") {
			if code == exitDone || stdout != "" || !strings.Contains(stderr, part) {
				t.Errorf("%.80q: %d\n%s", text, code, stderr)
			}
		}
	}
	if _, err := readPolicy(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a policy that is not there")
	}
}

func TestPolicyWithoutAFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if p, err := servedPolicy(serveFlags{}, true, false); err != nil || p.Sandbox != "off" || !p.Network || !reflect.DeepEqual(p.Write, []string{"/"}) {
		t.Errorf("whoever is alone asks for what he likes: %+v, %v", p, err)
	}
	p, err := servedPolicy(serveFlags{files: []string{link}, functionMemory: 100 << 20}, false, true)
	if err != nil || p.Sandbox != "auto" || p.Network || !p.Build || !p.SourceBuilds || !reflect.DeepEqual(p.Write, []string{dir}) || p.Interpreters != nil || p.MemoryBytes != 100<<20 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := servedPolicy(serveFlags{files: []string{filepath.Join(dir, "none")}}, false, false); err == nil {
		t.Error("a folder that is not there")
	}
}
