package exec

import (
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// Stats are the counters of one vertex, shared by its subtasks.
type Stats struct {
	rowsIn, rowsOut, bytesOut atomic.Int64
	busy                      atomic.Int64 // nanoseconds
	done                      atomic.Int32
	note                      atomic.Pointer[string]
	late                      atomic.Int64
	watermark                 atomic.Pointer[time.Time]
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
	// Detail says more of what it does; "" is nothing.
	Detail string `json:"detail,omitempty"`
	// State is waiting, running or done.
	State    string `json:"state"`
	RowsIn   int64  `json:"rows_in"`
	RowsOut  int64  `json:"rows_out"`
	BytesOut int64  `json:"bytes_out"`
	// TimeS is how long it has worked, without what it waited for input or for
	// whoever reads its output: the sum over its subtasks or, where Python
	// functions run, its workers.
	TimeS float64 `json:"time_s"`
	// Where Python functions run, TimeS is the sum of four: the functions
	// themselves, the conversion of their values from Arrow and back, their
	// loading (and the rest of a worker's start), and the way of batches to workers and back. QueueS is how long
	// input waited for a worker besides; the sum over its subtasks.
	QueueS      float64 `json:"queue_s,omitempty"`
	TransferS   float64 `json:"transfer_s,omitempty"`
	ConversionS float64 `json:"conversion_s,omitempty"`
	PythonS     float64 `json:"python_s,omitempty"`
	LoadS       float64 `json:"load_s,omitempty"`
	// Functions are the parts of each function, Imports those of LoadS in which
	// modules were imported, by package.
	Functions []FunctionProgress `json:"functions,omitempty"`
	Imports   map[string]float64 `json:"imports,omitempty"`
	// Batches went to workers, with so many bytes, and so many came back.
	Batches          int64 `json:"batches,omitempty"`
	BytesToWorkers   int64 `json:"bytes_to_workers,omitempty"`
	BytesFromWorkers int64 `json:"bytes_from_workers,omitempty"`
	// MemoryBytes is what the workers that it uses hold, and Workers how many
	// they are; once it is done, the most that was seen. Bundles are those that
	// workers have run for it, WorkersStarted those that nobody had used before, Restarts
	// those that died meanwhile and were replaced.
	MemoryBytes    int64 `json:"memory_bytes,omitempty"`
	Workers        int   `json:"workers,omitempty"`
	Bundles        int64 `json:"bundles,omitempty"`
	WorkersStarted int64 `json:"workers_started,omitempty"`
	Restarts       int64 `json:"restarts,omitempty"`
	// Note says what it is doing besides passing rows.
	Note string `json:"note,omitempty"`
	// Watermark is the event time that it has reached, and LagS the seconds
	// from there to now. They are absent where no watermark has come.
	Watermark *time.Time `json:"watermark,omitempty"`
	LagS      *float64   `json:"lag_s,omitempty"`
	// LateRows came after their window had ended and were left out.
	LateRows int64 `json:"late_rows,omitempty"`
	// FailedRows are those on which a function has failed, which gave NULL or
	// were left out.
	FailedRows int64 `json:"failed_rows,omitempty"`
}

// FunctionProgress is how long one function of a stage has run, and how long its
// values were converted.
type FunctionProgress struct {
	Name        string  `json:"name"`
	PythonS     float64 `json:"python_s"`
	ConversionS float64 `json:"conversion_s"`
}

// CountLate adds to the rows that came too late for their window.
func (v *Vertex) CountLate(rows int64) { v.stats.late.Add(rows) }

// passed notes a watermark. One goroutine at a time calls it.
func (s *Stats) passed(e Element) {
	if e.Kind == KindWatermark && !e.Idle {
		at := e.Watermark.UTC()
		s.watermark.Store(&at)
	}
}

// Note says, for progress, what the vertex is doing besides passing rows.
func (v *Vertex) Note(text string) { v.stats.note.Store(&text) }

func (v *Vertex) progress() Progress {
	p := Progress{
		ID: v.ID, Name: v.Name, Detail: v.Detail, State: "waiting",
		RowsIn: v.stats.rowsIn.Load(), RowsOut: v.stats.rowsOut.Load(), BytesOut: v.stats.bytesOut.Load(),
	}
	switch {
	case int(v.stats.done.Load()) == v.Parallelism:
		p.State = "done"
	case p.RowsIn > 0 || p.RowsOut > 0:
		p.State = "running"
	}
	p.TimeS = time.Duration(v.stats.busy.Load()).Seconds()
	v.Meter.tell(&p)
	p.LateRows = v.stats.late.Load()
	if at := v.stats.watermark.Load(); at != nil {
		lag := time.Since(*at).Seconds()
		p.Watermark, p.LagS = at, &lag
	}
	if note := v.stats.note.Load(); note != nil && p.State != "done" {
		p.Note = *note
	}
	return p
}
