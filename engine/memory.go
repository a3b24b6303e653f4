package engine

import "github.com/alink-runtime/alink/engine/exec"

// shares divide an engine's memory limit among those that hold data. What is
// left over is for batches in the hands of operators and of workers'
// connections, and for what no garbage collector gives back at once.
type shares struct {
	// relationalBytes is DuckDB's, over all jobs. It spills.
	relationalBytes int64
	// tableBytes is what an uploaded table keeps in memory. It spills.
	tableBytes int64
	// queuesBytes is what the queues of a job hold, spoolBytes what a result
	// that several steps read keeps in memory. Spools spill; full queues make
	// their producers wait.
	queuesBytes int64
	spoolBytes  int64
}

func sharesOf(limit int64) shares {
	const whole = 8
	return shares{
		relationalBytes: limit * 3 / whole,
		tableBytes:      limit / whole,
		queuesBytes:     limit / whole,
		spoolBytes:      min(exec.SpoolBytesDefault, limit/whole),
	}
}
