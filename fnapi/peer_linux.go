package fnapi

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerIsOwnUser reports whether the process at the other end of a unix socket
// belongs to this process's user, as the kernel recorded when it connected.
func peerIsOwnUser(conn net.Conn) bool {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	own := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		own = err == nil && int(peer.Uid) == os.Geteuid()
	})
	return err == nil && own
}
