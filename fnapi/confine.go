package fnapi

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// confine says what the worker of functions may do, which variables it gets
// and which functions alone it may run.
func (r *Runner) confine(c plan.Confinement) (policy sandbox.Policy, variables map[string]string, isolation string) {
	policy = sandbox.Policy{Mode: sandbox.Mode(cmp.Or(c.Sandbox, string(r.options.Sandbox), string(sandbox.Auto))), Network: c.Network, Mounts: c.Mounts}
	for name, secret := range c.Secrets {
		if variables == nil {
			variables = map[string]string{}
		}
		variables[name] = secret.Reveal()
	}
	return policy, variables, c.Isolation
}

// filePath is the path in the text of an exception about a file.
var filePath = regexp.MustCompile(`^\[Errno (2|13|30)\] [^:]+: '(/[^']+)'`)

// networkErrors are names of exceptions, the ends of them, when there is no
// network.
var networkErrors = []string{"gaierror", "URLError", "ConnectionError", "ConnectError", "NewConnectionError", "MaxRetryError", "NameResolutionError"}

// Places that a worker has of its own, of which no mount is missing.
var ownPlaces = []string{"/dev/", "/proc/"}

// sandboxHint is what to ask for where an exception looks as if the sandbox had
// kept something from the function, or "". It does not say whether a file is
// there: that is not the function's to know.
func sandboxHint(e *diag.Exception, c plan.Confinement) string {
	if e == nil {
		return ""
	}
	match := filePath.FindStringSubmatch(e.Message)
	if match == nil {
		noSocket := e.Type == "PermissionError" && e.Message == "[Errno 13] Permission denied"
		if !c.Network && (noSocket || slices.ContainsFunc(networkErrors, func(name string) bool { return strings.HasSuffix(e.Type, name) })) {
			return "functions run in a sandbox without a network: network=True leaves it to this one"
		}
		return ""
	}
	at, cannotWrite := path.Clean(match[2]), match[1] == "30"
	for _, m := range c.Mounts {
		if at == m.Path || strings.HasPrefix(at, m.Path+"/") {
			if m.Write || match[1] == "2" {
				return ""
			}
			return fmt.Sprintf("the sandbox shows %s for reading: mounts={%q: \"rw\"} lets the function write there", cut(m.Path), cut(m.Path))
		}
	}
	if slices.ContainsFunc(ownPlaces, func(p string) bool { return strings.HasPrefix(at, p) }) && !cannotWrite {
		return ""
	}
	folder := path.Dir(at)
	if folder == "/" {
		folder = at
	}
	return fmt.Sprintf("the sandbox does not show %s to functions: mounts={%q: \"ro\"} does, \"rw\" to write there too", cut(at), cut(folder))
}
