package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a setting's value is.
type Kind string

// The kinds.
const (
	// Size is a number of bytes: 1073741824 or "1GiB".
	Size Kind = "size"
	// Count is a whole number of at least 1.
	Count Kind = "count"
	// Path is a file or folder; a relative one starts at the folder of the
	// file that it stands in, or at the working directory.
	Path Kind = "path"
	// Text is any text.
	Text Kind = "text"
	// Choice is one of a few words.
	Choice Kind = "choice"
	// Switch is true or false.
	Switch Kind = "switch"
	// Seconds is a span of time in whole seconds, or as "30s", "5m".
	Seconds Kind = "seconds"
)

// Key is a setting.
type Key struct {
	// Name is its name in files. Its flag is the same with hyphens.
	Name     string
	Variable string
	Kind     Kind
	Choices  []string
	// Default is what holds when nobody has set it; "" leaves the choice to
	// whoever uses it, as Automatic says in words.
	Default   string
	Automatic string
	Summary   string
}

// Keys are all settings. The Python client's table is made from it (make
// generate).
var Keys = []Key{
	{Name: "memory", Variable: "ALINK_MEMORY", Kind: Size, Automatic: "half of the machine's", Summary: "memory that relational work may hold before it spills"},
	{Name: "worker_memory", Variable: "ALINK_WORKER_MEMORY", Kind: Size, Automatic: "the machine's", Summary: "memory that all workers together may hold, by their limits"},
	{Name: "parallelism", Variable: "ALINK_PARALLELISM", Kind: Count, Automatic: "the number of cores", Summary: "subtasks and workers of a step"},
	{Name: "spill_dir", Variable: "ALINK_SPILL_DIR", Kind: Path, Automatic: "in the engine's own folder", Summary: "folder for data beyond memory"},
	{Name: "cache_dir", Variable: "ALINK_CACHE_DIR", Kind: Path, Automatic: "alink in the user's cache directory", Summary: "folder in which environments are kept"},
	{Name: "cache_limit", Variable: "ALINK_CACHE_LIMIT", Kind: Size, Default: "10GiB", Summary: "size to which env gc brings the cache"},
	{Name: "uv", Variable: "ALINK_UV", Kind: Path, Automatic: "beside the interpreter or on PATH", Summary: "path of uv, which builds environments"},
	{Name: "offline", Variable: "ALINK_OFFLINE", Kind: Switch, Default: "false", Summary: "build environments from uv's cache only"},
	{Name: "source_builds", Variable: "ALINK_SOURCE_BUILDS", Kind: Switch, Automatic: "true, but false of serve", Summary: "let environments ask for packages to be built from source"},
	{Name: "sandbox", Variable: "ALINK_SANDBOX", Kind: Choice, Choices: []string{"auto", "strict", "off"}, Default: "auto", Summary: "how workers are confined"},
	{Name: "launcher", Variable: "ALINK_LAUNCHER", Kind: Text, Automatic: "none: the sandbox", Summary: "command of a site's own launcher of workers, used instead of the sandbox"},
	{Name: "lane", Variable: "ALINK_LANE", Kind: Choice, Choices: []string{"local", "portable"}, Default: "local", Summary: "how workers are reached: shared memory, or Beam's gRPC services"},
	{Name: "progress", Variable: "ALINK_PROGRESS", Kind: Choice, Choices: []string{"auto", "plain", "off"}, Default: "auto", Summary: "how a job's progress is shown"},
	{Name: "python", Variable: "ALINK_PYTHON", Kind: Path, Automatic: "of VIRTUAL_ENV, or on PATH", Summary: "the Python that run starts scripts with"},
	{Name: "server", Variable: "ALINK_SERVER", Kind: Text, Automatic: "none: connect() starts an engine of its own", Summary: "address of the server that connect() and jobs use"},
	{Name: "token_file", Variable: "ALINK_TOKEN_FILE", Kind: Path, Automatic: "none", Summary: "file with the token that serve asks for and clients bear"},
	{Name: "tls_ca", Variable: "ALINK_TLS_CA", Kind: Path, Automatic: "the system's", Summary: "certificates (PEM) that the server's is checked with"},
	{Name: "listen", Variable: "ALINK_LISTEN", Kind: Text, Automatic: "a socket in the user's runtime directory", Summary: "where serve takes clients: unix:PATH or HOST:PORT"},
	{Name: "http", Variable: "ALINK_HTTP", Kind: Text, Automatic: "off", Summary: "where serve has health, metrics and dashboard: HOST:PORT"},
	{Name: "tls_cert", Variable: "ALINK_TLS_CERT", Kind: Path, Automatic: "none", Summary: "the server's certificate (PEM)"},
	{Name: "tls_key", Variable: "ALINK_TLS_KEY", Kind: Path, Automatic: "none", Summary: "the certificate's private key (PEM)"},
	{Name: "grace", Variable: "ALINK_GRACE", Kind: Seconds, Default: "30s", Summary: "time that running jobs get when serve is ended"},
}

