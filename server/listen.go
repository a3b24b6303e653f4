package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/diag"
)

const (
	// socketPathBytesMax is what the kernel takes as a unix socket's path.
	socketPathBytesMax = 107
	// probeTime bounds the wait for an answer of whoever has a socket.
	probeTime = 2 * time.Second
)

// Listener is where a server is reached.
type Listener struct {
	net.Listener
	// Address is as clients write it: grpc+unix:///path, grpc://host:port or
	// grpc+tls://host:port.
	Address string
	// madeDir is the folder that was made for a socket; "" if it was there.
	madeDir string
}

// Close ends the listener; a socket and the folder made for it are removed.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if l.madeDir != "" {
		_ = os.Remove(l.madeDir) // fails if something else lies there, which then stays
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Security is what protects a listener on a network.
type Security struct {
	TLS *tls.Config
	// Token says that the user has named a file with a token.
	Token bool
}

// Listen listens at unix:PATH or HOST:PORT; port 0 takes a free one. An
// address that other machines may reach demands TLS and a token.
func Listen(ctx context.Context, address string, security Security) (*Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(ctx, path)
	}
	listener, err := ListenTCP(ctx, address, security)
	if err != nil {
		return nil, err
	}
	scheme := "grpc://"
	if security.TLS != nil {
		scheme = "grpc+tls://"
	}
	return &Listener{Listener: listener, Address: scheme + reachedAt(address, listener)}, nil
}

// reachedAt is an address with the port that was taken, and with the host as
// the user wrote it, which a certificate may name.
func reachedAt(address string, listener net.Listener) string {
	host, _, err := net.SplitHostPort(address)
	tcp, ok := listener.Addr().(*net.TCPAddr)
	if err != nil || !ok {
		return listener.Addr().String()
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}

// ListenTCP listens at HOST:PORT under the rules of Listen.
func ListenTCP(ctx context.Context, address string, security Security) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, diag.New(diag.ServeRefused, "the server cannot listen on %q", address).WithCause(err).
			WithHint("write unix:PATH or HOST:PORT, for example 127.0.0.1:8815; port 0 takes a free one")
	}
	if !loopback(host) && (security.TLS == nil || !security.Token) {
		var missing []string
		if security.TLS == nil {
			missing = append(missing, "TLS (--tls-cert and --tls-key)")
		}
		if !security.Token {
			missing = append(missing, "a token (--token-file)")
		}
		return nil, diag.New(diag.ServeRefused, "the server does not listen on %s, which other machines may reach, without %s", address, strings.Join(missing, " and ")).
			WithHint("whoever reaches it can run programs here; 127.0.0.1 is for this machine alone")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, diag.New(diag.ServeRefused, "the server cannot listen on %s", address).WithCause(err).
			WithHint("another program may be using the port; port 0 takes a free one")
	}
	return listener, nil
}

// loopback reports whether a host is this machine alone.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// listenUnix makes a socket of mode 0600 in a folder that is the user's alone.
func listenUnix(ctx context.Context, path string) (*Listener, error) {
	path = strings.TrimPrefix(path, "//")
	path, err := filepath.Abs(path)
	if err != nil || len(path) > socketPathBytesMax {
		return nil, diag.New(diag.ServeRefused, "the path of the socket %s has %d bytes; the limit is %d", path, len(path), socketPathBytesMax).WithCause(err).
			WithHint("choose a shorter one")
	}
	made, err := privateFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, cannotListen(path, err)
	}
	defer dir.Close() // gives the lock up
	// Two servers that start at once must not both find the socket stale.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, cannotListen(path, err)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, cannotListen(path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(cannotListen(path, err), listener.Close())
	}
	l := &Listener{Listener: listener, Address: "grpc+unix://" + path}
	if made {
		l.madeDir = filepath.Dir(path)
	}
	return l, nil
}

func cannotListen(path string, err error) error {
	return diag.New(diag.ServeRefused, "the server cannot listen on unix:%s", path).WithCause(err)
}

// privateFolder makes a folder that nobody else may enter, and refuses one
// that others may.
func privateFolder(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, diag.New(diag.ServeRefused, "the folder %s of the socket cannot be made", dir).WithCause(err)
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrExist):
		return false, diag.New(diag.ServeRefused, "the folder %s of the socket cannot be made", dir).WithCause(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return false, diag.New(diag.ServeRefused, "the folder %s of the socket cannot be used", dir).WithCause(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return false, diag.New(diag.ServeRefused, "the folder %s of the socket is open to others (%s)", dir, info.Mode()).
			WithHint("whoever reaches the socket can run programs here: name a folder that is yours alone, or one that does not exist yet; chmod 700 makes it so")
	}
	return false, nil
}

// clearStale removes the socket of a server that has ended, and refuses one
// that answers.
func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return diag.New(diag.ServeRefused, "%s is there already and is no socket", path).WithCause(err).WithHint("choose another path")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	probe, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(diag.New(diag.ServeRefused, "a server is running at unix:%s", path).
			WithHint("end it, or choose another path"), probe.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return cannotListen(path, err)
	}
	return os.Remove(path)
}

// LoadTLS reads a certificate and its key.
func LoadTLS(certificate, key string) (*tls.Config, error) {
	if certificate == "" && key == "" {
		return nil, nil
	}
	if certificate == "" || key == "" {
		return nil, diag.New(diag.ServeRefused, "TLS needs a certificate and its private key").WithHint("give both --tls-cert and --tls-key")
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, diag.New(diag.ServeRefused, "the certificate %s with the key %s cannot be used", certificate, key).WithCause(err).
			WithHint("both are PEM files; the certificate's file holds the chain, the server's own first")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// Limits of a token.
const (
	tokenBytesMin     = 16
	tokenFileBytesMax = 4 << 10
)

// ReadToken reads a file with a token, which nobody else may read.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", diag.New(diag.BadSetting, "the token file %s cannot be read", path).WithCause(err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", diag.New(diag.BadSetting, "the token file %s is open to others (%s)", path, info.Mode()).WithHint("chmod 600 %s", path)
	}
	data, err := os.ReadFile(path)
	if err == nil && len(data) > tokenFileBytesMax {
		err = fmt.Errorf("it has %d bytes; the limit is %d", len(data), tokenFileBytesMax)
	}
	token := strings.TrimSpace(string(data))
	if err == nil && strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		err = errors.New("a token is one line of ASCII without spaces")
	}
	if err == nil && len(token) < tokenBytesMin {
		err = fmt.Errorf("it has %d characters; the least is %d", len(token), tokenBytesMin)
	}
	if err != nil {
		return "", diag.New(diag.BadSetting, "the token file %s cannot be used", path).WithCause(err).
			WithHint("make one: (umask 077; openssl rand -hex 32 > %s)", path)
	}
	return token, nil
}
