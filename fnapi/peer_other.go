//go:build !linux

package fnapi

import "net"

// peerIsOwnUser relies on the private directory of the socket, and on the
// token.
func peerIsOwnUser(net.Conn) bool { return true }
