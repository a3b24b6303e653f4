package udfworker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// engineVariable makes the test binary an engine that starts one worker of the
// given behaviour and waits to be killed.
const engineVariable = "ALINK_TEST_ENGINE"

// TestMain is also the supervisor, the worker and the engine: the tests start
// their own binary as each.
func TestMain(m *testing.M) {
	// Under the race detector a process sleeps for a second before it exits.
	must(os.Setenv("GORACE", "atexit_sleep_ms=0"))
	switch {
	case os.Getenv(handshake.MagicCookieKey) != "":
		must(ServeSupervisor())
		os.Exit(0)
	case len(os.Args) == 2 && os.Args[1] == "hoard":
		hoard()
	case len(os.Args) == 3 && os.Args[1] == "-I":
		fakeWorker(filepath.Base(filepath.Dir(os.Args[2])))
	case os.Getenv(engineVariable) != "":
		fakeEngine(os.Getenv(engineVariable))
	}
	os.Exit(m.Run())
}

// fakeWorker is a worker that says hello and then behaves as the name of its
// harness folder says.
func fakeWorker(behaviour string) {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	must(err)
	var launch struct {
		WorkerID string   `json:"worker_id"`
		Endpoint string   `json:"endpoint"`
		Token    string   `json:"token"`
		Paths    []string `json:"paths"`
	}
	must(json.Unmarshal(line, &launch))
	switch behaviour {
	case "noimport":
		fmt.Fprintln(os.Stderr, "Traceback (most recent call last):\nModuleNotFoundError: No module named 'grpc'")
		os.Exit(1)
	case "killed":
		must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	case "terminated":
		must(syscall.Kill(os.Getpid(), syscall.SIGTERM))
		select {}
	case "silent":
		select {}
	case "stubborn":
		signal.Ignore(syscall.SIGINT)
		hello(launch.Endpoint, launch.Token)
		select {}
	case "crash":
		for i := range 2000 {
			fmt.Printf("line %d\n", i)
		}
		fmt.Fprint(os.Stderr, "the last words")
		hello(launch.Endpoint, launch.Token)
		must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		select {}
	case "greedy":
		hello(launch.Endpoint, launch.Token)
		hoard()
	case "greedychild":
		// The memory is a child's of a child, in a session of its own.
		hello(launch.Endpoint, launch.Token)
		spawn("setsid "+os.Args[0]+" hoard & wait", true)
	case "greedyfiles":
		hello(launch.Endpoint, launch.Token)
		f, err := os.Create("/dev/shm/alink-udfworker-test")
		must(err)
		must(os.Remove(f.Name()))
		for range 1000 {
			_, err = f.Write(bytes.Repeat([]byte{1}, 1<<20))
			must(err)
		}
	case "exit":
		hello(launch.Endpoint, launch.Token)
		os.Exit(7)
	case "env":
		cwd, err := os.Getwd()
		must(err)
		// Descriptors that programs inherit by accident would be above 2.
		entries, err := os.ReadDir("/proc/self/fd")
		must(err)
		open := []string{"cwd=" + cwd}
		for _, e := range entries {
			if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
				open = append(open, "file "+target)
			}
		}
		hello(launch.Endpoint, launch.Token, append(os.Environ(), open...)...)
	case "fork":
		must(os.WriteFile("left behind", nil, 0o600))
		must(os.MkdirAll("closed/below", 0o700))
		must(os.Chmod("closed", 0))
		hello(launch.Endpoint, launch.Token, pids(spawn("sleep 1000", false), spawn("sleep 1000", true), spawn("trap '' HUP; setsid sleep 1000 & exit", true))...)
	default:
		hello(launch.Endpoint, launch.Token)
	}
	_, err = io.Copy(io.Discard, stdin) // until the end of standard input
	must(err)
	// os.Exit would sleep for a second under the race detector, as long as the
	// supervisor's patience is: GORACE does not get through to workers.
	syscall.Exit(0)
}

