package engine

import (
	"context"
	"errors"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// located makes the failures of an operator name the user's step.
type located struct {
	exec.Operator
	stage *plan.Stage
}

// Run implements exec.Operator.
func (o located) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	err := o.Operator.Run(ctx, in, out)
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok && ctx.Err() == nil {
		return d.At(o.stage.Name, o.stage.Origin)
	}
	return err
}
