package fnapi

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/alink-runtime/alink/udfworker"
)

// host gives each worker an endpoint of its own. It implements udfworker.Host.
type host struct {
	// dir is a private directory; each endpoint has a directory in it.
	dir string
	// lane is what workers are reached by.
	lane Lane
	// segments counts those of shared memory that there are.
	segments atomic.Int64
}

const socketName = "fn.sock"

// Listen implements udfworker.Host.
func (h *host) Listen(id string) (udfworker.Endpoint, error) {
	dir := filepath.Join(h.dir, id)
	path := filepath.Join(dir, socketName)
	if err := udfworker.CheckSocketPath(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the endpoint of worker %s: %w", id, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the endpoint of worker %s: %w", id, err)
	}
	shared, err := newPage(filepath.Join(dir, pageName))
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("make the endpoint of worker %s: %w", id, err)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if err != nil {
		shared.close()
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("make the endpoint of worker %s: %w", id, err)
	}
	e := newEndpoint(id, newToken(), dir)
	e.page = shared
	if h.lane == Portable {
		e.lane = newPortable(e, ownUserListener{listener}, path)
	} else {
		e.lane = newLocal(e, ownUserListener{listener}, path, &h.segments)
	}
	return e, nil
}

// newToken makes a secret of 256 bits.
func newToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return hex.EncodeToString(b)
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// ownUserListener drops connections of other users. The directory keeps them
// out already, except for root and where its mode was changed.
type ownUserListener struct{ net.Listener }

// Accept implements net.Listener.
func (l ownUserListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peerIsOwnUser(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}
