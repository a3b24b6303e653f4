package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

// policyFile is the form of a policy in TOML. A key that is left out has the
// value of the strictest policy.
type policyFile struct {
	Functions struct {
		Sandbox string   `toml:"sandbox"`
		Network bool     `toml:"network"`
		Read    []string `toml:"read"`
		Write   []string `toml:"write"`
		Memory  string   `toml:"memory"`
		Workers int      `toml:"workers"`
		Timeout string   `toml:"timeout"`
	} `toml:"functions"`
	Environments struct {
		Build        bool     `toml:"build"`
		SourceBuilds bool     `toml:"source_builds"`
		Interpreters []string `toml:"interpreters"`
	} `toml:"environments"`
}

// policyBytesMax bounds the file.
const policyBytesMax = 1 << 20

// readPolicy reads the policy of a server.
func readPolicy(path string) (*engine.Policy, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(data) > policyBytesMax {
		err = errors.New("it is too large to be one")
	}
	if err != nil {
		return nil, diag.New(diag.BadSetting, "the policy %s cannot be read", path).WithCause(err)
	}
	var file policyFile
	file.Functions.Sandbox = "strict"
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, badPolicy(path, data, err)
	}
	policy := &engine.Policy{
		Sandbox: file.Functions.Sandbox, Network: file.Functions.Network,
		Read: file.Functions.Read, Write: file.Functions.Write, Workers: file.Functions.Workers,
		Build: file.Environments.Build, SourceBuilds: file.Environments.SourceBuilds, Interpreters: file.Environments.Interpreters,
	}
	if text := file.Functions.Memory; text != "" {
		if policy.MemoryBytes, err = config.ParseSize(text); err != nil {
			return nil, diag.New(diag.BadSetting, "%s: memory is no size: %q", path, text).WithHint(`write it as "4GiB"`)
		}
	}
	if text := file.Functions.Timeout; text != "" {
		seconds, err := config.ParseSeconds(text)
		if err != nil {
			return nil, diag.New(diag.BadSetting, "%s: timeout is no time: %q", path, text).WithHint(`write it as "90s" or "10m"`)
		}
		policy.Timeout = time.Duration(seconds) * time.Second
	}
	if err := policy.Validate(); err != nil {
		d := diag.From(err)
		d.Message = path + ": " + strings.TrimPrefix(d.Message, "policy: ")
		return nil, d
	}
	return policy, nil
}

// badPolicy says what is wrong with a policy file, and where.
func badPolicy(path string, data []byte, err error) error {
	at := func(d *diag.Diagnostic, line, column int) *diag.Diagnostic {
		lines := strings.Split(string(data), "\n")
		d.Source = &diag.Source{File: path, Line: line, Text: lines[min(line, len(lines))-1], Column: column, EndColumn: column + 1}
		return d
	}
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		first := unknown.Errors[0]
		key := first.Key()
		line, column := first.Position()
		return at(diag.New(diag.BadSetting, "the policy %s has no key %s", path, strings.Join(key, ".")), line, column).
			WithHint("%s", diag.DidYouMean(strings.Join(key, "."), "keys", policyKeys()))
	}
	d := diag.New(diag.BadSetting, "the policy %s is not valid", path).WithCause(err)
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := e.Position()
		return at(d, line, column)
	}
	return d
}

// policyKeys are all keys of a policy file.
func policyKeys() []string {
	var keys []string
	for table := range reflect.TypeFor[policyFile]().Fields() {
		for key := range table.Type.Fields() {
			keys = append(keys, table.Tag.Get("toml")+"."+key.Tag.Get("toml"))
		}
	}
	return keys
}

// defaultPolicy is that of a server which other users may reach and that was
// given none: functions are confined as far as the machine can, and see the
// folders that plans may use.
func defaultPolicy(folders []string) (*engine.Policy, error) {
	roots := make([]string, len(folders))
	for i, folder := range folders {
		root, err := filepath.Abs(folder)
		if err == nil {
			root, err = filepath.EvalSymlinks(root)
		}
		if err != nil {
			return nil, diag.New(diag.BadOption, "plans cannot be given the folder %s", folder).WithCause(err)
		}
		roots[i] = root
	}
	return &engine.Policy{Sandbox: "auto", Read: roots, Write: roots, Build: true}, nil
}

// servedPolicy is what functions may ask of a server: what its policy file says
// or, without one, everything where only its own user reaches it. Of two bounds
// of memory the smaller holds. sourceBuilds is what the setting of that name says,
// which a policy file has a key for.
func servedPolicy(flags serveFlags, private, sourceBuilds bool) (policy *engine.Policy, err error) {
	switch {
	case flags.policy != "":
		policy, err = readPolicy(flags.policy)
	case private:
		policy = &engine.Policy{Sandbox: "off", Network: true, Read: []string{"/"}, Write: []string{"/"}, Interpreters: []string{"/"}, Build: true, SourceBuilds: sourceBuilds}
	default:
		if policy, err = defaultPolicy(flags.files); err == nil {
			policy.SourceBuilds = sourceBuilds
		}
	}
	if bound := int64(flags.functionMemory); err == nil && bound > 0 && (policy.MemoryBytes == 0 || bound < policy.MemoryBytes) {
		policy.MemoryBytes = bound
		err = policy.Validate()
	}
	return policy, err
}
