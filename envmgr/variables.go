package envmgr

import (
	"regexp"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

const (
	// FilesVariable names the folder of an environment's files in workers.
	FilesVariable = "ALINK_FILES"
	// variablesBytesMax bounds the variables of an environment: they travel to
	// workers in a line that must fit into a pipe.
	variablesBytesMax = 8 << 10
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reservedVariables are the worker's own, and reservedPrefixes begin the names
// of those that the interpreter and its loader read before a worker can set
// them, or that are ours.
var (
	reservedVariables = []string{"HOME", "TMPDIR", "IFS"}
	reservedPrefixes  = []string{"PYTHON", "LD_", "DYLD_", "ALINK_", "GRPC_", "GLIBC_TUNABLES", "MALLOC_"}
)

// checkVariables refuses what a worker cannot have. It never repeats a value.
func checkVariables(variables map[string]string) error {
	size := 0
	for name, value := range variables {
		size += len(name) + len(value)
		reserved := slices.Contains(reservedVariables, name) ||
			slices.ContainsFunc(reservedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		switch {
		case !variableName.MatchString(name):
			return diag.New(diag.BadOption, "%q cannot be the name of an environment variable", name).
				WithHint(`write variables={"OMP_NUM_THREADS": "2"}`)
		case reserved:
			return diag.New(diag.BadOption, "the variable %s of the environment is not for functions to set", name).
				WithHint("it is read before a worker's Python runs, or is the worker's own; set another one, or os.environ in the function for its children")
		case strings.ContainsRune(value, 0):
			return diag.New(diag.BadOption, "the variable %s of the environment holds a zero byte", name)
		}
	}
	if size > variablesBytesMax {
		return diag.New(diag.BadOption, "the variables of an environment have %d bytes, at most %d are possible", size, variablesBytesMax).
			WithHint("put large values into a file and give that with files=")
	}
	return nil
}