// hoard takes memory until somebody ends the process.
func hoard() {
	var kept [][]byte
	for range 10_000 {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		time.Sleep(time.Millisecond)
	}
	fmt.Fprintln(os.Stderr, "nobody has stopped", len(kept))
	os.Exit(9)
}

// spawn starts a shell that outlives its parent if nobody does anything.
func spawn(script string, ownSession bool) int {
	c := exec.Command("/bin/sh", "-c", script)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: ownSession}
	must(c.Start())
	return c.Process.Pid
}

func pids(list ...int) []string {
	words := make([]string, len(list))
	for i, pid := range list {
		words[i] = strconv.Itoa(pid)
	}
	return words
}

func hello(endpoint, token string, words ...string) {
	conn, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix:"))
	must(err)
	text, err := json.Marshal(append([]string{token}, words...))
	must(err)
	_, err = conn.Write(append(text, '\n'))
	must(err)
	_, _ = conn.Read(make([]byte, 1)) // the host hangs up when it has heard
}

func fakeEngine(behaviour string) {
	dir := os.Args[len(os.Args)-1]
	host := &testHost{dir: dir}
	p, err := NewPool(poolOptions(host, dir, behaviour))
	must(err)
	w, err := p.Acquire(context.Background(), Spec{Policy: sandbox.Policy{Mode: sandbox.Off}}) // it says the numbers of processes
	must(err)
	p.starting.Lock()
	fmt.Println(p.supervisor.command.Process.Pid, w.PID(), strings.Join(host.said(w.ID()), " "))
	p.starting.Unlock()
	select {}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

// testHost is the endpoints' side of the tests: a worker says one line of
// JSON.
type testHost struct {
	dir string

	mu    sync.Mutex
	words map[string][]string
	open  int
}

type testEndpoint struct {
	host     *testHost
	url      string
	listener net.Listener
	ready    chan struct{}
	once     sync.Once
}

func (h *testHost) Listen(id string) (Endpoint, error) {
	path := filepath.Join(h.dir, id+".sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	e := &testEndpoint{host: h, url: "unix:" + path, listener: listener, ready: make(chan struct{})}
	h.mu.Lock()
	h.open++
	h.mu.Unlock()
	go e.accept(id)
	return e, nil
}

func (e *testEndpoint) accept(id string) {
	conn, err := e.listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	var words []string
	if json.NewDecoder(conn).Decode(&words) != nil || len(words) == 0 || words[0] != e.Token() {
		return
	}
	e.host.mu.Lock()
	if e.host.words == nil {
		e.host.words = map[string][]string{}
	}
	e.host.words[id] = words[1:]
	e.host.mu.Unlock()
	close(e.ready)
}

func (e *testEndpoint) URL() string            { return e.url }
func (e *testEndpoint) Token() string          { return "secret" }
func (e *testEndpoint) Page() string           { return "" }
func (e *testEndpoint) Ready() <-chan struct{} { return e.ready }
func (e *testEndpoint) Close() {
	e.once.Do(func() {
		e.listener.Close()
		e.host.mu.Lock()
		e.host.open--
		e.host.mu.Unlock()
	})
}

func (h *testHost) said(id string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.words[id]
}

func (h *testHost) endpoints() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// testResolver gives the test binary as the interpreter of every environment.
type testResolver struct{}

func (testResolver) Resolve(_ context.Context, spec envmgr.Spec, _ func(string)) (*envmgr.Environment, error) {
	self, err := os.Executable()
	return &envmgr.Environment{ID: "test" + spec.Python, Interpreter: self, PythonVersion: "3.11.0"}, err
}

func poolOptions(host Host, dir, behaviour string) PoolOptions {
	self, err := os.Executable()
	must(err)
	return PoolOptions{
		Supervisor: SupervisorOptions{Command: []string{self}, RunDir: dir, Stderr: os.Stderr},
		Host:       host, Resolver: testResolver{}, Harness: filepath.Join(dir, behaviour),
	}
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s not yet: %s", limit, what)
		}
	}
}

// alive reports whether process pid exists and is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err)
	}
	text := string(stat)
	return !strings.HasPrefix(text[strings.LastIndexByte(text, ')')+1:], " Z")
}
