package udfworker

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/go-tests/fixture"
)

// Nothing outlives the engine, however it dies: not the supervisor, not its
// workers, not what these started, not their scratch directories.
func TestNothingOutlivesTheEngine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, behaviour := range []string{"idle", "stubborn", "fork"} {
		t.Run(behaviour, func(t *testing.T) {
			dir := fixture.ShortDir(t)
			engine := exec.Command(self, dir)
			engine.Env = append(os.Environ(), engineVariable+"="+behaviour)
			engine.Stderr = os.Stderr
			out, err := engine.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var pids []int
			for _, word := range strings.Fields(line) {
				pid, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			if len(pids) < 2 || !alive(pids[0]) || !alive(pids[1]) {
				t.Fatalf("processes: %v", pids)
			}
			// What a terminal or a service manager sends reaches neither.
			for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
				_ = syscall.Kill(pids[0], sig)
			}
			time.Sleep(50 * time.Millisecond)
			if !alive(pids[0]) || !alive(pids[1]) {
				t.Fatal("the supervisor died of a signal that was meant for the engine")
			}
			if sid, _ := processSession(pids[0]); sid != pids[0] {
				t.Errorf("the supervisor is in session %d, not its own %d", sid, pids[0])
			}
			if err := engine.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for _, pid := range pids {
				eventually(t, "process "+strconv.Itoa(pid)+" has ended", time.Second, func() bool { return !alive(pid) })
			}
			t.Logf("%d processes were gone %s after the engine", len(pids), time.Since(start))
			eventually(t, "scratch directories are removed", time.Second, func() bool {
				left, _ := filepath.Glob(filepath.Join(dir, scratchDir, "*"))
				return len(left) == 0
			})
			_ = engine.Wait()
		})
	}
}

func processSession(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	text := string(stat)
	return strconv.Atoi(strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[3])
}

func TestSupervisorByHand(t *testing.T) {
	t.Setenv(handshake.MagicCookieKey, "wrong")
	if err := ServeSupervisor(); diag.From(err).Code != diag.BadOption {
		t.Errorf("a supervisor without an engine: %v", err)
	}
}

// A supervisor whose engine is not its parent has lost it already.
func TestWatchParent(t *testing.T) {
	gone, err := watchParent(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Error("the parent lives")
	case <-time.After(50 * time.Millisecond):
	}
	gone, err = watchParent(os.Getpid()) // it lives, but is not the parent
	if err != nil {
		t.Fatal(err)
	}
	<-gone
	select {
	case <-pollParent(os.Getpid()):
	case <-time.After(5 * time.Second):
		t.Error("the poll did not see that the parent is another")
	}
}
