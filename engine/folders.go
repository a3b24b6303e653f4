package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// folders are those that plans may read and write, with what lies in them. It
// holds back a plan that names other files, not a Python function: workers are
// not confined.
type folders struct {
	restricted bool
	// named are the folders as they were given, roots what they are when links
	// have been followed.
	named, roots []string
}

func openFolders(o Options) (*folders, error) {
	f := &folders{restricted: o.RestrictFiles}
	for _, name := range o.Folders {
		root, err := filepath.Abs(name)
		if err == nil {
			root, err = filepath.EvalSymlinks(root)
		}
		if err == nil {
			if info, statErr := os.Stat(root); statErr != nil || !info.IsDir() {
				err = errors.Join(statErr, errors.New("it is not a folder"))
			}
		}
		if err != nil {
			return nil, diag.New(diag.BadOption, "plans cannot be given the folder %s", name).WithCause(err)
		}
		f.named, f.roots = append(f.named, name), append(f.roots, root)
	}
	return f, nil
}

// checkPlan refuses a plan that names files outside, before anything is
// looked at. What patterns and folders stand for is checked when it has been
// found.
func (f *folders) checkPlan(p *plan.Plan) error {
	if !f.restricted {
		return nil
	}
	for _, n := range p.Nodes {
		for _, path := range pathsOf(n.Op) {
			if err := f.check(path); err != nil {
				return diag.From(err).At(n.Op.Name(), n.Origin)
			}
		}
	}
	return nil
}

// pathsOf are the paths that an operator names; of a pattern, the part that is
// fixed.
func pathsOf(op plan.Op) []string {
	switch op := op.(type) {
	case plan.FileScan:
		paths := slices.Clone(op.Scanned().List())
		for i, path := range paths {
			if at := strings.IndexAny(path, "*?[{"); at >= 0 && !strings.Contains(path, "..") {
				if _, err := os.Lstat(path); err != nil {
					paths[i] = path[:strings.LastIndexByte(path[:at], '/')+1]
				}
			}
		}
		return paths
	case plan.WriteParquet:
		if op.Checkpoint != nil {
			return []string{op.Path, op.Checkpoint.Dir}
		}
		return []string{op.Path}
	case plan.WriteCSV:
		return []string{op.Path}
	case plan.WriteJSON:
		return []string{op.Path}
	}
	return nil
}

// check refuses a path that leads outside.
func (f *folders) check(path string) error {
	if !f.restricted {
		return nil
	}
	target, err := destination(path)
	if err != nil {
		return f.refusal(path).WithCause(err)
	}
	for _, root := range f.roots {
		if inside, err := filepath.Rel(root, target); err == nil && filepath.IsLocal(inside) {
			return nil
		}
	}
	d := f.refusal(path)
	if target != filepath.Clean(path) {
		d.WithFact("it leads to %s", target)
	}
	return d
}

func (f *folders) refusal(path string) *diag.Diagnostic {
	d := diag.New(diag.FileNotAllowed, "the server does not let plans use %s", path)
	if len(f.named) == 0 {
		return d.WithHint("send tables with from_arrow and fetch results with to_arrow, or have the server started with --files DIR")
	}
	return d.WithFact("plans may use files in %s, on the server's disk", strings.Join(f.named, ", ")).
		WithHint("name a file there, or have the server started with --files %s", filepath.Dir(path))
}

// destination is where a path leads when links are followed. What does not
// exist yet lies in what does.
func destination(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("it is not an absolute path")
	}
	if slices.Contains(strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/{},", r) }), "..") {
		return "", errors.New(`it contains ".."`)
	}
	path = filepath.Clean(path)
	missing := ""
	for {
		target, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(target, missing), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a link to what does not exist", path)
		}
		if filepath.Dir(path) == path {
			return "", err
		}
		path, missing = filepath.Dir(path), filepath.Join(filepath.Base(path), missing)
	}
}
