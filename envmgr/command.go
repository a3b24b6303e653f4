package envmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stdoutBytesMax bounds a lock's text.
	stdoutBytesMax = 16 << 20
	// stderrBytesMax bounds what is kept of a program's messages.
	stderrBytesMax = 256 << 10
	// killWait bounds the wait for a killed program's pipes to close.
	killWait = 5 * time.Second
	// pipeBytesMax is what a pipe takes before anybody reads, on every system.
	pipeBytesMax = 16 << 10
)

// command is a program to run to its end.
type command struct {
	path  string
	args  []string
	env   []string
	stdin string
	// held stays open in the program and its children: a file lock that ends
	// only when all of them have ended, even if this process dies first.
	held *os.File
	// config is the text of a uv.toml, which the program gets through a pipe: it
	// may hold credentials. What the program starts finds the pipe empty.
	config []byte
	// line is told each line of stderr as it comes; nil is legal.
	line func(string)
}

// run runs a program in a process group of its own, which is killed when ctx
// ends. It returns what the program wrote; too much on stdout is an error, on
// stderr it is cut.
func run(ctx context.Context, c command) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = c.env
	// Neither uv nor Python may find settings or modules in the folder that
	// the engine happens to run in.
	cmd.Dir = string(filepath.Separator)
	cmd.Stdin = strings.NewReader(c.stdin)
	out, messages := &boundedBuffer{limit: stdoutBytesMax}, &boundedBuffer{limit: stderrBytesMax, line: c.line}
	cmd.Stdout, cmd.Stderr = out, messages
	if c.held != nil {
		cmd.ExtraFiles = []*os.File{c.held}
	}
	if c.config != nil {
		pipe, err := filledPipe(c.config)
		if err != nil {
			return "", "", err
		}
		defer pipe.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, pipe)
		const firstExtra = 3
		cmd.Args = append(cmd.Args, "--config-file", fmt.Sprintf("/dev/fd/%d", firstExtra+len(cmd.ExtraFiles)-1))
	}
	cmd.SysProcAttr = processAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait

	// The signal at the parent's death follows the thread that started the
	// program, so that thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", messages.String(), context.Cause(ctx)
	}
	if err == nil && out.cut {
		err = fmt.Errorf("%s wrote more than %d bytes", filepath.Base(c.path), stdoutBytesMax)
	}
	return out.String(), messages.String(), err
}

