package ops

import (
	"context"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
)

// NewSink makes an operator that writes its input to a sink. The sink is
// opened when the subtask starts, so that an output of no rows appears too.
func NewSink(sink exec.Sink, schema *arrow.Schema) exec.Operator {
	return sinkOperator{sink, schema}
}

type sinkOperator struct {
	sink   exec.Sink
	schema *arrow.Schema
}

func (o sinkOperator) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	writer, err := o.sink.Open(ctx, o.schema)
	if err != nil {
		return err
	}
	return exec.Handle(&sinkHandler{writer: writer}).Run(ctx, in, out)
}

type sinkHandler struct {
	writer exec.SinkWriter
	ended  bool
}

func (h *sinkHandler) OnBatch(ctx context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	return h.writer.Write(ctx, batch)
}

func (h *sinkHandler) OnElement(context.Context, exec.Element, *exec.Output) error { return nil }

func (h *sinkHandler) OnEnd(ctx context.Context, _ *exec.Output) error {
	err := h.writer.Commit(ctx)
	h.ended = true
	return err
}

// OnFail removes what was written, unless Commit has already decided.
func (h *sinkHandler) OnFail(error) {
	if !h.ended {
		h.writer.Abort()
	}
}
