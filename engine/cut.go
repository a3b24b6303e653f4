package engine

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// cut gives a source's rows in batches of at most rowsMax rows; 0 leaves them
// as they are.
func cut(source exec.BatchSource, rowsMax int64) exec.BatchSource {
	if rowsMax == 0 {
		return source
	}
	return cutSource{source, rowsMax}
}

type cutSource struct {
	exec.BatchSource
	rowsMax int64
}

func (s cutSource) Open(ctx context.Context) (exec.BatchReader, error) {
	reader, err := s.BatchSource.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &cutReader{BatchReader: reader, rowsMax: s.rowsMax}, nil
}

type cutReader struct {
	exec.BatchReader
	rowsMax int64
	// rest is a batch of which the rows before from have been given.
	rest arrow.RecordBatch
	from int64
}

func (r *cutReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	if r.rest == nil {
		batch, err := r.BatchReader.Next(ctx)
		if err != nil || batch.NumRows() <= r.rowsMax {
			return batch, err
		}
		r.rest, r.from = batch, 0
	}
	to := min(r.from+r.rowsMax, r.rest.NumRows())
	piece, err := copyRows(r.rest, r.from, to)
	if err != nil {
		return nil, err
	}
	if r.from = to; to == r.rest.NumRows() {
		r.drop()
	}
	return piece, nil
}

func (r *cutReader) drop() {
	if r.rest != nil {
		r.rest.Release()
		r.rest = nil
	}
}

func (r *cutReader) Close() {
	r.drop()
	r.BatchReader.Close()
}
