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
	// functionsBytes is what the functions of a job have on its way to workers,
	// on its way back and waiting for its turn. groupsBytes is what they keep of
	// groups that are larger than a batch, which spill.
	functionsBytes int64
	groupsBytes    int64
}

func sharesOf(limit int64) shares {
	const whole = 8
	return shares{
		relationalBytes: limit * 3 / whole,
		tableBytes:      limit / whole,
		queuesBytes:     limit / whole,
		spoolBytes:      min(exec.SpoolBytesDefault, limit/whole),
		functionsBytes:  limit * 3 / (4 * whole),
		groupsBytes:     min(groupsBytesMax, limit/(4*whole)),
	}
}

// groupsBytesMax is enough for groups of a common size; larger ones are no
// slower from a file, since a worker reads them once.
const groupsBytesMax = 64 << 20

// Bounds of what creditBytes gives.
const (
	creditBytesMin = 1 << 20
	creditBytesMax = 64 << 20
)

// creditBytes is what a subtask of functions may have in each of three places,
// where a job has so many of them: in flight to its worker, in flight from it,
// and waiting in the order of results.
func (s shares) creditBytes(subtasks int) int64 {
	const places = 3
	return min(max(creditBytesMin, s.functionsBytes/int64(places*max(1, subtasks))), creditBytesMax)
}
