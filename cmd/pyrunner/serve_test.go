package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/go-tests/fixture"
	"github.com/alink-runtime/alink/server"
)

// started is a server's process.
type started struct {
	serving
	process *exec.Cmd
	stderr  *strings.Builder
	ended   chan error
}

// startServer runs `pyrunner serve --json` and reads the line that it prints.
// A server that a test has not ended is killed.
func startServer(t *testing.T, home string, args ...string) *started {
	t.Helper()
	command := exec.Command(os.Args[0], append([]string{"serve", "--json", "--cache-dir", t.TempDir()}, args...)...)
	command.Env = append(os.Environ(), "PYRUNNER_TEST_MAIN=1", "HOME="+home, "XDG_STATE_HOME=", "XDG_RUNTIME_DIR="+home, "ALINK_PYRUNNER=/bin/false")
	s := &started{process: command, stderr: &strings.Builder{}, ended: make(chan error, 1)}
	command.Stderr = s.stderr
	// A test of the embedded engine makes this process ignore it, which children
	// inherit and a server respects, as under nohup.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	go func() { s.ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-s.ended
	})
	if err != nil || json.Unmarshal(line, &s.serving) != nil {
		_ = command.Process.Kill()
		err := <-s.ended
		s.ended <- nil
		t.Fatalf("serve printed %q and ended (%v):\n%s", line, err, s.stderr)
	}
	return s
}

// signal ends a server and gives its exit status.
func (s *started) signal(t *testing.T, signals ...syscall.Signal) int {
	t.Helper()
	for i, sig := range signals {
		if i > 0 {
			time.Sleep(300 * time.Millisecond) // until the first has been taken
		}
		if err := s.process.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-s.ended:
		s.ended <- nil
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		return 0
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end:\n%s", s.stderr)
		return -1
	}
}

// TestServeOnASocket: without options, on the socket of the user, where `jobs`
// finds it; nothing is left at the end.
func TestServeOnASocket(t *testing.T) {
	home := fixture.ShortDir(t)
	s := startServer(t, home)
	socket := filepath.Join(home, "alink", "server.sock")
	if s.Address != "grpc+unix://"+socket || s.TokenFile != "" || s.HTTP != "" || s.PID != s.process.Process.Pid {
		t.Errorf("it says %+v", s.serving)
	}
	t.Setenv("XDG_RUNTIME_DIR", home)
	if code, stdout, stderr := run1(t, "jobs", "ls"); code != exitDone || !strings.HasPrefix(stdout, "JOB  NAME  STATE") {
		t.Errorf("jobs ls: %d\n%s\n%s", code, stdout, stderr)
	}
	if code, _, stderr := run1(t, "serve"); code != exitFailed || !strings.Contains(stderr, "a server is running at unix:"+socket) {
		t.Errorf("a second server: %d\n%s", code, stderr)
	}
	if status := s.signal(t, syscall.SIGTERM); status != exitDone || !strings.Contains(s.stderr.String(), "draining; jobs that run have 30s") {
		t.Errorf("it ended with %d:\n%s", status, s.stderr)
	}
	if _, err := os.Lstat(filepath.Dir(socket)); !os.IsNotExist(err) {
		t.Errorf("the socket's folder is left: %v", err)
	}
	if code, _, stderr := run1(t, "jobs", "ls"); code != exitFailed || !strings.Contains(stderr, "ALK5037: no server answers at grpc+unix://"+socket) {
		t.Errorf("jobs without a server: %d\n%s", code, stderr)
	}
}

