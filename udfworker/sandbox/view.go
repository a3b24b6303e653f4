package sandbox

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Bounds of what is read to find an interpreter's parts.
const (
	linksMax     = 16
	startFileMax = 1 << 20
	pathFilesMax = 1024
)

// prefixParts are the parts of a Python's prefix that hold its programs,
// libraries and packages. The rest is not shown: a virtual environment may
// stand in a project, and a Python in somebody's home.
var prefixParts = []string{
	"bin", "sbin", "lib", "lib32", "lib64", "include", "share", "etc", "ssl", "libexec", "conda-meta", "pyvenv.cfg",
}

// InterpreterPaths are the files and folders that a Python needs: its own
// prefix, that of the Python behind a virtual environment, every step of the
// links between, and what its packages that are installed as links
// ("editable") lead to. What is missing is left out.
func InterpreterPaths(interpreter string) []string {
	v := view{seen: map[string]bool{}}
	v.program(interpreter)
	return v.paths
}

type view struct {
	seen  map[string]bool
	paths []string
}

func (v *view) add(path string) {
	if _, err := os.Stat(path); err == nil && !v.seen[path] {
		v.seen[path] = true
		v.paths = append(v.paths, path)
	}
}

// program adds the prefix of a program, and of what it is a link to.
func (v *view) program(path string) {
	for range linksMax {
		v.add(path)
		v.prefix(filepath.Dir(filepath.Dir(path)))
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if target, err := filepath.EvalSymlinks(path); err == nil { // its folder may be a link
		v.prefix(filepath.Dir(filepath.Dir(target)))
	}
}

func (v *view) prefix(dir string) {
	if v.seen[dir+"/"] {
		return
	}
	v.seen[dir+"/"] = true
	for _, part := range prefixParts {
		v.add(filepath.Join(dir, part))
	}
	for _, pattern := range []string{"lib/python3*/site-packages", "lib64/python3*/site-packages"} {
		folders, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
		for _, folder := range folders {
			v.packages(folder)
		}
	}
	if home := homeOf(filepath.Join(dir, "pyvenv.cfg")); home != "" {
		v.prefix(filepath.Dir(home))
		if target, err := filepath.EvalSymlinks(home); err == nil {
			v.prefix(filepath.Dir(target))
		}
	}
}

// homeOf is the folder of the Python that a virtual environment was made of.
func homeOf(config string) string {
	file, err := os.Open(config)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(name) == "home" && filepath.IsAbs(strings.TrimSpace(value)) {
			return filepath.Clean(strings.TrimSpace(value))
		}
	}
	return ""
}

// finderPath is a path in the file by which setuptools finds an editable
// package.
var finderPath = regexp.MustCompile(`'(/[^'\n]+)'`)

// packages adds what the .pth files of a folder of packages lead to.
func (v *view) packages(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		isFinder := strings.HasPrefix(name, "__editable__") && strings.HasSuffix(name, "_finder.py")
		if !isFinder && !strings.HasSuffix(name, ".pth") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(text) > startFileMax {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch {
			case isFinder && strings.HasPrefix(line, "MAPPING"):
				for _, match := range finderPath.FindAllStringSubmatch(line, pathFilesMax) {
					v.folder(match[1])
				}
			case !isFinder && filepath.IsAbs(line):
				v.folder(line)
			}
		}
	}
}

// folder adds a folder of packages, unless it is so wide that it shows more
// than packages.
func (v *view) folder(path string) {
	path = filepath.Clean(path)
	home, err := os.UserHomeDir()
	if err == nil && (path == home || strings.HasPrefix(home, strings.TrimSuffix(path, "/")+"/")) || slices.Contains(rootFolders, path) {
		return
	}
	v.add(path)
}

// rootFolders are nobody's packages.
var rootFolders = []string{"/", "/home", "/root", "/tmp", "/var", "/etc", "/opt", "/mnt", "/media", "/srv", "/proc", "/sys", "/dev", "/run"}
