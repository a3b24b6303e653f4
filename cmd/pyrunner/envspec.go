package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/envmgr"
)

// environmentFlags are what an environment is made of, as al.Environment has
// it.
type environmentFlags struct {
	python       string
	requirements []string
	lock         string
	wheels       []string
	files        []string
	archives     []string
	indexes      []string
	sourceBuilds bool
}

func (e *environmentFlags) add(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&e.python, "version", "", "version of Python, for example 3.11")
	f.StringArrayVarP(&e.requirements, "requirements", "r", nil, "file of requirements, one a line")
	f.StringVar(&e.lock, "lock", "", "lock file: requirements with hashes, or a pylock.toml")
	f.StringArrayVar(&e.wheels, "wheel", nil, "local wheel")
	f.StringArrayVar(&e.files, "file", nil, "file or folder for functions: PATH or NAME=PATH")
	f.StringArrayVar(&e.archives, "archive", nil, "archive to unpack for functions: PATH or NAME=PATH")
	f.StringArrayVar(&e.indexes, "index", nil, "package index instead of the public one, with a login as 'https://user:${TOKEN}@host/simple'")
	f.BoolVar(&e.sourceBuilds, "source-builds", false, "build packages that have no wheel, which runs their code")
}

// spec reads what the flags name.
func (e *environmentFlags) spec(requirements []string) (envmgr.Spec, error) {
	spec := envmgr.Spec{Python: e.python, Requirements: requirements, SourceBuilds: e.sourceBuilds, AskedBy: "pyrunner env build"}
	for _, path := range e.requirements {
		lines, err := readRequirements(path, nil)
		if err != nil {
			return spec, err
		}
		spec.Requirements = append(spec.Requirements, lines...)
	}
	if e.lock != "" {
		text, err := readInput(e.lock)
		if err != nil {
			return spec, err
		}
		spec.Lock = envmgr.Lock{Name: filepath.Base(e.lock), Text: text}
	}
	for _, text := range e.indexes {
		x, err := envmgr.ParseIndex(text, os.LookupEnv)
		if err != nil {
			return spec, err
		}
		spec.Indexes = append(spec.Indexes, x)
	}
	for _, path := range e.wheels {
		file, err := givenFile(filepath.Base(path), path)
		if err != nil {
			return spec, err
		}
		spec.Wheels = append(spec.Wheels, file)
	}
	var err error
	if spec.Files, err = givenFiles(e.files); err != nil {
		return spec, err
	}
	spec.Archives, err = givenFiles(e.archives)
	return spec, err
}

// givenFiles reads PATH and NAME=PATH; a folder stands for the files in it.
func givenFiles(texts []string) ([]envmgr.File, error) {
	var files []envmgr.File
	for _, text := range texts {
		name, path, named := strings.Cut(text, "=")
		if !named {
			name, path = filepath.Base(text), text
		}
		err := filepath.WalkDir(path, func(found string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			inside, err := filepath.Rel(path, found)
			if err != nil {
				return err
			}
			file, err := givenFile(filepath.ToSlash(filepath.Join(name, inside)), found)
			files = append(files, file)
			return err
		})
		if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
			return nil, d
		}
		if err != nil {
			return nil, diag.New(diag.BadFile, "%s cannot be read", path).WithCause(err)
		}
	}
	return files, nil
}

func givenFile(name, path string) (envmgr.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return envmgr.File{}, diag.New(diag.BadFile, "%s cannot be read", path).WithCause(err)
	}
	defer func() { _ = in.Close() }() // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return envmgr.File{}, diag.New(diag.BadFile, "%s cannot be read", path).WithCause(err)
	}
	absolute, err := filepath.Abs(path)
	return envmgr.File{Name: name, SHA256: hex.EncodeToString(hash.Sum(nil)), Path: absolute}, err
}

// includesMax bounds the files of requirements that one takes in with -r.
const includesMax = 20

// readRequirements reads a file of requirements, one a line, with comments, and
// those that it takes in with -r. within are the files that have led there.
func readRequirements(path string, within []string) ([]string, error) {
	if slices.Contains(within, path) || len(within) > includesMax {
		return nil, diag.New(diag.BadOption, "%s takes itself in with -r", path)
	}
	text, err := readInput(path)
	if err != nil {
		return nil, err
	}
	var out []string
	number := 0
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		number++
		line, _, _ = strings.Cut(" "+line, " #")
		line = strings.TrimSpace(line)
		option, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "":
		case option == "-r" || option == "--requirement":
			included := strings.TrimSpace(rest)
			if !filepath.IsAbs(included) {
				included = filepath.Join(filepath.Dir(path), included)
			}
			lines, err := readRequirements(included, append(slices.Clone(within), path))
			if err != nil {
				return nil, err
			}
			out = append(out, lines...)
		case strings.HasPrefix(line, "-") || strings.Contains(line, " --"):
			return nil, refusedOption(path, number, line)
		default:
			out = append(out, line)
		}
	}
	return out, nil
}

// refusedOption names an option and not its value, which may hold a password.
func refusedOption(path string, number int, line string) error {
	option := ""
	for word := range strings.FieldsSeq(line) {
		if strings.HasPrefix(word, "-") {
			option, _, _ = strings.Cut(word, "=")
			break
		}
	}
	hint := "leave it out"
	switch option {
	case "--hash":
		hint = "a list with hashes is a lock file: --lock " + path
	case "-i", "--index-url", "--extra-index-url", "--no-index":
		hint = "name the index: --index https://host/simple"
	case "-f", "--find-links":
		hint = "give local wheels with --wheel"
	}
	return diag.New(diag.BadOption, "line %d of %s has the option %s", number, path, option).WithHint("%s", hint)
}

// entryText is a line that says what an entry of the cache is.
func entryText(e envmgr.Entry) string {
	if e.Python == "" {
		return fmt.Sprintf("%s (%s, %s)", e.ID, count(len(e.Files), "file"), bytesText(e.SizeBytes))
	}
	return fmt.Sprintf("%s (Python %s, %s, %s)", e.ID, e.Python, count(e.Packages, "package"), bytesText(e.SizeBytes))
}

// wants is what an entry was made of, in a line.
func wants(e envmgr.Entry) string {
	parts := slices.Clone(e.Requirements)
	if e.Lock != "" {
		parts = append([]string{e.Lock}, parts...)
	}
	return strings.Join(append(parts, e.Files...), " ")
}
