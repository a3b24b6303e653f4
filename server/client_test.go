package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

func (s *served) client(t *testing.T) *Client {
	t.Helper()
	c, err := Dial(ClientOptions{Address: s.address, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClient(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	c, a := s.client(t), s.attach(t, 1)
	dir := t.TempDir()
	stream := a.submit(t, generated(0, 1000, streamed(dir)), `,"name":"to files","detached":true`)
	rows := a.submit(t, generated(0, 1000, collected), "")
	list, err := c.Jobs(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != stream || list[0].Name != "to files" || !list[0].Detached || list[1].Detached || list[0].Session != "000000" {
		t.Fatalf("%+v, %v", list, err)
	}
	if job, err := c.Job(t.Context(), stream); err != nil || len(job.Operators) != 2 || job.Checkpoints == nil {
		t.Errorf("%+v, %v", job, err)
	}
	waitFor(t, "rows", func() bool { job, err := c.Job(t.Context(), stream); return err == nil && job.Rows > 0 })
	path, err := c.Savepoint(t.Context(), stream)
	if err != nil || path != filepath.Join(dir, "state", "checkpoint-00000001") {
		t.Fatalf("savepoint: %s, %v", path, err)
	}
	if _, err := os.Stat(filepath.Join(path, "manifest.json")); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "out", "*.parquet")); len(files) != 1 {
		t.Errorf("with the savepoint appeared %v", files)
	}
	for _, f := range []struct {
		call func(id string) error
		id   string
		code diag.Code
		says string
	}{
		{func(id string) error { _, err := c.Job(t.Context(), id); return err }, "j9", diag.UnknownJob, "did you mean"},
		{func(id string) error { _, err := c.Cancel(t.Context(), id); return err }, "nonsense", diag.UnknownJob, "jobs are: j1, j2"},
		{func(id string) error { _, err := c.Savepoint(t.Context(), id); return err }, rows, diag.NotCheckpointed, "checkpoint="},
		{func(id string) error { _, err := c.Savepoint(t.Context(), id); return err }, "", diag.UnknownJob, "jobs are"},
		{func(id string) error { return c.Log(t.Context(), id, true, nil) }, "j9", diag.UnknownJob, "did you mean"},
	} {
		if d := diag.From(f.call(f.id)); d == nil || d.Code != f.code || !strings.Contains(d.Hint, f.says) {
			t.Errorf("%q: %v", f.id, d)
		}
	}
	job, err := c.Cancel(t.Context(), stream)
	if err != nil || job.ID != stream {
		t.Errorf("cancel: %+v, %v", job, err)
	}
	waitFor(t, "the cancelled job's end", func() bool {
		job, err := c.Job(t.Context(), stream)
		return err == nil && job.State == engine.Cancelled
	})
	if _, err := c.Savepoint(t.Context(), stream); diag.From(err).Code != diag.BadOption || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a savepoint of an ended job: %v", err)
	}
}

// TestLogsHaveManyReaders: the job's client and those who follow it all get
// every line.
func TestLogsHaveManyReaders(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	c, a := s.client(t), s.attach(t, 1)
	dir := t.TempDir()
	plan := generated(5, 0, streamed(dir))
	plan = strings.Replace(plan, `"rows_per_second":0,`, "", 1)
	done := a.submit(t, plan, "")
	waitFor(t, "the job's end", func() bool { j, _ := s.engine.Job(done); return j.State() == engine.Succeeded })
	again := a.submit(t, plan, "") // says that there is nothing left to do
	for range 2 {
		var lines []string
		if err := c.Log(t.Context(), again, true, func(_, level, text string) error {
			lines = append(lines, level+" "+text)
			return nil
		}); err != nil || !slices.Equal(lines, []string{"INFO the job had reached its end before; there is nothing left to do"}) {
			t.Errorf("%q, %v", lines, err)
		}
	}
	var logs int
	events, err := act(a.ctx, a.Client, "watch", `{"job":"`+again+`"}`)
	for _, e := range events {
		if e.Log != nil {
			logs++
		}
	}
	if logs != 1 || err != nil {
		t.Errorf("the client gets %d lines, %v", logs, err)
	}
	endless := a.submit(t, generated(0, 100, collected), "")
	ctx, leave := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer leave()
	if err := c.Log(ctx, endless, true, nil); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("following a job that does not end: %v", err)
	}
	if err := c.Log(t.Context(), endless, false, nil); err != nil {
		t.Errorf("without following: %v", err)
	}
}
