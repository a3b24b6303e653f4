package udfworker

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/grant"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

func TestTemplate(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := sandbox.Spec{
		Visible: []string{"/usr/bin/python3", "/opt/env"}, Optional: []string{there, filepath.Join(dir, "none")},
		Writable: []string{"/s"}, Mounts: []grant.Mount{{Path: "/data"}, {Path: "/out", Write: true}, {Path: "/opt/env/lib"}},
	}
	command := []string{"/usr/bin/python3", "-I", "/h/boot.py"}
	for text, want := range map[string]string{
		"sh {command}": "sh|/usr/bin/python3|-I|/h/boot.py",
		`sh "-c x y" --at={scratch} -- {command} last`:                        "sh|-c x y|--at=/s|--|/usr/bin/python3|-I|/h/boot.py|last",
		"sh [--ro-bind {visible} {visible}] [--rw={writable}] {command}":      "sh|--ro-bind|/data|/data|--ro-bind|/opt/env|/opt/env|--ro-bind|" + there + "|" + there + "|--ro-bind|/usr/bin/python3|/usr/bin/python3|--rw=/out|--rw=/s|/usr/bin/python3|-I|/h/boot.py",
		"sh [--share-net {network}] [--unshare-net {no-network}] {command}":   "sh|--unshare-net|/usr/bin/python3|-I|/h/boot.py",
		"sh [{network} --share-net] [--no {no-network} --net] \"\" {command}": "sh|--no|--net||/usr/bin/python3|-I|/h/boot.py",
	} {
		template, err := ParseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := strings.Join(template.argv(command, "/s", spec), "|")
		if sorted := func(s string) string { w := strings.Split(s, "|"); slices.Sort(w); return strings.Join(w, "|") }; sorted(got) != sorted(want) {
			t.Errorf("%s\n%s\nwant\n%s", text, got, want)
		}
	}
	spec.Network = true
	template, err := ParseTemplate("sh [--share-net {network}] [--unshare-net {no-network}] {command}")
	if err != nil || !slices.Contains(template.argv(command, "/s", spec), "--share-net") || slices.Contains(template.argv(command, "/s", spec), "--unshare-net") {
		t.Errorf("with the network: %v", err)
	}
	if none, err := ParseTemplate("  "); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}

func TestTemplateRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"sh":                                  "{command} must stand in it once, as a word of its own, not 0 times",
		"sh {command} {command}":              "not 2 times",
		"sh -c={command}":                     "must be a word of its own",
		"sh [{command} {visible}]":            "outside of brackets",
		"{command}":                           "must begin with a program",
		"no-such-launcher {command}":          "there is no program no-such-launcher",
		"sh {visible} {command}":              "must stand in brackets",
		"sh [--x] {command}":                  "must hold one of",
		"sh [{visible} {writable}] {command}": "must hold one of",
		"sh [--n={network}] {command}":        "words of their own",
		"sh [a {visible} {command}":           "outside of brackets",
		"sh {command} [a {visible}":           "a bracket is not closed",
		"sh a] {command}":                     "brackets do not match",
		"sh [a [{visible}] {command}":         "brackets do not match",
		"sh {visibel} {command}":              "no placeholder {visibel}",
		`sh "{command}`:                       "a quote is not closed",
	} {
		_, err := ParseTemplate(text)
		d, ok := errors.AsType[*diag.Diagnostic](err)
		if !ok || d.Code != diag.BadOption || !strings.Contains(d.Message, says) || d.Hint == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, err := ParseTemplate("sh {visibel} {command}")
	if d := diag.From(err); !strings.Contains(d.Hint, "{visible}") {
		t.Error(d.Hint)
	}
}
