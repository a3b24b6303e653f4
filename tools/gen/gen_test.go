package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// atRoot runs the rest of the test in the repository's root, as the generator
// is.
func atRoot(t *testing.T) {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	atRoot(t)
	if err := run(true, ""); err != nil {
		t.Error(err)
	}
}

func TestCheckNamesTheStaleFileAndLeavesItAlone(t *testing.T) {
	root := t.TempDir()
	content, err := os.ReadFile(filepath.Join("..", "..", codesSource))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	for _, file := range []string{codesSource, outputs[0].path, outputs[1].path} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(codesSource, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(false, ""); err != nil {
		t.Fatal(err)
	}
	if err := run(true, ""); err != nil {
		t.Fatal(err)
	}
	stale := []byte("stale\n")
	if err := os.WriteFile(outputs[1].path, stale, 0o600); err != nil {
		t.Fatal(err)
	}
	err = run(true, "")
	if err == nil || !strings.Contains(err.Error(), outputs[1].path) || strings.Contains(err.Error(), outputs[0].path) {
		t.Errorf("the check of a stale file says %v", err)
	}
	if got, _ := os.ReadFile(outputs[1].path); !bytes.Equal(got, stale) {
		t.Error("the check changed the file")
	}
}

func TestOutputIsDeterministic(t *testing.T) {
	atRoot(t)
	for _, output := range outputs {
		first, err := output.render()
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if again, err := output.render(); err != nil || !bytes.Equal(again, first) {
				t.Fatalf("%s differs from run to run (%v)", output.path, err)
			}
		}
		if !bytes.HasPrefix(first, []byte(header)) {
			t.Errorf("%s lacks the header", output.path)
		}
		for line := range strings.Lines(string(first)) {
			if len([]rune(line)) > lineMax+1 {
				t.Errorf("%s has a line longer than %d: %s", output.path, lineMax, line)
			}
		}
	}
}

func TestDescriptorsAreComplete(t *testing.T) {
	b, err := marshalDescriptors()
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(b, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set) // fails where an import is missing
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range messages {
		name := message.ProtoReflect().Descriptor().FullName()
		if _, err := files.FindDescriptorByName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":            `""`,
		"plain é":     `"plain é"`,
		`say "yes"`:   `'say "yes"'`,
		`it's`:        `"it's"`,
		`it's "both"`: `'it\'s "both"'`,
		`back\slash`:  `"back\\slash"`,
		"tab\tand\n":  `"tab\x09and\x0a"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) is %s, not %s", in, got, want)
		}
	}
}

func TestUpperSnake(t *testing.T) {
	for in, want := range map[string]string{"Internal": "INTERNAL", "UnknownColumn": "UNKNOWN_COLUMN"} {
		if got := upperSnake(in); got != want {
			t.Errorf("upperSnake(%q) is %s, not %s", in, got, want)
		}
	}
}
