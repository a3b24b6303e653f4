package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	engineexec "github.com/alink-runtime/alink/engine/exec"
)

// statementSummary is a statement of a script that has succeeded.
type statementSummary struct {
	Line int    `json:"line"`
	Kind string `json:"kind"`
	// Rows are those of its result, or those that it has changed.
	Rows     int64   `json:"rows"`
	ElapsedS float64 `json:"elapsed_s"`
}

// runStatements runs a script of SQL and prints its last result.
func (c *cli) runStatements(ctx context.Context, s *config.Settings, path string, params map[string]string, asJSON bool) error {
	text, err := readInput(path)
	if err != nil {
		return err
	}
	shell, err := openShell(s)
	if err != nil {
		return err
	}
	began := time.Now()
	j := &sqlJob{}
	defer j.release()
	progress := io.Discard
	if s.Text("progress") != "off" {
		progress = c.stderr
	}
	script := engineexec.Script{Name: path, Text: withoutMark(text), Params: params}
	if err = checkParams(shell, []engineexec.Script{script}, params); err == nil {
		err = j.run(ctx, shell, script, progress)
	}
	if err = errors.Join(err, shell.Close()); err == nil && j.last != nil {
		out, width := io.Writer(c.stdout), terminalWidth(c.stdout)
		if asJSON {
			out, width = c.stderr, 0
		}
		err = j.last.print(out, width)
	}
	if !asJSON {
		return err
	}
	summary := jobSummary{
		ID: path, State: string(engine.Succeeded), Rows: j.rows, ElapsedS: time.Since(began).Seconds(),
		Error: diag.From(err), Statements: j.statements,
	}
	switch {
	case err != nil && ctx.Err() != nil:
		summary.State = string(engine.Cancelled)
		summary.Error = diag.New(diag.Cancelled, "the script was cancelled")
	case err != nil:
		summary.State = string(engine.Failed)
	}
	return c.printSummary(ctx, began, err, summary)
}

// sqlJob keeps of a script what is told at its end, and the rows of the last
// result that a table shows. It implements exec.Results.
type sqlJob struct {
	last       *preview
	statements []statementSummary
	// rows are those of the last result.
	rows int64

	mu  sync.Mutex
	now string // what the progress says
}

// run runs the script and shows every few seconds how far it is.
func (j *sqlJob) run(ctx context.Context, shell engineexec.Shell, script engineexec.Script, progress io.Writer) error {
	began, ended := time.Now(), make(chan struct{})
	var follow sync.WaitGroup
	follow.Go(func() {
		ticker := time.NewTicker(planProgressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				fmt.Fprintf(progress, "pyrunner: %.0f s: %s\n", time.Since(began).Seconds(), j.said())
			}
		}
	})
	err := shell.Run(ctx, script, j)
	close(ended)
	follow.Wait()
	return err
}

func (j *sqlJob) say(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = text
}

func (j *sqlJob) said() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now == "" {
		return "the first statement runs"
	}
	return j.now
}

// Begin implements exec.Results.
func (j *sqlJob) Begin(s engineexec.Statement, schema *arrow.Schema) error {
	j.release()
	j.last = newPreview(s, schema)
	return nil
}

// Write implements exec.Results.
func (j *sqlJob) Write(batch arrow.RecordBatch) error {
	j.last.add(batch)
	return nil
}

// End implements exec.Results.
func (j *sqlJob) End(s engineexec.Statement) error {
	j.statements = append(j.statements, statementSummary{
		Line: s.Line, Kind: s.Kind, Rows: s.Rows + s.Changed, ElapsedS: s.Elapsed.Seconds(),
	})
	if j.last != nil {
		j.rows = j.last.rows
	}
	j.say(fmt.Sprintf("%d of %d statements have run", s.Number, s.Of))
	return nil
}

func (j *sqlJob) release() {
	if j.last != nil {
		j.last.release()
		j.last = nil
	}
}
