package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// signalKeysOff makes Ctrl-C a character on the terminal of the standard input,
// where it else sends a signal, until restore is called.
func signalKeysOff() (restore func()) {
	fd := int(os.Stdin.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {} // it is no terminal, or it is gone
	}
	off := *mode
	off.Lflag &^= unix.ISIG
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, &off) // as above
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, mode) }
}
