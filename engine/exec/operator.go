package exec

import (
	"context"
	"errors"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
)

// Operator is what a subtask runs: one goroutine calls Run, which owns all of
// the operator's state, so operators hold no locks.
//
// Run reads its inputs until they end or it needs no more, emits what it makes
// and returns; the subtask then closes the inputs and emits the end. Elements
// that are not batches are passed on in their place by whoever handles its
// input one by one (see Handle); an operator that works on its whole input
// only, such as a relational stage, drops them. A source has no inputs, a sink
// emits nothing.
//
// ctx ends with the cause ErrStopped when nobody reads the output any more.
// Then Run gives up what it is in the middle of and returns; with which error
// does not matter.
type Operator interface {
	Run(ctx context.Context, in []*Input, out *Output) error
}

// Input is the reading side of an operator. One goroutine at a time may use it.
type Input struct {
	port  port
	stats *Stats
	clock *clock
	ended bool
	// rows numbers the batches, unless a rebalance has done so.
	rows     int64
	numbered bool
	// sink is set below an operator that emits nothing: its watermarks are
	// those that it reads.
	sink bool
}

// Next gives the next element, whose ownership passes to the caller. After
// the end it gives the end again.
func (in *Input) Next(ctx context.Context) (Element, error) {
	if in.ended {
		return Element{Kind: KindEnd}, nil
	}
	in.clock.rest()
	e, err := in.port.get(ctx)
	in.clock.work()
	if err != nil {
		return Element{}, err
	}
	if e.Kind == KindBatch {
		in.stats.read(e.Batch)
		if !in.numbered {
			e.FirstRow = in.rows
			in.rows += e.Batch.NumRows()
		}
	}
	if in.sink {
		in.stats.passed(e)
	}
	in.ended = e.Kind == KindEnd
	return e, nil
}

// Close tells the producers that no more is wanted.
func (in *Input) Close() { in.port.close() }

// Batches reads the input's batches alone, as a BatchReader.
func (in *Input) Batches() BatchReader { return inputReader{in} }

type inputReader struct{ in *Input }

func (r inputReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	for {
		e, err := r.in.Next(ctx)
		switch {
		case err != nil:
			return nil, err
		case e.Kind == KindEnd:
			return nil, io.EOF
		case e.Kind == KindBatch:
			return e.Batch, nil
		}
	}
}

func (r inputReader) Close() { r.in.Close() }

// Output is the writing side of an operator.
type Output struct {
	edge  edge // nil below a sink
	stats *Stats
	clock *clock
	// time is where the watermarks that pass are noted: of a vertex with
	// several subtasks, those of the merge.
	time *Stats
}

// Emit sends e on, which it takes over whatever the result.
func (out *Output) Emit(ctx context.Context, e Element) error {
	if e.Kind == KindBatch {
		out.stats.wrote(e.Batch)
		CountNulls(e.Batch)
	}
	if out.time != nil {
		out.time.passed(e)
	}
	if out.edge == nil {
		e.Release()
		return nil
	}
	defer out.Rest()()
	return out.edge.put(ctx, e)
}

// EmitBatch sends a batch on, which it takes over whatever the result.
func (out *Output) EmitBatch(ctx context.Context, batch arrow.RecordBatch) error {
	return out.Emit(ctx, BatchElement(batch))
}

// Handler is told of the elements of one input, in order. OnBatch owns the
// batch. An embedded PassThrough supplies what a handler does not care about.
type Handler interface {
	OnBatch(ctx context.Context, batch arrow.RecordBatch, out *Output) error
	// OnElement gets watermarks, barriers and control elements.
	OnElement(ctx context.Context, e Element, out *Output) error
	OnEnd(ctx context.Context, out *Output) error
	// OnFail is called once if the subtask does not reach the end of its input
	// well; it undoes what must not stay.
	OnFail(cause error)
}

// PassThrough passes every element on.
type PassThrough struct{}

// OnBatch implements Handler.
func (PassThrough) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *Output) error {
	return out.EmitBatch(ctx, batch)
}

// OnElement implements Handler.
func (PassThrough) OnElement(ctx context.Context, e Element, out *Output) error {
	return out.Emit(ctx, e)
}

// OnEnd implements Handler.
func (PassThrough) OnEnd(context.Context, *Output) error { return nil }

// OnFail implements Handler.
func (PassThrough) OnFail(error) {}

var errFault = errors.New("stopped by a fault")

// Handle makes an operator of a handler.
func Handle(h Handler) Operator { return handled{h} }

type handled struct{ h Handler }

func (o handled) Run(ctx context.Context, in []*Input, out *Output) (err error) {
	ended := false
	defer func() {
		switch {
		case err != nil:
			o.h.OnFail(err)
		case !ended:
			o.h.OnFail(errFault) // a panic is on its way
		}
	}()
	for {
		e, err := in[0].Next(ctx)
		if err != nil {
			return err
		}
		switch e.Kind {
		case KindBatch:
			err = o.h.OnBatch(ctx, e.Batch, out)
		case kindMark:
			err = out.Emit(ctx, e)
		case KindEnd:
			err = o.h.OnEnd(ctx, out)
			ended = true
			return err
		default:
			err = o.h.OnElement(ctx, e, out)
		}
		if err != nil {
			return err
		}
	}
}

// FromSource makes an operator that emits what source gives.
func FromSource(source BatchSource) Operator { return fromSource{source} }

type fromSource struct{ source BatchSource }

func (o fromSource) Run(ctx context.Context, _ []*Input, out *Output) error {
	reader, err := o.source.Open(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		batch, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.EmitBatch(ctx, batch); err != nil {
			return err
		}
	}
}
