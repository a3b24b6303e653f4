package file

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/bmatcuk/doublestar/v4"
)

// filesMax bounds the files of one table.
const filesMax = 1_000_000

// dataFile is one file of a table.
type dataFile struct {
	path string
	// keys and values are those of its folders key=value, outermost first.
	keys   []string
	values []partitionValue
}

// partitionValue is the value of a folder key=value.
type partitionValue struct {
	text string
	null bool
}

// findFiles lists the files that paths stand for: those of each path in the
// order of their names.
func findFiles(paths []string, f format, partitions bool) ([]dataFile, error) {
	var out []dataFile
	for _, path := range paths {
		files, err := expand(path, f)
		if err != nil {
			return nil, err
		}
		root := fixedPart(path)
		for _, name := range files {
			file := dataFile{path: name}
			if partitions && name != path {
				file.keys, file.values = partitionOf(root, name)
			}
			out = append(out, file)
		}
		if len(out) > filesMax {
			return nil, diag.New(diag.BadOption, "%s stands for more than %d files", path, filesMax)
		}
	}
	return out, nil
}

// expand lists the files of one path: itself, those of a folder, or those of a
// pattern.
func expand(path string, f format) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return folderFiles(path, f)
	case err == nil:
		return []string{path}, nil
	case !strings.ContainsAny(path, "*?[{"):
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing(path)
		}
		return nil, unreadable(path, f.label(), err)
	}
	names, err := doublestar.FilepathGlob(path, doublestar.WithFailOnIOErrors(), doublestar.WithNoHidden())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, diag.New(diag.FileUnreadable, "the pattern %s cannot be followed", path).WithCause(err).
			WithHint("patterns have *, ?, [a-z], {a,b} and ** for any depth of folders")
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, unreadable(name, f.label(), err)
		case info.IsDir() && !strings.Contains(path, "**"):
			files, err := folderFiles(name, f)
			if err != nil {
				return nil, err
			}
			out = append(out, files...)
		case !info.IsDir():
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, noMatch(path)
	}
	return slices.Compact(out), nil
}

// fixedPart is a path up to its first folder with a wildcard.
func fixedPart(path string) string {
	if _, err := os.Stat(path); err == nil {
		return path
	}
	base, _ := doublestar.SplitPattern(filepath.ToSlash(path))
	return filepath.FromSlash(base)
}

// noMatch says which folder of a pattern is not there, or what there is.
func noMatch(path string) error {
	base := fixedPart(path)
	if _, err := os.Stat(base); err != nil {
		if d, ok := errors.AsType[*diag.Diagnostic](missing(base)); ok {
			d.Message = fmt.Sprintf("nothing matches %s: there is no folder %s", path, base)
			return d
		}
	}
	d := diag.New(diag.FileMissing, "nothing matches %s", path)
	entries, err := os.ReadDir(base)
	if err != nil {
		return d.WithCause(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if len(names) == 0 {
		return d.WithHint("the folder %s is empty", base)
	}
	return d.WithHint("%s holds %s", base, listed(names))
}

// folderFiles lists a folder's files and those of the folders within, sorted
// by path. What begins with a dot or an underscore is passed over.
func folderFiles(folder string, f format) ([]string, error) {
	var out, others []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return unreadable(path, f.label(), err)
		}
		if path != folder && hidden(entry.Name()) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				return nil // links to folders are not followed: they may lead in circles
			}
		} else if entry.IsDir() {
			return nil
		}
		if slices.Contains(f.extensions(), extensionOf(path)) {
			out = append(out, path)
		} else {
			others = append(others, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return nil, foreign(folder, f, others)
	}
	if len(out) == 0 {
		return nil, diag.New(diag.FileMissing, "the folder %s holds no %s files", folder, f.label()).
			WithHint("files are found by their endings: %s; a pattern reads others", strings.Join(f.extensions(), ", "))
	}
	slices.Sort(out)
	return out, nil
}

func foreign(folder string, f format, others []string) error {
	slices.Sort(others)
	for i, path := range others {
		if name, err := filepath.Rel(folder, path); err == nil {
			others[i] = name
		}
	}
	return diag.New(diag.UnexpectedFiles, "the folder %s holds files that are not %s", folder, f.label()).
		WithFact("such as %s", listed(others)).
		WithHint("a pattern picks files: %s", filepath.Join(folder, "**", "*"+f.extensions()[0]))
}

func hidden(name string) bool { return name[0] == '.' || name[0] == '_' }

// partitionOf reads the folders key=value between a root and a file.
func partitionOf(root, path string) (keys []string, values []partitionValue) {
	relative, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		return nil, nil
	}
	for part := range strings.SplitSeq(filepath.ToSlash(relative), "/") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			continue
		}
		keys = append(keys, unescape(key))
		values = append(values, partitionValue{unescape(value), value == nullPartition})
	}
	return keys, values
}

// unescape reads the percent encoding of odd characters. What is none stays.
func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}
