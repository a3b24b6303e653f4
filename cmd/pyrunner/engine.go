package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/server"
)

// embedded are the options that a client writes on its engine's standard
// input, as one line of JSON.
type embedded struct {
	RunDir            string `json:"run_dir"`
	Token             string `json:"token"`
	ClientPIDFD       int    `json:"client_pidfd"`
	CacheDir          string `json:"cache_dir"`
	UV                string `json:"uv"`
	MemoryLimitBytes  int64  `json:"memory_limit_bytes"`
	WorkerMemoryBytes int64  `json:"worker_memory_bytes"`
	Parallelism       int    `json:"parallelism"`
	SpillDir          string `json:"spill_dir"`
	Offline           bool   `json:"offline"`
	SourceBuilds      bool   `json:"source_builds"`
	Sandbox           string `json:"sandbox"`
	Lane              string `json:"lane"`
	Launcher          string `json:"launcher"`
	// Warm is the environment of functions that the client has defined.
	Warm *plan.Environment `json:"warm"`
}

// ready is what the engine answers.
type ready struct {
	Ready    bool             `json:"ready"`
	Endpoint string           `json:"endpoint,omitempty"`
	PID      int              `json:"pid"`
	Version  string           `json:"version"`
	Error    *diag.Diagnostic `json:"error,omitempty"`
}

// runEngine is the engine of one client. It ends when the client asks for it,
// ends itself, or closes the pipe; SIGINT is the client's business.
func runEngine(stdin, stdout *os.File, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	answer := json.NewEncoder(stdout)
	options, err := readEmbedded(stdin)
	if err != nil {
		_ = answer.Encode(ready{Error: diag.From(err)}) // the client reads it or is gone
		return report(stderr, err)
	}
	ctx, err = whileClientLives(ctx, options, stdin)
	if err == nil {
		ended := make(chan struct{})
		defer close(ended)
		context.AfterFunc(ctx, func() { endInTime(ended, options.RunDir, stderr) })
		err = serveEmbedded(ctx, options, answer)
	}
	if err != nil {
		_ = answer.Encode(ready{Error: diag.From(err)}) // the client reads it or is gone
	}
	return report(stderr, err)
}

// endTime is how long the engine may take to end when its client has.
const endTime = 10 * time.Second

// endInTime ends the process if the engine has not ended by itself in time:
// DuckDB may take minutes to plan a statement, and cannot be interrupted
// meanwhile. The workers end with it, as they do when it is killed.
func endInTime(ended <-chan struct{}, runDir string, stderr io.Writer) {
	select {
	case <-ended:
		return
	case <-time.After(endTime):
	}
	_, _ = fmt.Fprintf(stderr, "the client has ended, and the engine could not within %v; it is given up\n", endTime)
	_ = os.RemoveAll(runDir) // the best that can be done for it
	os.Exit(1)
}

func readEmbedded(stdin io.Reader) (embedded, error) {
	const lineBytesMax = 1 << 20
	var options embedded
	line, err := bufio.NewReaderSize(io.LimitReader(stdin, lineBytesMax), lineBytesMax).ReadBytes('\n')
	if err != nil {
		return options, diag.New(diag.BadOption, "pyrunner engine is started by the Python client, which writes its options on the standard input").
			WithHint("use alink.connect() in Python")
	}
	if err := json.Unmarshal(line, &options); err != nil {
		return options, diag.New(diag.BadOption, "the client's options are not valid JSON").WithCause(err)
	}
	if options.RunDir == "" || options.Token == "" {
		return options, diag.New(diag.BadOption, "the client's options lack run_dir or token")
	}
	return options, nil
}

// collectOften makes Go's collector run when the heap has grown by half instead
// of when it has doubled, and more often near half of the engine's limit; the
// other half is DuckDB's, of which Go knows nothing. Collections are cheap
// here: the heap is Arrow buffers, in which there is nothing to follow. GOGC and
// GOMEMLIMIT, where they are set, win.
func collectOften(limitBytes int64) {
	const percent = 50
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limitBytes / 2)
	}
}

func serveEmbedded(ctx context.Context, options embedded, answer *json.Encoder) (err error) {
	e, err := engine.Open(ctx, engine.Options{
		RunDir: options.RunDir, CacheDir: options.CacheDir, UV: options.UV,
		MemoryLimitBytes: options.MemoryLimitBytes, WorkerMemoryBytes: options.WorkerMemoryBytes, Parallelism: options.Parallelism, SpillDir: options.SpillDir,
		Offline: options.Offline, SourceBuilds: options.SourceBuilds, Sandbox: options.Sandbox, Lane: options.Lane, Launcher: options.Launcher, Warm: options.Warm,
	})
	if err != nil {
		return err
	}
	collectOften(e.MemoryLimitBytes())
	s, err := server.New(server.Options{Engine: e, Token: options.Token, Embedded: true, Version: version})
	if err != nil {
		return errors.Join(err, e.Close())
	}
	defer func() {
		err = errors.Join(err, e.Close())
		s.Close()
		if err == nil {
			// A client that was killed cannot remove its folder. One that lives
			// removes it too; after an error it reads the log that lies there.
			err = os.RemoveAll(options.RunDir)
		}
	}()
	path := filepath.Join(options.RunDir, "engine.sock")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return diag.New(diag.EngineNotFound, "the engine cannot listen on %s", path).WithCause(err)
	}
	if err := answer.Encode(ready{Ready: true, Endpoint: "grpc+unix://" + path, PID: os.Getpid(), Version: version}); err != nil {
		return fmt.Errorf("answer the client: %w", err)
	}
	return s.Serve(ctx, listener)
}
