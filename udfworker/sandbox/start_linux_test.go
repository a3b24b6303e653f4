//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/grant"
	"golang.org/x/sys/unix"
)

// launcher is a thread that lives as long as the tests.
var launcher = make(chan func())

func TestMain(m *testing.M) {
	go func() {
		runtime.LockOSThread()
		for f := range launcher {
			f()
		}
	}()
	offered = Probe()
	os.Exit(m.Run())
}

// begin starts a program, which is killed with the test.
func begin(t *testing.T, spec Spec) (p *Process, output *os.File, err error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	done := make(chan struct{})
	launcher <- func() {
		defer close(done)
		p, err = Start(spec, null.Fd(), w.Fd(), alone)
	}
	<-done
	w.Close()
	t.Cleanup(func() { r.Close() })
	return p, r, err
}

// end waits for a program, and ends what is left of its namespace.
func end(t *testing.T, p *Process) (status syscall.WaitStatus) {
	t.Helper()
	if _, err := syscall.Wait4(p.PID, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	if p.End != nil {
		p.End.Close()
		if _, err := syscall.Wait4(p.Reaper, nil, 0, nil); err != nil {
			t.Error(err)
		}
	}
	return status
}

// run runs a program to its end.
func run(t *testing.T, spec Spec) (output string, status syscall.WaitStatus) {
	t.Helper()
	p, r, err := begin(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	status = end(t, p)
	text, _ := io.ReadAll(r)
	return strings.TrimSpace(string(text)), status
}

// shell runs a script at a level.
func shell(t *testing.T, level Level, script string) Spec {
	t.Helper()
	needs(t, level)
	s := Spec{Level: level, Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: Scratch}
	if level < L2 {
		s.Dir = t.TempDir()
		s.Writable = []string{s.Dir}
	}
	return s
}

// offered is what this machine offers.
var offered Report

func needs(t *testing.T, level Level) {
	t.Helper()
	if offered.Level < level {
		t.Skipf("this machine offers %s: %+v", offered.Level, offered.Missing())
	}
}

func levels(t *testing.T, test func(t *testing.T, level Level)) {
	t.Helper()
	for _, level := range []Level{L1, L2} {
		t.Run(level.String(), func(t *testing.T) { test(t, level) })
	}
}

// The supervisor sees how the program itself ended, by its own wait status.
func TestStatusIsTheProgramsOwn(t *testing.T) {
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		if _, status := run(t, shell(t, level, "exit 7")); !status.Exited() || status.ExitStatus() != 7 {
			t.Errorf("exit 7: %#x", status)
		}
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGABRT} {
			if _, status := run(t, shell(t, level, fmt.Sprintf("kill -%d $$; sleep 5", signal))); !status.Signaled() || status.Signal() != signal {
				t.Errorf("%v: %#x", signal, status)
			}
		}
		p, output, err := begin(t, shell(t, level, "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.01; done"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = output.Read(make([]byte, 6))
		if err := syscall.Kill(p.PID, syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if status := end(t, p); status.ExitStatus() != 3 {
			t.Errorf("a signal from the supervisor: %#x", status)
		}
	})
}

func TestWhatCannotBeSeenOrWritten(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret"), 0o644); err != nil {
		t.Fatal(err)
	}
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		for _, script := range []string{
			"cat " + secret, "cat /etc/shadow", "ls /root", "echo x > /usr/x", "echo x > /etc/passwd", "mount -t tmpfs x /tmp",
			"touch /x", "chroot / true", "unshare -U true", "echo x > /proc/sys/kernel/core_pattern",
			"cat < /proc/" + fmt.Sprint(os.Getpid()) + "/environ", "kill -0 " + fmt.Sprint(os.Getpid()),
		} {
			if out, status := run(t, shell(t, level, script)); status.ExitStatus() == 0 {
				t.Errorf("%s: worked\n%s", script, out)
			}
		}
		for _, script := range []string{"echo x > f && cat f", "cat /etc/passwd /dev/null", "head -c 1 /dev/urandom", "echo x > /dev/null", "( sleep 0 & wait )"} {
			if out, status := run(t, shell(t, level, script)); status.ExitStatus() != 0 && !(level == L1 && strings.Contains(script, "passwd")) {
				t.Errorf("%s: %#x\n%s", script, status, out)
			}
		}
	})
}

// A folder is shown at its own path, though those above are hidden, and is
// written only where that is granted; what is written belongs to the engine's
// user.
func TestMounts(t *testing.T) {
	top := t.TempDir()
	for _, name := range []string{"hidden/shown", "hidden/open", "hidden/other"} {
		if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name, "f"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		try := func(script string) bool {
			spec := shell(t, level, "cd "+filepath.Join(top, "hidden")+" && "+script)
			spec.Mounts = []grant.Mount{{Path: filepath.Join(top, "hidden/open"), Write: true}, {Path: filepath.Join(top, "hidden/shown")}}
			out, status := run(t, spec)
			t.Log(script, status.ExitStatus(), out)
			return status.ExitStatus() == 0
		}
		if !try("cat shown/f open/f") || !try("echo more > open/new && mv open/new open/newer") {
			t.Error("what was granted does not work")
		}
		if try("echo x > shown/g") || try("cat other/f") || try("rm shown/f") {
			t.Error("more works than was granted")
		}
		info, err := os.Stat(filepath.Join(top, "hidden/open/newer"))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
			t.Errorf("it belongs to user %d", uid)
		}
	})
	spec := shell(t, L2, "true")
	spec.Mounts = []grant.Mount{{Path: filepath.Join(top, "none")}}
	_, _, err := begin(t, spec)
	if failed, ok := errors.AsType[*Error](err); !ok || !failed.Missing || failed.Path != spec.Mounts[0].Path {
		t.Errorf("a mount that is not there: %v", err)
	}
}

