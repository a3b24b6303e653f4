package diag

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/*.txt anew")

// TestRender renders every testdata/*.json. The Python client renders the same
// files (python/tests/test_diag.py), so that both sides write the same texts.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var d Diagnostic
			if err := json.Unmarshal(data, &d); err != nil {
				t.Fatal(err)
			}
			got := d.Render() + "\n"
			golden := strings.TrimSuffix(file, ".json") + ".txt"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestJSONRoundTrip reads the wire form of what was read and finds the same.
func TestJSONRoundTrip(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var first, second Diagnostic
		if err := json.Unmarshal(data, &first); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(first.JSON(), &second); err != nil {
			t.Fatal(err)
		}
		if string(first.JSON()) != string(second.JSON()) || first.Render() != second.Render() {
			t.Errorf("%s: not the same after a round trip", file)
		}
	}
}

// TestDidYouMean is testdata/suggest.txt: name, candidates, hint.
func TestDidYouMean(t *testing.T) {
	data, err := os.ReadFile("testdata/suggest.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.Split(strings.TrimRight(line, "\n"), " | ")
		if len(parts) != 3 {
			t.Fatalf("line %q has %d parts, want 3", line, len(parts))
		}
		if got := DidYouMean(parts[0], "columns", strings.Fields(parts[1])); got != parts[2] {
			t.Errorf("%s among %s: got %q, want %q", parts[0], parts[1], got, parts[2])
		}
	}
}
