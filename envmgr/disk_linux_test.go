package envmgr

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"golang.org/x/sys/unix"
)

// resolveOnSmallDisk resolves "ballast" on a disk of a few bytes, which only
// this process sees, and then once more when that has grown.
func resolveOnSmallDisk(cache, uv, size string) int {
	fail := func(err error) int {
		fmt.Println("helper:", err)
		return 1
	}
	if err := unix.Mount("tmpfs", cache, "tmpfs", 0, "size="+size); err != nil {
		return fail(err)
	}
	store, err := Open(Options{CacheDir: cache, UV: uv})
	if err != nil {
		return fail(err)
	}
	spec := Spec{Requirements: []string{"ballast"}}
	_, err = store.Resolve(context.Background(), spec, nil)
	if err == nil {
		return fail(errors.New("the disk was large enough"))
	}
	fmt.Println(diag.From(err).Render())
	entries, err := os.ReadDir(store.envs)
	if err != nil || len(entries) > 0 {
		return fail(fmt.Errorf("left behind: %v, %w", entries, err))
	}
	if err := unix.Mount("tmpfs", cache, "tmpfs", unix.MS_REMOUNT, "size=256m"); err != nil {
		return fail(err)
	}
	env, err := store.Resolve(context.Background(), spec, nil)
	if err != nil {
		return fail(err)
	}
	out, err := exec.Command(env.Interpreter, "-I", "-c", "import ballast, os; print(ballast.version, os.path.getsize(ballast.__file__.replace('.py', '.bin')))").CombinedOutput()
	fmt.Println("built:", string(out))
	if err != nil {
		return fail(err)
	}
	return 0
}

func TestFullDisk(t *testing.T) {
	x := newIndex(t)
	data := make([]byte, 4<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	x.extra = map[string][]byte{"ballast.bin": data}
	x.add(t, "ballast", "1.0")
	for name, test := range map[string]struct {
		size     string
		uvInside bool // uv's cache is on that disk too
	}{
		"while it downloads":              {"3m", true},
		"while it installs":               {"6m", true},
		"where the downloads are not":     {"3m", false},
		"where not even a lock has space": {"4k", false},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			helper := exec.CommandContext(t.Context(), os.Args[0])
			helper.Env = append(os.Environ(), helperCache+"="+cache, helperUV+"="+realUV(t), helperDisk+"="+test.size)
			if test.uvInside {
				helper.Env = append(helper.Env, "UV_CACHE_DIR="+filepath.Join(cache, "uv"))
			}
			helper.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
			out, err := helper.CombinedOutput()
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
				t.Skip("no disk can be mounted here: user namespaces are forbidden")
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, part := range []string{"ALK3002: ", "hint: the disk is full: make room (pyrunner env gc), or set ALINK_CACHE_DIR", "built: 1.0 4194304"} {
				if !strings.Contains(string(out), part) {
					t.Errorf("got:\n%s\nwant in it: %s", out, part)
				}
			}
			t.Logf("\n%s", out)
		})
	}
}

// Builds that are killed at random moments leave nothing that is used: the next
// one works, and what it gives is whole.
func TestBuildsKilledAtRandomMoments(t *testing.T) {
	const kills = 10
	newIndex(t)
	uv := realUV(t)
	cache := t.TempDir()
	build := func() *exec.Cmd {
		helper := exec.Command(os.Args[0])
		helper.Env = append(os.Environ(), helperCache+"="+cache, helperUV+"="+uv)
		helper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return helper
	}
	began := time.Now()
	if out, err := build().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(began)
	interrupted := 0
	for range kills {
		// From the start: nothing chosen, nothing built, nothing downloaded.
		for _, dir := range []string{filepath.Join(cache, "envs"), filepath.Join(cache, "locks"), os.Getenv("UV_CACHE_DIR")} {
			must(t, removeTree(dir))
		}
		helper := build()
		must(t, helper.Start())
		moment, err := rand.Int(rand.Reader, big.NewInt(int64(whole)))
		must(t, err)
		time.Sleep(time.Duration(moment.Int64()))
		_ = syscall.Kill(-helper.Process.Pid, syscall.SIGKILL) // or it has ended
		if helper.Wait() != nil {
			interrupted++
		}
		s := open(t, Options{CacheDir: cache, UV: uv})
		env := resolve(t, s, Spec{Requirements: []string{"colour"}})
		if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
			t.Errorf("killed after %s of %s: colour %s", time.Duration(moment.Int64()), whole, got)
		}
		must(t, s.Close())
		// uv ends a moment after the engine that is killed, and until then holds
		// the lock of what it writes.
		eventually(t, "the end of what the killed build left", func() bool {
			return len(leftovers(t, open(t, Options{CacheDir: cache, UV: uv}))) == 0
		})
	}
	if interrupted == 0 {
		t.Error("no build was killed while it ran")
	}
	t.Logf("%d of %d builds of %s were killed while they ran", interrupted, kills, whole)
}

// An engine that is killed while byte code is made takes those that make it
// along: nobody is left who holds the lock.
func TestKilledWhileByteCodeIsMade(t *testing.T) {
	x := newIndex(t)
	x.extra = map[string][]byte{}
	for i := range 400 {
		x.extra[fmt.Sprintf("shades/m%d.py", i)] = []byte(strings.Repeat("def mix(a, b=(1, 2), *c):\n    return [d for d in c if a[d] > b]\n", 100))
	}
	x.add(t, "colour", "3.0")
	uv := realUV(t)
	cache := t.TempDir()
	helper := exec.Command(os.Args[0])
	helper.Env = append(os.Environ(), helperCache+"="+cache, helperUV+"="+uv)
	must(t, helper.Start())
	eventually(t, "byte code", func() bool {
		found, err := filepath.Glob(filepath.Join(cache, "envs", buildPrefix+"*", "venv", "lib", "*", "site-packages", "shades", "__pycache__", "*.pyc"))
		must(t, err)
		return len(found) > 0
	})
	must(t, helper.Process.Kill())
	if helper.Wait() == nil {
		t.Fatal("the build ended before it was killed")
	}
	s := open(t, Options{CacheDir: cache, UV: uv})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	env, err := s.Resolve(ctx, Spec{Requirements: []string{"colour"}}, nil)
	must(t, err)
	if got := python(t, env, "import colour, shades.m399, os; print(colour.version, len(os.listdir(os.path.dirname(shades.m399.__cached__))))"); got != "3.0 400" {
		t.Errorf("colour %s, want 3.0 with the byte code of 400 modules", got)
	}
}