// No signal from the namespace ends its process 1, and no process outlives it,
// whatever group and session it is in.
// An exact mount is where its path says, whoever has put a link there since.
func TestExactMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	for _, level := range []Level{L1, L2} {
		for _, path := range []string{link, filepath.Join(link, "passwd")} {
			s := shell(t, level, "cat /etc/shadow "+path)
			s.Mounts = []grant.Mount{{Path: path, Exact: true}}
			_, _, err := begin(t, s)
			failed, ok := errors.AsType[*Error](err)
			if !ok || failed.Path != path || !strings.Contains(failed.Text, "leads through a link") {
				t.Errorf("%s, %s: %v", level, path, err)
			}
		}
		s := shell(t, level, "ls "+dir)
		s.Mounts = []grant.Mount{{Path: dir, Exact: true}}
		if out, _ := run(t, s); out != "link" {
			t.Errorf("%s: %s", level, out)
		}
	}
}

func TestNothingLeavesTheNamespace(t *testing.T) {
	script := "for s in 1 2 3 6 9 11 15 20; do kill -$s 1 2> /dev/null; done; (setsid sleep 1000 &) ; (setsid sh -c 'trap \"\" HUP TERM; sleep 1000 & sleep 1000' &); sleep 0.05; ls -d /proc/[0-9]* | wc -l; echo; exec sleep 1000"
	p, output, err := begin(t, shell(t, L2, script))
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 16)
	n, _ := output.Read(buffer)
	if count := strings.TrimSpace(string(buffer[:n])); count < "4" {
		t.Errorf("%s processes in the namespace", count)
	}
	if err := syscall.Kill(p.Reaper, 0); err != nil {
		t.Errorf("process 1: %v", err)
	}
	p.End.Close()
	done := make(chan syscall.WaitStatus)
	go func() { done <- end(t, &Process{PID: p.PID}) }()
	select {
	case status := <-done:
		if !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Errorf("the program: %#x", status)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the program outlives its namespace")
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.Reaper, &status, 0, nil); err != nil || status != 0 {
		t.Errorf("process 1: %#x, %v", status, err)
	}
	// Nobody has the pipe any more but who is dead: its end comes at once.
	_ = output.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, output); err != nil {
		t.Errorf("something is left that holds the output: %v", err)
	}
}

func TestReaperIsAProgram(t *testing.T) {
	for a, machine := range map[arch]elf.Machine{amd64: elf.EM_X86_64, arm64: elf.EM_AARCH64} {
		file, err := elf.NewFile(bytes.NewReader(reaper(a)))
		if err != nil {
			t.Fatal(err)
		}
		if file.Machine != machine || file.Type != elf.ET_EXEC || len(file.Progs) != 1 || file.Progs[0].Flags != elf.PF_R|elf.PF_X ||
			file.Entry != file.Progs[0].Vaddr+uint64(len(reaper(a))-len(reaperCode[a])) {
			t.Errorf("%+v", file.FileHeader)
		}
	}
}

// A program that inherits an ignored SIGCHLD cannot wait for its children.
func TestChildrenCanBeWaitedFor(t *testing.T) {
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		spec := shell(t, level, "")
		spec.Argv = []string{"/bin/cat", "/proc/self/status"} // a shell would catch the signal
		out, _ := run(t, spec)
		_, mask, _ := strings.Cut(out, "SigIgn:")
		mask, _, _ = strings.Cut(strings.TrimSpace(mask), "\n")
		ignored, err := strconv.ParseUint(mask, 16, 64)
		if err != nil || ignored&(1<<(unix.SIGCHLD-1)) != 0 {
			t.Errorf("ignored signals: %s", out)
		}
	})
}

// Processes that have lost their parent leave no number behind when they end.
func TestOrphansAreReaped(t *testing.T) {
	out, _ := run(t, shell(t, L2, "(true &); sleep 0.1; cat /proc/[0-9]*/status | grep -c '^State:.Z'"))
	if out != "0" {
		t.Errorf("%s of them are left", out)
	}
}

// What holds for a worker, read from the kernel.
func TestState(t *testing.T) {
	levels(t, func(t *testing.T, level Level) { //nolint:thelper // it is the test
		spec := shell(t, level, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -c; ulimit -n; ls /proc/self/fd | wc -l; cat /proc/self/oom_score_adj")
		spec.Limits.OpenFiles = 123
		spec.Argv[0] = "/bin/sh"
		if level == L1 { // its children have no /proc there
			spec.Argv[2] = "read x < /proc/$$/oom_score_adj; echo $x; while read a b; do case $a in Cap*|NoNew*|Seccomp:) echo $a $b;; esac; done < /proc/$$/status; ulimit -c; ulimit -n"
		}
		out, _ := run(t, spec)
		flat := strings.Join(strings.Fields(out), " ")
		for _, want := range []string{"CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", " 0 123", "500"} {
			if want == "CapBnd: 0000000000000000" && level == L1 && unix.Geteuid() != 0 {
				continue // no_new_privs does the same
			}
			if !strings.Contains(flat, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
	})
}

// An interpreter may be named by a path through a link of the system.
func TestProgramBehindALink(t *testing.T) {
	if _, err := os.Readlink("/bin"); err != nil {
		t.Skip("/bin is no link here")
	}
	spec := shell(t, L2, "true")
	spec.Visible = []string{"/bin/sh"}
	if out, status := run(t, spec); status != 0 {
		t.Errorf("%#x\n%s", status, out)
	}
}
