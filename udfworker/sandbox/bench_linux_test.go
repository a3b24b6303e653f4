//go:build amd64 || arm64

package sandbox

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// What the sandbox adds to the start of a process: compare L0 with L2.
func BenchmarkStart(b *testing.B) {
	programs := map[string][]string{"true": {"/bin/true"}}
	// A python3 on the path may be a version manager's script, which starts several
	// processes more; the variable names an interpreter.
	if python, err := exec.LookPath(cmp.Or(os.Getenv("ALINK_TEST_PYTHON"), "python3")); err == nil {
		if path, err := filepath.EvalSymlinks(python); err == nil {
			programs["python"] = []string{path, "-I", "-c", "pass"}
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for name, argv := range programs {
		for _, level := range []Level{L0, L1, L2} {
			if level > offered.Level {
				continue
			}
			spec := Spec{Level: level, Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Visible: InterpreterPaths(argv[0])}
			b.Run(name+"/"+level.String(), func(b *testing.B) {
				for b.Loop() {
					startAndWait(b, spec, null.Fd())
				}
			})
		}
	}
}

func startAndWait(b *testing.B, spec Spec, null uintptr) {
	b.Helper()
	var p *Process
	var err error
	done := make(chan struct{})
	launcher <- func() {
		defer close(done)
		if spec.Level > L0 {
			p, err = Start(spec, null, null, alone)
			return
		}
		p = &Process{}
		p.PID, err = syscall.ForkExec(spec.Argv[0], spec.Argv, &syscall.ProcAttr{Env: spec.Env, Dir: spec.Dir, Files: []uintptr{null, null, null}})
	}
	<-done
	if err != nil {
		b.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.PID, &status, 0, nil); err != nil || status != 0 {
		b.Fatalf("%#x, %v", status, err)
	}
	if p.End != nil { // what its namespaces take to end is no part of a start
		b.StopTimer()
		defer b.StartTimer()
		_ = p.End.Close() // a pipe's end
		if _, err := syscall.Wait4(p.Reaper, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
