package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// bundled are the notices of what comes as object code, without licence files
// of its own: the parts of DuckDB's static libraries, and libstdc++. DuckDB's
// are those of its source code at v1.5.5.
//
//go:embed notices
var bundled embed.FS

// licenceFile matches the files that a part's terms stand in.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|copyright|notices?|patents)([-._].*)?$`)

// part is a module that is linked into the binary, or Go's own library.
type part struct {
	name, version string
	// files are the texts of its terms, by their path within it.
	files map[string][]byte
}

// goPackage is the part of go list's answer that matters here.
type goPackage struct {
	Dir      string
	Standard bool
	Module   *goModule
}

type goModule struct {
	Path, Version, Dir string
	Main               bool
	Replace            *goModule
}

// linkedParts finds all that is linked into the binary, sorted by name.
func linkedParts(t toolchain) ([]part, error) {
	printed, err := t.output("list", "-deps", "-json=Dir,Standard,Module", target)
	if err != nil {
		return nil, err
	}
	roots, err := t.environment("GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	parts := map[string]*part{}
	decoder := json.NewDecoder(bytes.NewReader(printed))
	for {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		name, version, root := "Go's standard library", roots[1], roots[0]
		if !p.Standard {
			if p.Module == nil || p.Module.Main {
				continue
			}
			module := p.Module
			name, version = module.Path, module.Version
			if module.Replace != nil {
				module = module.Replace
			}
			root = module.Dir
		}
		if parts[name] == nil {
			parts[name] = &part{name: name, version: version, files: map[string][]byte{}}
		}
		if err := parts[name].collect(root, p.Dir); err != nil {
			return nil, err
		}
	}
	sorted := make([]part, 0, len(parts))
	for _, p := range parts {
		sorted = append(sorted, *p)
	}
	slices.SortFunc(sorted, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return sorted, nil
}

// collect reads the terms that hold for a folder of a part: those in the
// folder and in the ones above it, up to the part's root.
func (p *part) collect(root, dir string) error {
	for {
		within, err := filepath.Rel(root, dir)
		if err != nil || strings.HasPrefix(within, "..") {
			return fmt.Errorf("%s: %s is not in %s", p.name, dir, root)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			path := filepath.ToSlash(filepath.Join(within, entry.Name()))
			if entry.IsDir() || !licenceFile.MatchString(entry.Name()) || filepath.Ext(path) == ".go" {
				continue
			}
			if p.files[path], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
		if within == "." {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// licensed tells whether one of the part's files is more than a notice.
func (p *part) licensed() bool {
	for path := range p.files {
		name := strings.ToLower(filepath.Base(path))
		if strings.HasPrefix(name, "licen") || strings.HasPrefix(name, "copying") {
			return true
		}
	}
	return false
}

// unlicensed names the parts that come without terms.
func unlicensed(parts []part) error {
	var names []string
	for _, p := range parts {
		if !p.licensed() {
			names = append(names, p.name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("no licence was found for: %s", strings.Join(names, ", "))
	}
	return nil
}

// checkNotices fails if a part has no terms or is not named in the file.
func checkNotices(t toolchain, file string) error {
	parts, err := linkedParts(t)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return errors.Join(unlicensed(parts), unnamed(parts, string(text)))
}

// unnamed names the modules that a text does not: neither their path nor that
// of a folder above it stands there as a word.
func unnamed(parts []part, text string) error {
	words := map[string]bool{}
	for _, word := range strings.Fields(text) {
		words[strings.TrimPrefix(strings.Trim(word, ",.;"), "https://")] = true
	}
	var names []string
	for _, p := range parts {
		if !strings.Contains(p.name, "/") { // Go itself
			continue
		}
		path := p.name
		for path != "." && !words[path] {
			path = filepath.Dir(path)
		}
		if path == "." {
			names = append(names, p.name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("NOTICE does not name: %s", strings.Join(names, ", "))
	}
	return nil
}

// writeNotices writes the terms of all that is linked into the binary.
func writeNotices(t toolchain, file string) error {
	parts, err := linkedParts(t)
	if err != nil {
		return err
	}
	if err := unlicensed(parts); err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString("The licences and notices of what the engine's binary contains besides alink itself.\n")
	for _, p := range parts {
		writePart(&out, strings.TrimSpace(p.name+" "+p.version), p.files)
	}
	err = fs.WalkDir(bundled, "notices", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := bundled.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "notices/"), ".txt")
		if inDuckDB, yes := strings.CutPrefix(name, "duckdb/"); yes {
			name = inDuckDB + ", within DuckDB"
		}
		writePart(&out, name, map[string][]byte{"": text})
		return nil
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func writePart(out *bytes.Buffer, title string, files map[string][]byte) {
	fmt.Fprintf(out, "\n%s\n%s\n", strings.Repeat("=", 80), title)
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		fmt.Fprintf(out, "%s\n%s\n\n%s\n", strings.Repeat("-", 80), path, bytes.TrimSpace(files[path]))
	}
}
