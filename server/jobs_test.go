package server

import (
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// TestAJobThatEndsAtOnceIsNotForgotten although others are swept meanwhile.
func TestAJobThatEndsAtOnceIsNotForgotten(t *testing.T) {
	s := serveWith(t, Options{Token: token, Embedded: true}, engine.Options{})
	j := newJobs(s.engine, slog.New(slog.NewTextHandler(io.Discard, nil)))
	j.release = func([]string) {}
	rows := int64(1)
	p := &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
		{ID: "in", Op: plan.Generate{Columns: []plan.GeneratedColumn{{Name: "n", Kind: plan.GenerateSequence, Step: 1}}, Rows: &rows}},
		{ID: "out", Inputs: []string{"in"}, Op: plan.Discard{}},
	}}
	// In rounds of a few: the engine forgets a job when 64 others have come, and
	// one of them may be held up for as long as those take.
	for range 60 {
		var submitting sync.WaitGroup
		for range 8 {
			submitting.Go(func() {
				job, err := s.engine.Submit(t.Context(), p)
				if err != nil {
					t.Error(err)
					return
				}
				j.add(&entry{job: job, session: &session{}}, func() bool { return false })
				<-job.Done()
				j.sweep()
				if _, err := j.find(job.ID); err != nil {
					t.Error(err)
				}
			})
		}
		submitting.Wait()
	}
	j.watching.Wait()
}