// TestServeOnAPort: port 0 is a real one, the token is made, private, and the
// same at the next start.
func TestServeOnAPort(t *testing.T) {
	home := fixture.ShortDir(t)
	s := startServer(t, home, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	want := filepath.Join(home, ".local", "state", "alink", "server-token")
	info, err := os.Stat(want)
	if s.TokenFile != want || err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token lies in %s (%v), %v", s.TokenFile, info, err)
	}
	secret, err := server.ReadToken(want)
	if err != nil || len(secret) != 64 {
		t.Fatal(len(secret), err)
	}
	response, err := http.Get(s.HTTP + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	if err := response.Body.Close(); err != nil || string(body) != "ready\n" {
		t.Errorf("readyz: %q, %v", body, err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--token-file", want}, exitDone, "JOB"},
		{nil, exitFailed, "ALK5032: the server refuses the connection: no token was given"},
		{[]string{"--token-file", "/nowhere"}, exitFailed, "the token file /nowhere cannot be read"},
	} {
		code, stdout, stderr := run1(t, append([]string{"jobs", "ls", "--server", s.Address}, c.args...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("jobs ls %v: %d\n%s\n%s", c.args, code, stdout, stderr)
		}
	}
	t.Setenv("ALINK_TOKEN", secret)
	if code, stdout, stderr := run1(t, "jobs", "ls", "--server", s.Address, "--json"); code != exitDone || stdout != "[]\n" {
		t.Errorf("jobs ls --json: %d\n%s\n%s", code, stdout, stderr)
	}
	if code, _, stderr := run1(t, "jobs", "show", "j1", "--server", s.Address); code != exitFailed || !strings.Contains(stderr, `ALK5033: there is no job "j1"`) || !strings.Contains(stderr, "there are no jobs") {
		t.Errorf("jobs show: %d\n%s", code, stderr)
	}
	if status := s.signal(t, syscall.SIGINT); status != exitDone {
		t.Errorf("it ended with %d:\n%s", status, s.stderr)
	}
	again := startServer(t, home, "--listen", "127.0.0.1:0")
	if kept, err := server.ReadToken(again.TokenFile); kept != secret || err != nil {
		t.Errorf("another token at the second start: %v", err)
	}
	if status := again.signal(t, syscall.SIGHUP); status != exitDone {
		t.Errorf("when its terminal goes it ended with %d:\n%s", status, again.stderr)
	}
}

func TestServeRefuses(t *testing.T) {
	dir := t.TempDir()
	for args, says := range map[string]string{
		"--listen 0.0.0.0:0":                                         "ALK5036: the server does not listen on 0.0.0.0:0, which other machines may reach, without TLS (--tls-cert and --tls-key) and a token (--token-file)",
		"--listen 127.0.0.1:0 --http 0.0.0.0:0":                      "ALK5036: the server does not listen on 0.0.0.0:0",
		"--listen nowhere":                                           "ALK5036",
		"--listen 127.0.0.1:0 --tls-cert none.pem":                   "needs a certificate and its private key",
		"--listen 127.0.0.1:0 --token-file none":                     "ALK5030: the token file",
		"--listen 127.0.0.1:0 --files " + filepath.Join(dir, "none"): "plans cannot be given the folder",
		"--sandbox stict":                                            `--sandbox must be auto, strict or off, not "stict"`,
		"--sessions 0":                                               "--sessions must be at least 1",
		"--upload-limit much":                                        "it must be a number of bytes",
		"--grace soon":                                               "--grace must be a number of seconds",
		"--listen unix:/x/y/z":                                       "ALK5036",
	} {
		t.Setenv("HOME", dir)
		t.Setenv("XDG_STATE_HOME", "")
		if os.Getuid() == 0 && strings.Contains(args, "/x/y/z") {
			continue // who may do everything makes the folder
		}
		code, stdout, stderr := run1(t, append([]string{"serve"}, strings.Fields(args)...)...)
		if code == exitDone || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("serve %s: %d\n%s\n%s", args, code, stdout, stderr)
		}
	}
}

// TestTheWholeErrorIsShown, and nothing in it moves the terminal's cursor.
func TestTheWholeErrorIsShown(t *testing.T) {
	short := diag.New(diag.FunctionRaised, "f raised ValueError: \x1b[2J no")
	if got := fullText(short); got != `ALK2001: f raised ValueError: \x1b[2J no` {
		t.Errorf("%q", got)
	}
	long := diag.New(diag.QueryFailed, "it failed").WithHint("mend it")
	long.Cause = "one\ntwo\nthree\nfour\nfive\x07\n"
	got := fullText(long)
	if !strings.HasPrefix(got, "ALK1007: it failed\n  because: one\n") || !strings.HasSuffix(got, "hint: mend it\n\nthe whole cause:\none\ntwo\nthree\nfour\nfive ") {
		t.Errorf("%q", got)
	}
	long.Cause = "one\ntwo"
	if got := fullText(long); strings.Contains(got, "whole cause") {
		t.Errorf("%q", got)
	}
}
