package exec

import (
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
)

// Stats are the counters of one vertex, shared by its subtasks.
type Stats struct {
	rowsIn, rowsOut, bytesOut atomic.Int64
	done                      atomic.Int32
	note                      atomic.Pointer[string]
}

func (s *Stats) read(batch arrow.RecordBatch) { s.rowsIn.Add(batch.NumRows()) }

func (s *Stats) wrote(batch arrow.RecordBatch) {
	s.rowsOut.Add(batch.NumRows())
	s.bytesOut.Add(BatchBytes(batch))
}

// Progress is how far one vertex of a job is.
type Progress struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is waiting, running or done.
	State    string `json:"state"`
	RowsIn   int64  `json:"rows_in"`
	RowsOut  int64  `json:"rows_out"`
	BytesOut int64  `json:"bytes_out"`
	// Note says what it is doing besides passing rows.
	Note string `json:"note,omitempty"`
}

// Note says, for progress, what the vertex is doing besides passing rows.
func (v *Vertex) Note(text string) { v.stats.note.Store(&text) }

func (v *Vertex) progress() Progress {
	p := Progress{
		ID: v.ID, Name: v.Name, State: "waiting",
		RowsIn: v.stats.rowsIn.Load(), RowsOut: v.stats.rowsOut.Load(), BytesOut: v.stats.bytesOut.Load(),
	}
	switch {
	case int(v.stats.done.Load()) == v.Parallelism:
		p.State = "done"
	case p.RowsIn > 0 || p.RowsOut > 0:
		p.State = "running"
	}
	if note := v.stats.note.Load(); note != nil && p.State != "done" {
		p.Note = *note
	}
	return p
}
