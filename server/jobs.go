package server

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// jobNameBytesMax bounds what a client calls a job.
const jobNameBytesMax = 200

// jobs knows whose the engine's jobs are, and adds up what they have done.
type jobs struct {
	engine *engine.Engine
	log    *slog.Logger
	// watching counts a goroutine for each job that runs.
	watching sync.WaitGroup
	// release gives up the artifacts of a job that has ended.
	release func(artifacts []string)

	mu      sync.Mutex
	byID    map[string]*entry
	started int64
	ended   map[engine.State]int64
	// rows are those of jobs that have ended, by operator.
	rows map[string]operatorRows
}

// operatorRows are what operators of one name have read and written.
type operatorRows struct {
	in, out, bytesOut, late, failed int64
	// seconds are those of Python functions, by what they went to.
	seconds map[string]float64
}

// entry is what the server knows of a job besides the engine.
type entry struct {
	job     *engine.Job
	name    string
	session *session
	// detached says that the job goes on when its session ends.
	detached  bool
	artifacts []string
	// counted says that the job has ended and has been added up.
	counted bool
}

func newJobs(e *engine.Engine, log *slog.Logger) *jobs {
	return &jobs{engine: e, log: log, byID: map[string]*entry{}, ended: map[engine.State]int64{}, rows: map[string]operatorRows{}}
}

// add notes a job that was started. If its session has ended meanwhile and it
// is not detached, it is cancelled.
func (j *jobs) add(one *entry, sessionEnded func() bool) {
	j.mu.Lock()
	j.byID[one.job.ID] = one
	j.started++
	j.mu.Unlock()
	j.log.Info("job started", "job", one.job.ID, "name", one.name, "session", one.session.shown(), "detached", one.detached)
	j.watching.Go(func() {
		<-one.job.Done()
		told := []any{"job", one.job.ID, "state", one.job.State(), "elapsed", one.job.Elapsed().Round(time.Millisecond)}
		if err := one.job.Failure(); err != nil {
			told = append(told, "error", err)
		}
		j.log.Info("job ended", told...)
		j.sweep()
	})
	if !one.detached && sessionEnded() {
		one.job.Cancel()
	}
}

// sweep adds up jobs that have ended, lets go of what they used, and forgets
// those that the engine has forgotten.
func (j *jobs) sweep() {
	var artifacts []string
	j.mu.Lock()
	// With mu held: the engine knows a job before add does, so what it does not
	// know it has forgotten.
	known := map[string]bool{}
	for _, job := range j.engine.Jobs() {
		known[job.ID] = true
	}
	for id, one := range j.byID {
		if state := one.job.State(); state != engine.Running && !one.counted {
			one.counted = true
			j.ended[state]++
			addRows(j.rows, one.job.Progress())
			artifacts = append(artifacts, one.artifacts...)
			one.artifacts = nil
		}
		if one.counted && !known[id] {
			delete(j.byID, id)
		}
	}
	j.mu.Unlock()
	if len(artifacts) > 0 {
		j.release(artifacts)
	}
}

func addRows(sums map[string]operatorRows, operators []exec.Progress) {
	for _, o := range operators {
		r := sums[o.Name]
		r.in, r.out, r.bytesOut, r.late = r.in+o.RowsIn, r.out+o.RowsOut, r.bytesOut+o.BytesOut, r.late+o.LateRows
		r.failed += o.FailedRows
		if o.Bundles > 0 {
			before := r.seconds // another reader may hold it
			r.seconds = map[string]float64{"queue": o.QueueS, "transfer": o.TransferS, "conversion": o.ConversionS, "python": o.PythonS, "load": o.LoadS}
			for part, seconds := range before {
				r.seconds[part] += seconds
			}
		}
		sums[o.Name] = r
	}
}

// list gives the jobs, the oldest first; of one session, or of all for nil.
func (j *jobs) list(of *session) []*entry {
	order := map[string]int{}
	for i, job := range j.engine.Jobs() {
		order[job.ID] = i
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []*entry
	for id, one := range j.byID {
		if _, known := order[id]; known && (of == nil || one.session == of) {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return order[a.job.ID] - order[b.job.ID] })
	return list
}

// find finds any job.
func (j *jobs) find(id string) (*entry, error) { return j.findOf(nil, id) }

// findOf finds a job of a session.
func (j *jobs) findOf(of *session, id string) (*entry, error) {
	j.mu.Lock()
	one := j.byID[id]
	j.mu.Unlock()
	if one != nil && of != nil && one.session != of {
		return nil, diag.New(diag.NotYours, "job %s belongs to another connection", id).
			WithHint("`pyrunner jobs` shows and cancels every job of a server")
	}
	if one != nil {
		return one, nil
	}
	var ids []string
	for _, known := range j.list(of) {
		ids = append(ids, known.job.ID)
	}
	return nil, diag.New(diag.UnknownJob, "there is no job %q", id).WithHint("%s", diag.DidYouMean(id, "jobs", ids))
}

// running are the jobs that run.
func (j *jobs) running() []*engine.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []*engine.Job
	for _, one := range j.byID {
		if one.job.State() == engine.Running {
			list = append(list, one.job)
		}
	}
	return list
}