// otherVariables begin like settings and are none: how programs of ours find
// one another.
var otherVariables = []string{"ALINK_PYRUNNER", "ALINK_PARAMS", "ALINK_JOBS_FILE", "ALINK_TOKEN", "ALINK_TEST_PYTHON"}

// Find finds a setting by its name.
func Find(name string) (Key, bool) {
	i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return Keys[i], true
}

// Names are the names of all settings.
func Names() []string {
	names := make([]string, len(Keys))
	for i, k := range Keys {
		names[i] = k.Name
	}
	return names
}

// Flag is the setting's flag, without the hyphens in front.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// read checks a value (of TOML, or a text) and gives it as text.
func (k Key) read(value any, dir string) (string, error) {
	text, ok := value.(string)
	if !ok {
		switch v := value.(type) {
		case int64:
			if k.Kind != Size && k.Kind != Count && k.Kind != Seconds {
				return "", errKind
			}
			text = strconv.FormatInt(v, 10)
		case bool:
			if k.Kind != Switch {
				return "", errKind
			}
			text = strconv.FormatBool(v)
		default:
			return "", errKind
		}
	}
	return k.readText(text, dir)
}

var errKind = errors.New("of another kind")

func (k Key) readText(text, dir string) (string, error) {
	switch k.Kind {
	case Size, Count, Seconds:
		_, err := k.number(text)
		return text, err
	case Switch:
		switch strings.ToLower(text) {
		case "true", "1", "yes", "on":
			return "true", nil
		case "false", "0", "no", "off":
			return "false", nil
		}
		return "", errKind
	case Choice:
		if !slices.Contains(k.Choices, text) {
			return "", errKind
		}
	case Path:
		if text == "" || strings.ContainsRune(text, 0) {
			return "", errKind
		}
		if !filepath.IsAbs(text) && dir != "" {
			text = filepath.Join(dir, text)
		}
		return filepath.Abs(text)
	case Text:
		if text == "" {
			return "", errKind
		}
	}
	return text, nil
}

var (
	sizePattern = regexp.MustCompile(`(?i)^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$`)
	sizeUnits   = map[string]float64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}
	secondUnits = map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}
)

// Limits of what a setting can be.
const (
	sizeBytesMax   = 1 << 50
	secondsMax     = 7 * 24 * 3600
	ParallelismMax = 256
)

// number reads a Size as bytes, a Count, or Seconds.
func (k Key) number(text string) (int64, error) {
	match := sizePattern.FindStringSubmatch(text)
	if match == nil {
		return 0, errKind
	}
	number, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return 0, err
	}
	unit := strings.ToLower(match[2])
	switch k.Kind {
	case Size:
		factor, ok := sizeUnits[unit]
		if n := number * factor; ok && n >= 1 && n <= sizeBytesMax {
			return int64(n), nil
		}
	case Seconds:
		factor, ok := secondUnits[unit]
		if n := number * factor; ok && n <= secondsMax {
			return int64(n), nil
		}
	case Count:
		n, err := strconv.ParseInt(match[1], 10, 32)
		if err == nil && unit == "" && n >= 1 && n <= ParallelismMax {
			return n, nil
		}
	}
	return 0, errKind
}

// ParseSize reads a number of bytes as settings of that kind are written.
func ParseSize(text string) (int64, error) {
	n, err := Key{Kind: Size}.number(text)
	if err != nil {
		return 0, fmt.Errorf("it must be %s", Key{Kind: Size}.expected())
	}
	return n, nil
}

// ParseSeconds reads a span of time: "30s", "5m", a number of seconds.
func ParseSeconds(text string) (int64, error) {
	n, err := Key{Kind: Seconds}.number(text)
	if err != nil {
		return 0, fmt.Errorf("it must be %s", Key{Kind: Seconds}.expected())
	}
	return n, nil
}

// expected says in words what a value must be.
func (k Key) expected() string {
	switch k.Kind {
	case Size:
		return "a number of bytes"
	case Count:
		return fmt.Sprintf("a whole number from 1 to %d", ParallelismMax)
	case Seconds:
		return "a number of seconds"
	case Switch:
		return "true or false"
	case Choice:
		return strings.Join(k.Choices[:len(k.Choices)-1], ", ") + " or " + k.Choices[len(k.Choices)-1]
	case Path:
		return "a path"
	}
	return "a text that is not empty"
}

// example is how a value is written.
func (k Key) example() string {
	switch k.Kind {
	case Size:
		return `write it as "512MiB" or "4GB"`
	case Count:
		return "write it as 4"
	case Seconds:
		return `write it as 30, "30s" or "5m"`
	}
	return ""
}
