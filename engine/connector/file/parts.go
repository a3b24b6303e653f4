package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// PartsOptions describe an output that grows with each checkpoint.
type PartsOptions struct {
	// Name is the job's, with which its files begin; Output.Path the folder.
	Name   string
	Output plan.Output
	Schema *arrow.Schema
	Keeper exec.Keeper
}

// Parts is a folder that gets a Parquet file for each checkpoint, NAME-N, and
// each row exactly once. At a barrier the file is closed and synced under a
// hidden name; it is given its name when the checkpoint is complete. A job
// that goes on from a checkpoint gives the files of that checkpoint their
// names and removes the files of later ones, which it will write again.
//
// One goroutine writes; Completed is called by another.
type Parts struct {
	options PartsOptions

	mu sync.Mutex
	// waiting are the numbers of the files that wait for their checkpoint.
	waiting []uint64

	// What follows belongs to the writer.
	part exec.SinkWriter // nil while no row has come
	next uint64          // its number
}

// partsState is what Parts remember at a barrier.
type partsState struct {
	// Through is the last part that belongs to the checkpoint; those of
	// Waiting still bear hidden names.
	Through uint64   `json:"through"`
	Waiting []uint64 `json:"waiting,omitempty"`
}

// OpenParts brings the folder into the state of the checkpoint that the job
// goes on from.
func OpenParts(options PartsOptions) (*Parts, error) {
	p := &Parts{options: options, next: 1}
	if err := p.open(); err != nil {
		if d := diag.From(err); d.Code != diag.Internal {
			return nil, d
		}
		return nil, unwritable(options.Output.Path, err)
	}
	return p, nil
}

func (p *Parts) open() error {
	if err := os.MkdirAll(p.options.Output.Path, 0o755); err != nil {
		return err
	}
	snapshots, err := p.options.Keeper.Restored()
	if err != nil {
		return err
	}
	var last partsState
	for _, s := range snapshots {
		if err := json.Unmarshal(s.Meta, &last); err != nil {
			return fmt.Errorf("decode what the output remembered: %w", err)
		}
		s.Release()
	}
	if len(snapshots) == 0 && p.options.Output.Mode != plan.Overwrite {
		if err := p.refuseExisting(); err != nil {
			return err
		}
	}
	for _, n := range last.Waiting {
		if err := os.Rename(p.hidden(n), p.visible(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // one that is not there has its name already
		}
	}
	if err := p.each(func(n uint64, path string, hidden bool) error {
		if hidden || n > last.Through {
			return os.Remove(path)
		}
		return nil
	}); err != nil {
		return err
	}
	if last.Through < math.MaxUint64 {
		p.next = last.Through + 1
	}
	return syncDir(p.options.Output.Path)
}

// refuseExisting is for a job that starts afresh.
func (p *Parts) refuseExisting() error {
	return p.each(func(_ uint64, path string, hidden bool) error {
		if hidden {
			return nil
		}
		return diag.New(diag.OutputExists, "%s exists already, but the checkpoint folder knows nothing of it", path).
			WithHint("bring the checkpoint folder back, give the job another name, or replace its files with mode=\"overwrite\"")
	})
}

// each calls f with the job's files in the folder.
func (p *Parts) each(f func(n uint64, path string, hidden bool) error) error {
	pattern := regexp.MustCompile(`^(\.?)` + regexp.QuoteMeta(p.options.Name) + `-(\d{8,20})\.parquet(\.part)?$`)
	entries, err := os.ReadDir(p.options.Output.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		match := pattern.FindStringSubmatch(e.Name())
		if match == nil || (match[1] == "") != (match[3] == "") {
			continue
		}
		n, err := strconv.ParseUint(match[2], 10, 64)
		if err != nil {
			continue
		}
		if err := f(n, filepath.Join(p.options.Output.Path, e.Name()), match[1] != ""); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parts) visible(n uint64) string {
	return filepath.Join(p.options.Output.Path, fmt.Sprintf("%s-%08d.parquet", p.options.Name, n))
}

func (p *Parts) hidden(n uint64) string {
	return filepath.Join(p.options.Output.Path, fmt.Sprintf(".%s-%08d.parquet.part", p.options.Name, n))
}

// Write adds rows to the current part. It does not take the batch over.
func (p *Parts) Write(ctx context.Context, batch arrow.RecordBatch) error {
	if batch.NumRows() == 0 {
		return nil
	}
	if p.part == nil {
		out := plan.Output{Path: p.hidden(p.next), Mode: plan.Overwrite, Compression: p.options.Output.Compression}
		sink, err := NewSink(plan.WriteParquet{Output: out})
		if err != nil {
			return err
		}
		if p.part, err = sink.Open(ctx, p.options.Schema); err != nil {
			return err
		}
	}
	return p.part.Write(ctx, batch)
}

// Barrier closes the current part, so that it belongs to a checkpoint; end
// says that no more follows.
func (p *Parts) Barrier(ctx context.Context, barrier uint64, end bool) error {
	if end {
		barrier = p.next
	}
	// Parts bear the numbers of their checkpoints.
	if p.part != nil {
		part := p.part
		p.part = nil
		if err := part.Commit(ctx); err != nil {
			return err
		}
		if barrier != p.next {
			if err := os.Rename(p.hidden(p.next), p.hidden(barrier)); err != nil {
				return unwritable(p.options.Output.Path, err)
			}
		}
		if err := syncDir(p.options.Output.Path); err != nil {
			return unwritable(p.options.Output.Path, err)
		}
		p.mu.Lock()
		p.waiting = append(p.waiting, barrier)
		p.mu.Unlock()
	}
	p.next = barrier + 1
	p.mu.Lock()
	s := partsState{Through: barrier, Waiting: append([]uint64{}, p.waiting...)}
	p.mu.Unlock()
	id := barrier
	if end {
		s.Through, id = math.MaxUint64, 0
	}
	meta, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return p.options.Keeper.Keep(ctx, id, exec.Snapshot{Meta: meta})
}

// Completed gives the files of a complete checkpoint their names.
func (p *Parts) Completed(barrier uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []uint64
	for _, n := range p.waiting {
		if n > barrier {
			left = append(left, n)
			continue
		}
		if err := os.Rename(p.hidden(n), p.visible(n)); err != nil {
			return unwritable(p.visible(n), err)
		}
	}
	p.waiting = left
	if err := syncDir(p.options.Output.Path); err != nil {
		return unwritable(p.options.Output.Path, err)
	}
	return nil
}

// Abort gives up the current part. What waits for its checkpoint stays: the
// checkpoint may be complete without our knowing.
func (p *Parts) Abort() {
	if p.part != nil {
		p.part.Abort()
		p.part = nil
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
