// Package config reads the settings that command line, client and engine
// share. A setting is looked for in this order: a flag, its ALINK_* variable,
// alink.toml of the working directory or else [tool.alink] of its
// pyproject.toml, the default. Every value knows where it came from. The
// package imports diag and a TOML reader.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// Files are the names of the files that are read, in this order; the first
// that has settings is the one.
const (
	ownFile     = "alink.toml"
	projectFile = "pyproject.toml"
)

// fileBytesMax bounds a file of settings.
const fileBytesMax = 1 << 20

// DefaultOrigin is the origin of a value that nobody has set.
const DefaultOrigin = "default"

// Value is the value of a setting.
type Value struct {
	// Text is the value as it was written; "" is "not set" and leaves the
	// choice to whoever uses the setting.
	Text string
	// Origin is where it was written: "--memory", "ALINK_MEMORY",
	// "alink.toml:3" or DefaultOrigin.
	Origin string
}

// Settings are the values of all keys.
type Settings struct {
	values map[string]Value
}

// Load reads the settings for a working directory and an environment, which
// is a list of NAME=value.
func Load(dir string, environ []string) (*Settings, error) {
	s := &Settings{values: map[string]Value{}}
	entries, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		key, ok := Find(e.name)
		if !ok {
			return nil, e.bad("there is no setting %q", e.name).WithHint("%s", diag.DidYouMean(e.name, "settings", Names()))
		}
		text, err := key.read(e.value, dir)
		if err != nil {
			return nil, e.bad("%s must be %s, not %s", e.name, key.expected(), e.shown()).WithHint("%s", key.example())
		}
		s.values[key.Name] = Value{text, fmt.Sprintf("%s:%d", filepath.Base(e.file), e.line)}
	}
	for _, assignment := range environ {
		name, text, _ := strings.Cut(assignment, "=")
		i := slices.IndexFunc(Keys, func(k Key) bool { return k.Variable == name })
		if i < 0 || text == "" {
			continue
		}
		if err := s.Set(Keys[i].Name, text, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Set gives a setting a value that was written as text: in a flag, in a
// variable. A path in it starts at the process's working directory.
func (s *Settings) Set(name, text, origin string) error {
	key, ok := Find(name)
	if !ok {
		return diag.New(diag.BadSetting, "there is no setting %q", name).WithHint("%s", diag.DidYouMean(name, "settings", Names()))
	}
	value, err := key.read(text, "")
	if err != nil {
		return diag.New(diag.BadSetting, "%s must be %s, not %q", origin, key.expected(), text).WithHint("%s", key.example())
	}
	s.values[name] = Value{value, origin}
	return nil
}

// Value gives a setting, with its default where nobody has set it.
func (s *Settings) Value(name string) Value {
	if v, ok := s.values[name]; ok {
		return v
	}
	key, ok := Find(name)
	if !ok {
		panic("config: no setting " + name) // a fault of the caller, not of the user
	}
	return Value{key.Default, DefaultOrigin}
}

// Text gives a setting as it was written; "" where nobody has set it and it
// has no default.
func (s *Settings) Text(name string) string { return s.Value(name).Text }

// Number gives a count, or a size in bytes; 0 is "not set".
func (s *Settings) Number(name string) int64 {
	key, _ := Find(name)
	n, err := key.number(s.Text(name))
	if err != nil {
		return 0 // only "": whatever was set has been read before
	}
	return n
}

// Switch gives a setting that is true or false.
func (s *Settings) Switch(name string) bool { return s.Text(name) == "true" }

// Strangers are the variables of an environment that look like settings and
// are none. Some belong to other programs: they are told of, not refused.
func Strangers(environ []string) []string {
	var found []string
	for _, assignment := range environ {
		name, _, _ := strings.Cut(assignment, "=")
		known := slices.ContainsFunc(Keys, func(k Key) bool { return k.Variable == name }) || slices.Contains(otherVariables, name)
		if strings.HasPrefix(name, "ALINK_") && !known {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// entry is a setting as it stands in a file.
type entry struct {
	file  string
	line  int
	text  string // the line
	name  string
	value any
}

func (e entry) bad(format string, args ...any) *diag.Diagnostic {
	d := diag.New(diag.BadSetting, "%s: %s", filepath.Base(e.file), fmt.Sprintf(format, args...))
	d.Source = &diag.Source{File: e.file, Line: e.line, Text: e.text}
	return d
}

func (e entry) shown() string {
	if text, ok := e.value.(string); ok {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprint(e.value)
}

// readFiles gives what the file of settings says; nothing if there is none.
func readFiles(dir string) ([]entry, error) {
	for _, file := range []struct {
		name   string
		tables []string
	}{{ownFile, nil}, {projectFile, []string{"tool", "alink"}}} {
		path := filepath.Join(dir, file.name)
		data, err := readSmall(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, diag.New(diag.BadSetting, "%s cannot be read", path).WithCause(err)
		}
		entries, found, err := parse(path, data, file.tables)
		if err != nil || found {
			return entries, err
		}
	}
	return nil, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("it has %d bytes; the limit is %d", info.Size(), fileBytesMax)
	}
	return os.ReadFile(path)
}
