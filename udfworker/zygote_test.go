package udfworker

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// What the workers of one sandbox share is no more than one of them might have
// by itself, but for bytes, which the group of who has written them counts.
func TestLimitsOfASharedSandbox(t *testing.T) {
	const memory = 256 << 20
	for _, c := range []struct{ memory, bytes int64 }{{memory, sharersMax * memory}, {0, scratchBytesMax / 2}} {
		params := launchParams{Interpreter: "/usr/bin/python3", Harness: "/harness", MemoryBytes: c.memory}
		command, err := params.zygoteCommand(sandbox.Scratch, nil, sandbox.L2)
		if err != nil {
			t.Fatal(err)
		}
		own, shared := params.confine(sandbox.L2, "", sandbox.Scratch, nil).Limits, command.Sandbox.Limits
		if own.Processes != processesMax || own.ScratchFiles != scratchFilesMax || own.ScratchBytes != params.scratchBytes() {
			t.Errorf("of one: %+v", own)
		}
		if shared.Processes != 0 || 2*shared.ScratchFiles != scratchFilesMax || shared.ScratchBytes != c.bytes || shared.FileBytes != own.FileBytes {
			t.Errorf("shared, with memory=%d: %+v", c.memory, shared)
		}
	}
}

// Where nothing but a user namespace limits processes, workers share none.
func TestWorkersAreForkedWhereProcessesAreCounted(t *testing.T) {
	params := launchParams{Kind: "kind"}
	s := &server{unfit: map[string]bool{}}
	if s.forks(params, localScheme+"/socket", sandbox.L1) {
		t.Error("without control groups")
	}
	s.groups = &cgroup.Control{}
	for level, want := range map[sandbox.Level]bool{sandbox.L0: true, sandbox.L1: true, sandbox.L2: false} {
		if got := s.forks(params, localScheme+"/socket", level); got != want {
			t.Errorf("%s: %t", level, got)
		}
	}
	groups, refused := cgroup.Open(cgroup.Kinds...)
	if groups == nil || !groups.CountsTasks() {
		t.Skip("no groups that limit processes: ", refused)
	}
	defer groups.Close()
	s.groups = groups
	if !s.forks(params, localScheme+"/socket", sandbox.L2) || s.forks(params, "unix:/socket", sandbox.L2) {
		t.Error("with groups that limit processes")
	}
}

// Beside their own folders workers of one zygote may write together what one
// may: none can be told from another there. What is in a folder counts for its
// worker alone.
func TestWhatIsWrittenBesideFolders(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	sleeper := exec.Command("sleep", "60")
	sleeper.SysProcAttr = processAttributes()
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	z := &zygote{scratch: dir, scratchBytes: mib, kind: "kind", dead: true, tenants: map[string]bool{"w1": true, "w2": true}}
	w := &supervised{id: "w1", zygote: z, child: &Child{PID: sleeper.Process.Pid}, scratch: filepath.Join(dir, "w1")}
	s := &server{workers: map[string]*supervised{"w1": w}, zygotes: map[string]*zygote{"kind": z}}
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 3*mib/4), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"w1/a", "w1/b", "w2/a", "beside"} {
		write(filepath.Join(dir, path))
	}
	s.lookBeside(z, z.tenants)
	if w.overScratch != "" || s.zygotes["kind"] == nil {
		t.Fatalf("it was ended: it wrote %s", w.overScratch)
	}
	write(filepath.Join(dir, "w3", "of nobody"))
	s.lookBeside(z, z.tenants)
	if !strings.Contains(w.overScratch, "1 MiB that it may, beside its own folder") || s.zygotes["kind"] != nil {
		t.Errorf("it wrote %q", w.overScratch)
	}
	_ = sleeper.Wait()
	if status := sleeper.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("%#x", status)
	}
}

// What is taken to fork workers is the zygote's to hold: one that has as many as
// it can have makes room for another.
func TestTenantsAreBounded(t *testing.T) {
	z := &zygote{kind: "kind", dead: true, tenants: map[string]bool{}}
	s := &server{closing: true, zygotes: map[string]*zygote{"kind": z}}
	for i := range tenantsMax {
		if got, err := s.zygoteFor(launchParams{Kind: "kind"}, sandbox.L0); got != z || err != nil {
			t.Fatalf("with %d workers: %v, %v", i, got, err)
		}
		z.tenants[strconv.Itoa(i)] = true
	}
	if _, err := s.zygoteFor(launchParams{Kind: "kind"}, sandbox.L0); !errors.Is(err, errEnding) || s.zygotes["kind"] != nil {
		t.Errorf("it is asked for more: %v", err)
	}
}
