package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a program on a terminal of its own.
type terminal struct {
	t      *testing.T
	master *os.File
	child  *exec.Cmd

	mu      sync.Mutex
	printed bytes.Buffer
	seen    int // bytes of printed that were waited for
	ended   chan struct{}
}

// openTerminal starts this program on a terminal of 80 columns.
func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	return openTerminalOf(t, self(t, args...))
}

// openTerminalOf starts a program; its standard output may be elsewhere.
func openTerminalOf(t *testing.T, child *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 80}); err != nil {
		t.Fatal(err)
	}
	child.Stdin, child.Stderr = slave, slave
	if child.Stdout == nil {
		child.Stdout = slave
	}
	child.Env = append(child.Env, "TERM=xterm")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, child: child, ended: make(chan struct{})}
	go term.read()
	t.Cleanup(func() {
		_ = child.Process.Kill() // it has ended where the test went well
		_ = child.Wait()         // waited for already, then
	})
	return term
}

// read keeps what is printed, until the program has ended.
func (term *terminal) read() {
	defer close(term.ended)
	buffer := make([]byte, 4096)
	for {
		n, err := term.master.Read(buffer)
		term.mu.Lock()
		term.printed.Write(buffer[:n])
		term.mu.Unlock()
		if err != nil { // EIO, when nobody has the terminal open any more
			return
		}
	}
}