// filledPipe is the reading end of a pipe that holds some text and is closed
// behind it. The text must fit into a pipe.
func filledPipe(text []byte) (*os.File, error) {
	if len(text) > pipeBytesMax {
		return nil, fmt.Errorf("%d bytes do not fit into a pipe", len(text))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = writer.Write(text)
	if err = errors.Join(err, writer.Close()); err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	return reader, nil
}

// boundedBuffer keeps the first limit bytes and swallows the rest, so that
// the writer never blocks. It tells whole lines as they come.
type boundedBuffer struct {
	text  strings.Builder
	limit int
	cut   bool
	line  func(string)
	begun []byte // of a line; at most stderrBytesMax
}

func (b *boundedBuffer) tell(p []byte) {
	for part := range bytes.Lines(p) {
		if len(b.begun)+len(part) <= stderrBytesMax {
			b.begun = append(b.begun, part...)
		}
		if bytes.HasSuffix(part, []byte("\n")) {
			b.line(string(bytes.TrimRight(b.begun, "\r\n")))
			b.begun = b.begun[:0]
		}
	}
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.line != nil {
		b.tell(p)
	}
	room := b.limit - b.text.Len()
	if len(p) > room {
		b.cut = true
		b.text.Write(p[:room])
	} else {
		b.text.Write(p)
	}
	return len(p), nil
}

func (b *boundedBuffer) String() string { return b.text.String() }

// inherited are the variables that reach uv and the interpreters it asks; UV_*
// reaches uv too. All others stay behind, VIRTUAL_ENV, PYTHONPATH and tokens
// among them.
var inherited = map[string]bool{
	"HOME": true, "PATH": true, "USER": true, "LOGNAME": true, "TMPDIR": true,
	"LANG": true, "LC_ALL": true, "LC_CTYPE": true,
	"XDG_CONFIG_HOME": true, "XDG_DATA_HOME": true, "XDG_CACHE_HOME": true, "XDG_CONFIG_DIRS": true,
	"LD_LIBRARY_PATH": true, "DYLD_LIBRARY_PATH": true,
}

// network are the variables that only the installer needs, in upper case;
// proxies are written in either case.
var network = map[string]bool{
	"HTTP_PROXY": true, "HTTPS_PROXY": true, "ALL_PROXY": true, "NO_PROXY": true,
	"SSL_CERT_FILE": true, "SSL_CERT_DIR": true, "SSL_CLIENT_CERT": true,
	"REQUESTS_CA_BUNDLE": true, "CURL_CA_BUNDLE": true, "NETRC": true,
}

// contradicting are the settings of uv that would change what is asked of it.
var contradicting = map[string]bool{
	"UV_PYTHON": true, "UV_PYTHON_DOWNLOADS": true, "UV_PYTHON_PREFERENCE": true, "UV_MANAGED_PYTHON": true,
	"UV_NO_MANAGED_PYTHON": true, "UV_SYSTEM_PYTHON": true, "UV_BREAK_SYSTEM_PACKAGES": true,
	"UV_PROJECT": true, "UV_PROJECT_ENVIRONMENT": true, "UV_WORKING_DIR": true, "UV_WORKING_DIRECTORY": true,
	"UV_NO_BINARY": true, "UV_NO_BINARY_PACKAGE": true, "UV_NO_BUILD": true, "UV_NO_BUILD_PACKAGE": true,
	"UV_CONSTRAINT": true, "UV_OVERRIDE": true, "UV_EXCLUDE": true, "UV_BUILD_CONSTRAINT": true,
	"UV_REQUIREMENTS": true, "UV_ENV_FILE": true, "UV_NO_VERIFY_HASHES": true, "UV_REQUIRE_HASHES": true,
	"UV_VENV_SEED": true, "UV_VENV_CLEAR": true, "UV_VENV_RELOCATABLE": true, "UV_COMPILE_BYTECODE": true,
	"UV_CUSTOM_COMPILE_COMMAND": true, "UV_PREVIEW": true, "UV_PREVIEW_FEATURES": true, "UV_INTERNAL__TEST_DIR": true,
}

// baseEnvironment are the variables an interpreter is asked under.
func baseEnvironment(environ []string) []string {
	var kept []string
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); inherited[name] {
			kept = append(kept, variable)
		}
	}
	return kept
}

// installerEnvironment are the variables uv runs under. uv's cache lies in
// the store unless the user has put it elsewhere.
func (s *Store) installerEnvironment(environ []string) []string {
	kept := baseEnvironment(environ)
	set := map[string]bool{}
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if network[strings.ToUpper(name)] || strings.HasPrefix(name, "UV_") && !contradicting[name] {
			kept = append(kept, variable)
			set[name] = true
		}
	}
	if !set["UV_CACHE_DIR"] {
		kept = append(kept, "UV_CACHE_DIR="+filepath.Join(s.options.CacheDir, "uv"))
	}
	if !set["UV_LINK_MODE"] {
		// With links a worker that writes to a file of its environment would
		// change it in every other environment and in uv's cache.
		kept = append(kept, "UV_LINK_MODE=copy")
	}
	return append(kept, "UV_PYTHON_DOWNLOADS=never", "UV_NO_PROGRESS=1", "NO_COLOR=1")
}

// buildEnvironment are the variables of a uv that builds from source: those of
// env without what may hold a credential, with a home and a cache of its own,
// so that the build neither finds anything of the user's nor leaves anything
// to other environments.
func buildEnvironment(env []string, scratch string) []string {
	replaced := map[string]string{
		"HOME": filepath.Join(scratch, "home"), "TMPDIR": filepath.Join(scratch, "tmp"), "UV_CACHE_DIR": filepath.Join(scratch, "cache"),
	}
	kept := slices.DeleteFunc(slices.Clone(env), func(variable string) bool {
		name, value, _ := strings.Cut(variable, "=")
		_, again := replaced[name]
		u, err := url.Parse(value)
		holdsLogin := err == nil && u.User != nil || err != nil && strings.Contains(value, "@")
		secret := name == "NETRC" || name == "SSL_CLIENT_CERT" || strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "UV_PUBLISH_") ||
			strings.HasSuffix(name, "_TOKEN") || strings.HasSuffix(name, "_PASSWORD")
		return again || secret || holdsLogin
	})
	for _, name := range slices.Sorted(maps.Keys(replaced)) {
		kept = append(kept, name+"="+replaced[name])
	}
	return kept
}

// exitCode is the status a program ended with, or -1.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}
