package envmgr

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes put a program in a group of its own and end it with this
// process.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// syncTree makes everything below dir survive a loss of power. One call for
// the whole file system: thousands of small files would need as many.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