func (term *terminal) enter(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.master, text); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits for a text behind the last one, and gives what stood before it.
func (term *terminal) expect(text string) string {
	term.t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(time.Millisecond) {
		term.mu.Lock()
		rest := term.printed.String()[term.seen:]
		before, _, found := strings.Cut(rest, text)
		if found {
			term.seen += len(before) + len(text)
		}
		term.mu.Unlock()
		if found {
			return before
		}
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	term.t.Fatalf("%q was not printed, but:\n%q", text, term.printed.String()[term.seen:])
	return ""
}

// end waits for the program's end and gives its exit status.
func (term *terminal) end() int {
	term.t.Helper()
	select {
	case <-term.ended:
	case <-time.After(20 * time.Second):
		term.t.Fatal("it does not end")
	}
	_ = term.child.Wait() // its status is looked at
	return term.child.ProcessState.ExitCode()
}

// longStatement makes a file before it takes long.
const longStatement = "COPY (SELECT 1) TO 'begun.csv'; SELECT count(*) FROM range(100000000000) a, range(100000000000) b WHERE a.range + b.range = 3;\r"

const ctrlC, ctrlD = "\x03", "\x04"

func TestPrompt(t *testing.T) {
	sqlFolder(t)
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	term := openTerminal(t, "sql", "--param", "low=30")
	term.expect("SQL of DuckDB")
	term.expect("sql> ")
	term.enter("SELECT 1 + 1\r")
	term.expect("...> ")
	term.enter("AS two;\r")
	term.expect("│     two │")
	term.expect("1 row\r\n")
	term.expect("sql> ")

	term.enter("CREATE TABLE people AS FROM 'people.csv'; INSERT INTO people VALUES ('x', 1, NULL), ('y', 2, NULL);\r")
	term.expect("2 rows changed")
	term.expect("sql> ")
	term.enter("SELECT name FROM people WHERE age > $low;\r")
	term.expect("Ada")
	term.expect("1 row\r\n")

	term.enter("SELECT nope;\r") // what is wrong is told, and the dialogue goes on
	term.expect(`there is no column "nope"`)
	term.expect(`File "<prompt>", line 1`)
	term.expect("^^^^")
	term.expect("sql> ")

	term.enter(".tables\r")
	term.expect("people")
	term.expect("sql> ")
	term.enter(".schema people\r")
	if shown := term.expect("3 rows"); !strings.Contains(shown, "VARCHAR") || !strings.Contains(shown, "town") {
		t.Error(shown)
	}
	term.enter(".schema nothing\r")
	term.expect("0 rows")
	term.enter(".help\r")
	term.expect(".quit")
	term.enter(".tabels\r")
	term.expect("did you mean .tables?")
	term.expect("sql> ")

	term.enter("SELECT 'thrown away'" + ctrlC) // the line
	term.expect("sql> ")
	term.enter("SELECT 'a\r")
	term.expect("...> ")
	term.enter(ctrlC) // what has been entered of a statement
	term.expect("sql> ")

	term.enter(longStatement)
	waitFor(t, func() bool { return os.Remove("begun.csv") == nil })
	term.enter(ctrlC) // the statement
	term.expect("cancelled")
	term.expect("sql> ")
	term.enter("SELECT 'still ' || 'here' AS x;\r")
	term.expect("still here")
	term.expect("sql> ")
	term.enter(ctrlD)
	if code := term.end(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	checkHistory(t, filepath.Join(state, "alink", "sql_history"))
}

// checkHistory: what was entered is there, line by line, for its user alone.
func checkHistory(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if lines[0] != "SELECT 1 + 1" || lines[1] != "AS two;" || !strings.Contains(string(text), ".tables\n") || strings.Contains(string(text), "thrown away") {
		t.Errorf("%q", text)
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
}

// TestPromptRemembers: the history of an earlier dialogue, and words.
func TestPromptRemembers(t *testing.T) {
	sqlFolder(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for range 2 {
		term := openTerminal(t, "sql")
		term.expect("sql> ")
		term.enter("SELECT 'again' AS x;\r")
		term.expect("│ again ")
		term.enter(".quit\r")
		if code := term.end(); code != exitDone {
			t.Errorf("exit %d", code)
		}
	}
	term := openTerminal(t, "sql")
	term.expect("sql> ")
	term.enter("\x1b[A\x1b[A\r") // up, up
	term.expect("│ again ")
	term.expect("sql> ")
	term.enter("CREATE TABLE a_long_name(with_a_column int);\r")
	term.expect("sql> ")
	term.enter("sel\t 1 AS with_tab;\r") // nothing is in the way of what is complete
	term.expect("with_tab │\r\n")
	term.expect("sql> ")
	term.enter("select * from a_l\t;\r")
	term.expect("with_a_column")
	term.expect("0 rows")
	term.enter(".ex\t\r")
	if code := term.end(); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestCtrlCRightBehindThePrompt clears the line, however fast it comes: the
// prompt is seen only where Ctrl-C is a key.
func TestCtrlCRightBehindThePrompt(t *testing.T) {
	sqlFolder(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	term := openTerminal(t, "sql")
	term.expect("sql> ")
	for range 200 {
		term.enter(ctrlC)
		term.expect("sql> ")
	}
	term.enter(".quit\r")
	if code := term.end(); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// TestTheTerminalIsGivenBack as it was, whatever ends the dialogue.
func TestTheTerminalIsGivenBack(t *testing.T) {
	sqlFolder(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for name, c := range map[string]struct {
		end  func(*terminal)
		code int
	}{
		"quit":    {func(term *terminal) { term.enter(".quit\r") }, exitDone},
		"SIGTERM": {func(term *terminal) { _ = term.child.Process.Signal(syscall.SIGTERM) }, 128 + int(syscall.SIGTERM)},
		"SIGTERM while a statement runs": {func(term *terminal) {
			term.enter(longStatement)
			waitFor(t, func() bool { return os.Remove("begun.csv") == nil })
			_ = term.child.Process.Signal(syscall.SIGTERM)
		}, 128 + int(syscall.SIGTERM)},
	} {
		t.Run(name, func(t *testing.T) {
			term := openTerminal(t, "sql")
			term.expect("sql> ")
			c.end(term)
			if code := term.end(); code != c.code {
				t.Errorf("exit %d", code)
			}
			after, err := unix.IoctlGetTermios(int(term.master.Fd()), unix.TCGETS)
			if err != nil || after.Lflag&unix.ECHO == 0 || after.Lflag&unix.ICANON == 0 {
				t.Errorf("the terminal has other settings: %v, %+v", err, after)
			}
		})
	}
}

// TestOnATerminal: what is special where there is one.
func TestOnATerminal(t *testing.T) {
	sqlFolder(t)
	term := openTerminal(t, "sql", "-c", "SELECT 1 AS a")
	term.expect("│       a │")
	if code := term.end(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	for _, args := range [][]string{
		{"sql", "--format", "arrow", "-c", "SELECT 1"}, {"sql", "-o", "x.csv"},
	} {
		term := openTerminal(t, args...)
		term.expect("ALK1006")
		term.expect("hint: ")
		if code := term.end(); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// TestStatementsFromATerminalIntoAFile: there is no prompt, which would stand
// in the file; Ctrl-D ends the statements, and Ctrl-C the program.
func TestStatementsFromATerminalIntoAFile(t *testing.T) {
	sqlFolder(t)
	for key, want := range map[string]struct {
		code int
		text string
	}{ctrlD: {exitDone, "a\n1\n"}, ctrlC: {exitInterrupted, ""}} {
		out, err := os.Create("out.csv")
		if err != nil {
			t.Fatal(err)
		}
		child := self(t, "sql")
		child.Stdout = out
		term := openTerminalOf(t, child)
		term.enter("SELECT 1 AS a;\n")
		term.expect("SELECT 1 AS a;\r\n") // the terminal's own echo
		waitFor(t, func() bool { return readsInput(t, child.Process.Pid) })
		term.enter(key)
		if code := term.end(); code != want.code {
			t.Errorf("%q: exit %d", key, code)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile("out.csv"); err != nil || string(text) != want.text {
			t.Errorf("%q: %q, %v", key, text, err)
		}
	}
}

// readsInput reports whether a process waits for its standard input.
func readsInput(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		// Where it cannot be told, it is taken for one.
		if errors.Is(err, os.ErrPermission) || strings.HasPrefix(string(text), fmt.Sprintf("%d 0x0 ", unix.SYS_READ)) {
			return true
		}
	}
	return false
}
