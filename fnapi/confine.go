package fnapi

import (
	"cmp"

	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// confine says what the worker of functions may do, which variables it gets
// and which functions alone it may run.
func (r *Runner) confine(c plan.Confinement) (policy sandbox.Policy, variables map[string]string, isolation string) {
	policy = sandbox.Policy{Mode: sandbox.Mode(cmp.Or(c.Sandbox, string(r.options.Sandbox), string(sandbox.Auto))), Network: c.Network}
	for _, m := range c.Mounts {
		policy.Mounts = append(policy.Mounts, sandbox.Mount(m))
	}
	for name, secret := range c.Secrets {
		if variables == nil {
			variables = map[string]string{}
		}
		variables[name] = secret.Reveal()
	}
	return policy, variables, c.Isolation
}