// runningOf counts the jobs of a session that run.
func (j *jobs) runningOf(of *session) (n int) {
	for _, one := range j.list(of) {
		if one.job.State() == engine.Running {
			n++
		}
	}
	return n
}

// endSession cancels the jobs that a client has waited for, and waits for
// their end.
func (j *jobs) endSession(of *session) {
	var cancelled []*engine.Job
	for _, one := range j.list(of) {
		if !one.detached {
			one.job.CancelBecause("job %s was cancelled because its client's connection ended", one.job.ID)
			cancelled = append(cancelled, one.job)
		}
	}
	for _, job := range cancelled {
		<-job.Done()
	}
	j.sweep()
}

// totals are what all jobs have done since the server was started.
type totals struct {
	started int64
	states  map[engine.State]int64 // of the jobs that have ended, and Running
	rows    map[string]operatorRows
}

func (j *jobs) totals() totals {
	j.sweep()
	j.mu.Lock()
	defer j.mu.Unlock()
	t := totals{started: j.started, states: maps.Clone(j.ended), rows: maps.Clone(j.rows)}
	for _, one := range j.byID {
		if !one.counted {
			t.states[engine.Running]++
			addRows(t.rows, one.job.Progress())
		}
	}
	return t
}

// JobInfo is what is told of a job.
type JobInfo struct {
	ID string `json:"id"`
	// Name is what the client calls it.
	Name  string       `json:"name"`
	State engine.State `json:"state"`
	// Session begins with the name of the connection that it belongs to.
	Session string `json:"session,omitempty"`
	// Detached jobs go on when their connection ends.
	Detached bool      `json:"detached"`
	Started  time.Time `json:"started"`
	ElapsedS float64   `json:"elapsed_s"`
	// Rows are those of the last operator.
	Rows int64 `json:"rows"`
	// What follows is told of one job, not in lists.
	Operators   []exec.Progress  `json:"operators,omitempty"`
	Checkpoints any              `json:"checkpoints,omitempty"`
	Error       *diag.Diagnostic `json:"error,omitempty"`
}

// sessionShown is the number of characters of a session's name that is told:
// the name gives access to its tables.
const sessionShown = 6

func (s *session) shown() string { return s.id[:min(sessionShown, len(s.id))] }

// info tells of a job in a list.
func (one *entry) info() JobInfo {
	i := JobInfo{
		ID: one.job.ID, Name: one.name, State: one.job.State(), Detached: one.detached,
		Started: one.job.Began().UTC(), ElapsedS: one.job.Elapsed().Seconds(),
	}
	i.Session = one.session.shown()
	if operators := one.job.Progress(); len(operators) > 0 {
		last := operators[len(operators)-1]
		i.Rows = max(last.RowsIn, last.RowsOut)
	}
	return i
}

// details tells all of a job.
func (one *entry) details() JobInfo {
	i := one.info()
	event := progressOf(one.job)
	i.Operators, i.Checkpoints = event.Operators, event.Checkpoints
	i.Error = diag.From(one.job.Failure())
	return i
}

func infos(list []*entry) []JobInfo {
	out := make([]JobInfo, len(list))
	for i, one := range list {
		out[i] = one.info()
	}
	return out
}

// nameOf is what a job is called: as its client says, or by what it ends in.
func nameOf(given string, p *plan.Plan) string {
	if given = strings.ToValidUTF8(given, "�"); given == "" && len(p.Nodes) > 0 {
		given = p.Nodes[len(p.Nodes)-1].Op.Name()
	}
	if len(given) > jobNameBytesMax {
		given = strings.ToValidUTF8(given[:jobNameBytesMax], "") + "…"
	}
	return given
}

// owned gives a plan whose tables are those of a session. handsOver says that
// its result goes to the session, so that the job ends with it.
func (s *session) owned(p *plan.Plan) (owned *plan.Plan, handsOver bool) {
	copied := *p
	copied.Nodes = slices.Clone(p.Nodes)
	for i, n := range copied.Nodes {
		switch op := n.Op.(type) {
		case plan.ScanTable:
			op.Table = s.table(op.Table)
			copied.Nodes[i].Op = op
		case plan.KeepTable:
			op.Table = s.table(op.Table)
			copied.Nodes[i].Op = op
			handsOver = true
		case plan.Collect:
			handsOver = true
		}
	}
	return &copied, handsOver
}

// unowned takes a session's name out of a diagnostic about its tables.
func (s *session) unowned(err error) error {
	d := diag.From(err)
	if d == nil || s.id == "" || !strings.Contains(d.Message, s.id+"/") {
		return err
	}
	own := *d
	own.Message = strings.ReplaceAll(d.Message, s.id+"/", "")
	return &own
}
