package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The numbers of system calls are those of x/sys, for both architectures.
func TestNumbers(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)$`)
	for column, goarch := range []string{"amd64", "arm64"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_"+goarch+".go"))
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]int{}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			known[strings.ToLower(m[1])], _ = strconv.Atoi(m[2])
		}
		if len(known) < 300 {
			t.Fatalf("%s: %d calls were found", goarch, len(known))
		}
		for _, c := range slices.Concat(denied, unmapped, shared, outside, []call{clone, clone3, ioctl, socket, prlimit, openat2}, moded[1], moded[2], openers[2], openers[3], scheduling, priorities) {
			want, ok := known[c.name]
			if !ok {
				want = none
			}
			if c.numbers[column] != want {
				t.Errorf("%s on %s is %d, not %d", c.name, goarch, want, c.numbers[column])
			}
		}
	}
}
