package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/server"
)

// tableBytesDefault is --table-limit where it is not given.
const tableBytesDefault = 64 << 30

// cutOffTime bounds the end of a server after a second signal.
const cutOffTime = 3 * time.Second

// serving is what serve prints when it can be reached.
type serving struct {
	Address string `json:"address"`
	HTTP    string `json:"http,omitempty"`
	// TokenFile holds the token that clients need; "" where they need none.
	TokenFile string `json:"token_file,omitempty"`
	PID       int    `json:"pid"`
	Version   string `json:"version"`
}

// serveFlags are the flags of serve that are no settings.
type serveFlags struct {
	files          []string
	sessions       int
	upload         sizeValue
	tables         sizeValue
	artifacts      sizeValue
	functionMemory sizeValue
	policy         string
	json           *bool
}

// sizeValue is a flag of a number of bytes.
type sizeValue int64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return bytesText(int64(*v))
}

func (v *sizeValue) Set(text string) error {
	n, err := config.ParseSize(text)
	*v = sizeValue(n)
	return err
}

func (v *sizeValue) Type() string { return "size" }

func (c *cli) serveCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "serve", Short: "The engine as a server for many clients", Args: cobra.NoArgs,
		Long: "Serves an engine to clients: alink.connect(\"grpc+tls://host:port\", token=...) in\n" +
			"Python, pyrunner jobs. It prints one line with its address when it can be\n" +
			"reached. Whoever reaches it can run programs as this user: on a unix socket that\n" +
			"is this user alone; on a TCP address whoever bears the token; an address that\n" +
			"other machines may reach demands TLS and a token.\n\n" +
			"SIGTERM or SIGINT drains it: no new jobs are taken, and those that run may end\n" +
			"within --grace. A second signal ends it at once. docs/operations.md has the rest.",
		Example: "  pyrunner serve\n" +
			"  pyrunner serve --listen 127.0.0.1:8815 --http 127.0.0.1:8816 --files /data\n" +
			"  pyrunner serve --listen 0.0.0.0:8815 --tls-cert cert.pem --tls-key key.pem --token-file token",
	}
	settingFlags(command, "listen", "http", "tls_cert", "tls_key", "token_file", "grace", "memory", "worker_memory", "parallelism", "spill_dir", "cache_dir", "uv", "offline", "source_builds", "sandbox", "launcher", "lane")
	var flags serveFlags
	f := command.Flags()
	f.StringArrayVar(&flags.files, "files", nil, "folder that plans may read and write; may be given several times (default: none on a TCP address, all on a unix socket)")
	f.IntVar(&flags.sessions, "sessions", server.SessionsDefault, "clients that may be connected")
	flags.tables = tableBytesDefault
	flags.upload, flags.artifacts = server.UploadBytesDefault, server.ArtifactBytesDefault
	f.Var(&flags.upload, "upload-limit", "bytes of the tables that one client may send")
	f.Var(&flags.tables, "table-limit", "bytes of the tables that all clients may send, or keep with cache(), in memory and on disk")
	f.Var(&flags.artifacts, "artifact-limit", "bytes of functions, modules and models that all clients may send")
	f.Var(&flags.functionMemory, "function-memory", "most that a worker may hold, whatever its function asks for (default: no cap)")
	f.StringVar(&flags.policy, "policy", "", "file that says what functions may ask for, see docs/operations.md (default: on a TCP address a sandbox, no network and the folders of --files; on a unix socket anything)")
	flags.json = jsonFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		s, err := settings(command)
		if err != nil {
			return err
		}
		if flags.sessions < 1 {
			return usageError{badUsage("--sessions must be at least 1, not %d", flags.sessions)}
		}
		return c.serve(context.WithoutCancel(command.Context()), s, flags)
	}
	return command
}

// doors are what a server is reached by.
type doors struct {
	flight *server.Listener
	web    net.Listener // nil without --http
	tls    *tls.Config
	// token is what Flight asks for, webToken what HTTP does.
	token, webToken string
	told            serving
}

func (d *doors) close() {
	if d.flight != nil {
		_ = d.flight.Close() // it was closed by whoever served it
	}
	if d.web != nil {
		_ = d.web.Close() // likewise
	}
}

