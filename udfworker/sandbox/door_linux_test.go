//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A room that is made from outside has bounds of its own, cannot be moved or
// removed from inside, and goes with all that is in it. A link that is put where
// it is to be leads it nowhere.
func TestRooms(t *testing.T) {
	const files, mib = 100, 1 << 20
	stdin, stdout, script := pipeTo(t, `
echo ready; read line
cd /tmp/one || exit 1
fallocate -l 3M large 2>/dev/null && echo "too large"
rm large; fallocate -l 1M small || echo "too small"
i=0; while [ $i -lt 200 ] && true > $i; do i=$((i+1)); done 2>/dev/null
echo "files $i"
mv /tmp/one /tmp/other 2>/dev/null && echo moved
rmdir /tmp/one 2>/dev/null && echo removed
true > /tmp/beside && echo "beside it"
stat -c "mode %a" /tmp/one
grep -c " /tmp/one " /proc/self/mounts
ln -s /usr /tmp/two
echo done; read line
cd /
ls -A /tmp
`)
	p := script(shell(t, L2, ""))
	expect := func(text string) {
		t.Helper()
		_ = stdout.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, len(text))
		if _, err := io.ReadFull(stdout, got); err != nil || string(got) != text {
			rest := make([]byte, 1024)
			n, _ := stdout.Read(rest)
			t.Fatalf("%q, expected %q (%v)", string(got)+string(rest[:n]), text, err)
		}
	}
	expect("ready\n")
	door, err := OpenDoor(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	if err := door.MakeRoom("one", 2*mib, files); err != nil {
		t.Fatal(err)
	}
	if err := door.MakeRoom("one", 2*mib, files); !isExist(err) {
		t.Errorf("a second one: %v", err)
	}
	fmt.Fprintln(stdin)
	expect(fmt.Sprintf("files %d\nbeside it\nmode 700\n1\ndone\n", files-2)) // the folder itself and small
	if err := door.MakeRoom("two", mib, files); !isExist(err) {
		t.Errorf("in place of a link: %v", err)
	}
	if err := door.ClearRoom("two"); err == nil {
		t.Error("what is no room was cleared")
	}
	if err := door.ClearRoom("one"); err != nil {
		t.Error(err)
	}
	fmt.Fprintln(stdin)
	expect("beside\ntwo\n")
	if status := end(t, p); status.ExitStatus() != 0 {
		t.Errorf("%#x", status)
	}
	// Nobody is in there any more.
	if err := door.MakeRoom("three", mib, files); err != nil && !strings.Contains(err.Error(), unix.ENOENT.Error()) {
		t.Error(err)
	}
}

func isExist(err error) bool {
	failed, ok := errors.AsType[*Error](err)
	return ok && failed.Text == unix.EEXIST.Error()
}

// pipeTo gives what starts a shell whose input and output are pipes.
func pipeTo(t *testing.T, script string) (stdin, stdout *os.File, start func(Spec) *Process) {
	t.Helper()
	input, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); stdout.Close() })
	return stdin, stdout, func(spec Spec) (p *Process) {
		t.Helper()
		spec.Argv[2] = script
		done := make(chan struct{})
		launcher <- func() {
			defer close(done)
			p, err = Start(spec, input.Fd(), output.Fd(), alone)
		}
		<-done
		input.Close()
		output.Close()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}
