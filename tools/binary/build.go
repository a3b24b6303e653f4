package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compat stands in for what newer C libraries have and older ones lack.
//
//go:embed compat/arc4random.c
var compat []byte

// toolchain calls the go command.
type toolchain struct{ command string }

// output gives what a go command prints.
func (t toolchain) output(arguments ...string) ([]byte, error) {
	command := exec.Command(t.command, arguments...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", t.command, strings.Join(arguments, " "), err, stderr.Bytes())
	}
	return printed, nil
}

// environment gives variables of `go env`, each "" where it is not set.
func (t toolchain) environment(names ...string) ([]string, error) {
	printed, err := t.output(append([]string{"env"}, names...)...)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(printed), "\n"), "\n"), nil
}

// build compiles and links the binary. The same tree gives the same bytes,
// wherever it lies.
func build(t toolchain, output string, ship bool) error {
	scratch, err := os.MkdirTemp("", "alink-build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	static, err := staticRuntime(t, scratch)
	if err != nil && ship {
		return err
	}
	// Without a build ID, which would depend on the folder of the linker's flags.
	ldflags := "-s -w -buildid="
	if len(static) > 0 {
		ldflags += " '-extldflags=" + strings.Join(static, " ") + "'"
	}
	if commit := commitHere(); commit != "" {
		ldflags += " -X main.commit=" + commit
	}
	command := exec.Command(t.command, "build", "-trimpath", "-ldflags", ldflags, "-o", output, target)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	return command.Run()
}

// commitHere is the commit of the working directory, with a mark if it has
// changes; "" where it is not the root of a repository: an archive that was
// unpacked within another one does not have that one's commit. Go's own stamp
// would not do: it does not know linked worktrees, whose .git is a file.
func commitHere() string {
	printed, err := exec.Command("git", "rev-parse", "HEAD", "--show-prefix").Output()
	fields := strings.Fields(string(printed))
	if err != nil || len(fields) != 1 {
		return ""
	}
	if changes, err := exec.Command("git", "status", "--porcelain").Output(); err != nil || len(changes) > 0 {
		return fields[0] + "+changes"
	}
	return fields[0]
}

// staticRuntime gives the flags by which the linker takes libstdc++ from its
// archive. "-static-libstdc++" would not do: DuckDB's binding names -lstdc++
// itself, so the archive is put into a folder that the linker looks at before
// its own. There are none where the binary is built without C++.
func staticRuntime(t toolchain, scratch string) ([]string, error) {
	settings, err := t.environment("GOOS", "CGO_ENABLED", "CC")
	if err != nil {
		return nil, err
	}
	goos, cgo, cc := settings[0], settings[1], strings.Fields(settings[2])
	if goos != "linux" || cgo != "1" || len(cc) == 0 {
		return nil, nil
	}
	call := func(arguments ...string) ([]byte, error) {
		return exec.Command(cc[0], append(cc[1:len(cc):len(cc)], arguments...)...).CombinedOutput()
	}
	const archive = "libstdc++.a"
	printed, err := call("-print-file-name=" + archive)
	path := strings.TrimSpace(string(printed))
	if err != nil || !filepath.IsAbs(path) { // only the name: there is none
		return nil, fmt.Errorf("%s has no %s; install it (it comes with g++, on Fedora as libstdc++-static)", cc[0], archive)
	}
	if err := os.Symlink(path, filepath.Join(scratch, archive)); err != nil {
		return nil, err
	}
	source, object := filepath.Join(scratch, "compat.c"), filepath.Join(scratch, "compat.o")
	if err := os.WriteFile(source, compat, 0o600); err != nil {
		return nil, err
	}
	if printed, err := call("-O2", "-fPIC", "-c", source, "-o", object); err != nil {
		return nil, fmt.Errorf("%s cannot compile: %w\n%s", cc[0], err, printed)
	}
	// Quoted, as a temporary folder may have spaces in its name.
	return []string{`"-L` + scratch + `"`, `"` + object + `"`}, nil
}