// openDoors listens under the rules of what is safe.
func openDoors(ctx context.Context, s *config.Settings) (_ *doors, err error) {
	d := &doors{told: serving{PID: os.Getpid(), Version: version}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	listen, web, tokenFile := s.Text("listen"), s.Text("http"), s.Text("token_file")
	if listen == "" {
		listen = "unix:" + defaultSocket()
	}
	if d.tls, err = server.LoadTLS(s.Text("tls_cert"), s.Text("tls_key")); err != nil {
		return nil, err
	}
	security := server.Security{TLS: d.tls, Token: tokenFile != ""}
	if d.flight, err = server.Listen(ctx, listen, security); err != nil {
		return nil, err
	}
	d.told.Address = d.flight.Address
	if web != "" {
		if d.web, err = server.ListenTCP(ctx, web, security); err != nil {
			return nil, err
		}
		scheme := "http://"
		if d.tls != nil {
			scheme = "https://"
		}
		d.told.HTTP = scheme + d.web.Addr().String()
	}
	unixAlone := strings.HasPrefix(listen, "unix:") && tokenFile == ""
	if unixAlone && web == "" {
		return d, nil
	}
	if tokenFile == "" {
		if tokenFile, err = madeToken(); err != nil {
			return nil, err
		}
	}
	d.told.TokenFile = tokenFile
	if d.webToken, err = server.ReadToken(tokenFile); err != nil {
		return nil, err
	}
	if !unixAlone {
		d.token = d.webToken
	}
	return d, nil
}

// madeToken gives the file of the token that servers of this user share which
// were given none. It is made once, so that clients need not be told again.
func madeToken() (string, error) {
	dir := stateDir()
	path := filepath.Join(dir, "server-token")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	secret := make([]byte, 32)
	_, err := rand.Read(secret)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		// The name appears with the content: two servers may start at once.
		var file *os.File
		if file, err = os.CreateTemp(dir, "token-*"); err == nil { // mode 0600
			_, err = file.WriteString(hex.EncodeToString(secret) + "\n")
			err = errors.Join(err, file.Close())
			if err == nil {
				if err = os.Link(file.Name(), path); errors.Is(err, fs.ErrExist) {
					err = nil
				}
			}
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}
	if err != nil {
		return "", diag.New(diag.ServeRefused, "a token cannot be written to %s", path).WithCause(err).WithHint("name a file with --token-file")
	}
	return path, nil
}

// stateDir is where this user's programs keep what should outlive them.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "alink")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "alink")
}

// defaultSocket is where serve listens and jobs looks when they are not told.
func defaultSocket() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = stateDir()
	}
	return filepath.Join(dir, "alink", "server.sock")
}

// serve runs a server until it is told to end.
func (c *cli) serve(ctx context.Context, s *config.Settings, flags serveFlags) (err error) {
	// Before anything is made that would have to be removed.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	d, err := openDoors(ctx, s)
	if err != nil {
		return err
	}
	defer d.close()
	private := strings.HasPrefix(d.told.Address, "grpc+unix:")
	policy, err := servedPolicy(flags, private, s.Switch("source_builds"))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{
		Policy:   policy,
		CacheDir: s.Text("cache_dir"), UV: s.Text("uv"), Offline: s.Switch("offline"), SourceBuilds: policy.SourceBuilds, Sandbox: s.Text("sandbox"), Lane: s.Text("lane"), Launcher: s.Text("launcher"),
		MemoryLimitBytes: s.Number("memory"), WorkerMemoryBytes: s.Number("worker_memory"), Parallelism: int(s.Number("parallelism")), SpillDir: s.Text("spill_dir"),
		RestrictFiles: len(flags.files) > 0 || !private, Folders: flags.files, TableBytesMax: int64(flags.tables),
	})
	if err != nil {
		return err
	}
	collectOften(e.MemoryLimitBytes())
	flightTLS := d.tls
	if private {
		flightTLS = nil
	}
	srv, err := server.New(server.Options{
		Engine: e, Token: d.token, TLS: flightTLS, Version: version, Log: slog.New(slog.NewTextHandler(c.stderr, nil)),
		Limits: server.Limits{
			Sessions: flags.sessions, UploadBytes: int64(flags.upload), ArtifactBytes: int64(flags.artifacts),
		},
	})
	if err != nil {
		return errors.Join(err, e.Close())
	}
	defer func() {
		if _, cut := errors.AsType[exitError](err); cut {
			return // whatever has not ended ends with the process
		}
		err = errors.Join(err, e.Close())
		srv.Close()
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	parts := 1
	go func() { ended <- srv.Serve(ctx, d.flight) }()
	if d.web != nil {
		parts++
		go func() { ended <- srv.ServeWeb(ctx, d.web, d.webToken, d.tls) }()
	}
	c.told(d.told, *flags.json)
	select {
	case err := <-ended:
		return err // a listener has failed
	case <-signals:
	}
	return c.drain(srv, e, d, time.Duration(s.Number("grace"))*time.Second, signals, func() error {
		stop()
		var failures error
		for range parts {
			failures = errors.Join(failures, <-ended)
		}
		return failures
	})
}

// told prints how the server is reached.
func (c *cli) told(t serving, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(c.stdout).Encode(t) // nobody reads: it serves all the same
		return
	}
	line := "serving at " + t.Address
	if t.HTTP != "" {
		line += ", " + t.HTTP
	}
	if t.TokenFile != "" {
		line += ", token in " + t.TokenFile
	}
	fmt.Fprintln(c.stdout, line)
}

// drain lets the jobs end that run. A second signal cuts that short: whatever
// has not ended after a moment ends with the process.
func (c *cli) drain(srv *server.Server, e *engine.Engine, d *doors, grace time.Duration, signals <-chan os.Signal, finish func() error) error {
	fmt.Fprintf(c.stderr, "pyrunner: draining; jobs that run have %s, a second signal ends at once\n", grace)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		srv.Drain(context.Background(), grace)
	}()
	select {
	case <-drained:
		return finish()
	case sig := <-signals:
		fmt.Fprintln(c.stderr, "pyrunner: ending at once")
		cut := make(chan struct{})
		go func() {
			defer close(cut)
			_ = finish() // the process ends whatever it says
			_ = e.Close()
		}()
		select {
		case <-cut:
		case <-time.After(cutOffTime):
		}
		d.close()
		status := exitInterrupted
		if number, ok := sig.(syscall.Signal); ok {
			status = 128 + int(number)
		}
		return exitError{status}
	}
}
