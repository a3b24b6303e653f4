package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/go-tests/fixture"
)

func TestListenRefusesWhatIsNotSafe(t *testing.T) {
	cert, key := fixture.Certificate(t)
	secure, err := LoadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := fixture.ShortDir(t)
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address  string
		security Security
		says     string // "" is allowed
	}{
		{"127.0.0.1:0", Security{}, ""},
		{"[::1]:0", Security{}, ""},
		{"localhost:0", Security{}, ""},
		{"127.0.0.1:0", Security{TLS: secure}, ""},
		{"0.0.0.0:0", Security{TLS: secure, Token: true}, ""},
		{"0.0.0.0:0", Security{}, "without TLS (--tls-cert and --tls-key) and a token (--token-file)"},
		{":0", Security{Token: true}, "without TLS (--tls-cert and --tls-key)"},
		{"[::]:0", Security{TLS: secure}, "without a token (--token-file)"},
		{"some.host:0", Security{}, "which other machines may reach"},
		{"8815", Security{}, "cannot listen on"},
		{"127.0.0.1:99999", Security{}, "cannot listen on"},
		{"unix:" + dir + "/made/s", Security{}, ""},
		{"unix:" + dir + "/file", Security{}, "is no socket"},
		{"unix:" + open + "/s", Security{}, "is open to others"},
		{"unix:" + dir + "/" + strings.Repeat("x", 200), Security{}, "the limit is 107"},
	} {
		l, err := Listen(t.Context(), c.address, c.security)
		if err == nil {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if (err == nil) != (c.says == "") {
			t.Errorf("%s: %v", c.address, err)
		} else if d := diag.From(err); d != nil && (d.Code != diag.ServeRefused || !strings.Contains(d.Message, c.says)) {
			t.Errorf("%s: %s", c.address, d.Render())
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAddresses(t *testing.T) {
	cert, key := fixture.Certificate(t)
	secure, err := LoadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for address, begins := range map[string]string{"127.0.0.1:0": "grpc://127.0.0.1:", "localhost:0": "grpc://localhost:"} {
		for _, s := range []Security{{}, {TLS: secure}} {
			l, err := Listen(t.Context(), address, s)
			if err != nil {
				t.Fatal(err)
			}
			want := begins
			if s.TLS != nil {
				want = strings.Replace(begins, "grpc:", "grpc+tls:", 1)
			}
			if !strings.HasPrefix(l.Address, want) || strings.HasSuffix(l.Address, ":0") {
				t.Errorf("%s is told as %s", address, l.Address)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSockets: mode 0600 in a folder of 0700, a stale one is replaced, a live
// one refused, and nothing is left at the end.
func TestSockets(t *testing.T) {
	dir := filepath.Join(fixture.ShortDir(t), "made")
	path := filepath.Join(dir, "server.sock")
	first, err := Listen(t.Context(), "unix:"+path, Security{})
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if first.Address != "grpc+unix://"+path {
		t.Errorf("the address is %s", first.Address)
	}
	if _, err := Listen(t.Context(), "unix:"+path, Security{}); err == nil || !strings.Contains(err.Error(), "a server is running at") {
		t.Errorf("a live socket: %v", err)
	}
	// A server that is killed leaves its socket.
	first.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := first.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(t.Context(), "unix:"+path, Security{})
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestTokensAndCertificatesAreChecked(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if token, err := ReadToken(write("good", "0123456789abcdef\n", 0o600)); token != "0123456789abcdef" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	for path, says := range map[string]string{
		write("short", "secret", 0o600):                   "it has 6 characters",
		write("open", "0123456789abcdef", 0o644):          "is open to others",
		write("two", "0123456789abcdef\nmore", 0o600):     "one line of ASCII",
		write("long", strings.Repeat("x", 10_000), 0o600): "the limit is 4096",
		filepath.Join(dir, "none"):                        "no such file",
	} {
		if _, err := ReadToken(path); err == nil || !strings.Contains(err.Error(), says) || diag.From(err).Code != diag.BadSetting {
			t.Errorf("%s: %v", path, err)
		}
	}
	cert, key := fixture.Certificate(t)
	_, other := fixture.Certificate(t)
	for _, c := range [][3]string{{cert, "", "needs a certificate and its private key"}, {"", key, "needs a certificate"}, {cert, other, "cannot be used"}, {key, key, "cannot be used"}} {
		if _, err := LoadTLS(c[0], c[1]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if secure, err := LoadTLS("", ""); secure != nil || err != nil {
		t.Errorf("without files: %v, %v", secure, err)
	}
}

// TestTLS: a certificate of one's own is checked with tls_ca; a stranger's, or
// one that does not name the host, is refused with what TLS says.
func TestTLS(t *testing.T) {
	cert, key := fixture.Certificate(t)
	stranger, _ := fixture.Certificate(t)
	secure, err := LoadTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(t.Context(), engine.Options{CacheDir: t.TempDir(), WorkerPool: []string{"/bin/false"}, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := New(Options{Engine: e, Token: token, TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), "127.0.0.1:0", Security{TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		address, token, ca string
		code               diag.Code // "" is let in
		says               string
	}{
		{l.Address, token, cert, "", ""},
		{l.Address, "wrong", cert, diag.NotAuthorized, "the token is not the server's"},
		{l.Address, "", cert, diag.NotAuthorized, "no token was given"},
		{l.Address, token, stranger, diag.NoServer, "certificate"},
		{l.Address, token, "", diag.NoServer, "certificate"},
		{l.Address, token, key, diag.BadSetting, "holds no certificate"},
		{strings.Replace(l.Address, "grpc+tls", "grpc", 1), token, "", diag.NoServer, "no server answers at"},
		{"grpc://127.0.0.1:1", token, "", diag.NoServer, "refused"},
		{"grpc+unix:///nowhere/s", "", "", diag.NoServer, "no such file"},
		{"http://127.0.0.1:1", "", "", diag.BadSetting, "is not the address of a server"},
		{"grpc://127.0.0.1", "", "", diag.BadSetting, "is not the address of a server"},
	} {
		list, err := listOnce(t.Context(), ClientOptions{Address: c.address, Token: c.token, TLSCA: c.ca})
		if c.code == "" {
			if err != nil || len(list) != 0 {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if d := diag.From(err); d == nil || d.Code != c.code || !strings.Contains(d.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func listOnce(ctx context.Context, options ClientOptions) ([]JobInfo, error) {
	c, err := Dial(options)
	if err != nil {
		return nil, err
	}
	list, err := c.Jobs(ctx)
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	return list, err
}
