package envmgr

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// sourcesPerCompiler is how many bytes of sources are worth a further
// interpreter: it starts in the time in which that many are compiled.
const sourcesPerCompiler = 256 << 10

// bytecode writes byte code, since the environment cannot be written later. It
// runs no code of the packages: the interpreter that the environment was made
// from reads their sources, without their start files (-S). What is no Python
// of this version stays as it is.
//
// Each interpreter is a child of this process and ends with it. compileall's
// own processes (-j) do not: they wait for ever where theirs is killed, and
// hold the build's lock.
func (b *build) bytecode(ctx context.Context, dir string, held *os.File) error {
	shares, err := dealSources(filepath.Join(dir, "venv", "lib"), runtime.NumCPU())
	if err != nil {
		return b.failed("its byte code could not be made", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var compilers sync.WaitGroup
	for _, share := range shares {
		compilers.Go(func() {
			_, _, err := run(ctx, command{
				path: b.python.Executable, args: []string{"-I", "-S", "-m", "compileall", "-q", "-q", "-i", "-"},
				env: baseEnvironment(os.Environ()), held: held, stdin: strings.Join(share, "\n"),
			})
			if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && ctx.Err() == nil {
				cancel(b.failed("its byte code could not be made", err))
			}
		})
	}
	compilers.Wait()
	return context.Cause(ctx)
}

// dealSources lists the Python sources below dir in at most n shares of about
// the same size, the largest files first. No share is empty: compileall would
// take that for all of the interpreter's path.
func dealSources(dir string, n int) ([][]string, error) {
	type source struct {
		path string
		size int64
	}
	var sources []source
	var total int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		// Names that a line cannot hold are no modules.
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".py" || strings.ContainsAny(path, "\r\n") {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sources = append(sources, source{path, info.Size()})
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(sources, func(a, b source) int { return cmp.Compare(b.size, a.size) })
	n = min(n, len(sources), int(total/sourcesPerCompiler)+1)
	shares, sizes := make([][]string, n), make([]int64, n)
	for _, s := range sources {
		least := slices.Index(sizes, slices.Min(sizes))
		shares[least] = append(shares[least], s.path)
		sizes[least] += s.size + 1 // or empty files would all go to one
	}
	return shares, nil
}
