package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/connector/file"
	engineexec "github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// summary is what `run --json` prints at the end.
type summary struct {
	State    string       `json:"state"`
	ElapsedS float64      `json:"elapsed_s"`
	Exit     int          `json:"exit"`
	Jobs     []jobSummary `json:"jobs"`
}

// jobSummary is one job of a run: a job of a script in Python, which writes the
// same, a line for each that has ended, to the file that ALINK_JOBS_FILE names;
// a plan; or a script of SQL.
type jobSummary struct {
	ID       string           `json:"id"`
	State    string           `json:"state"`
	Rows     int64            `json:"rows"`
	ElapsedS float64          `json:"elapsed_s"`
	Error    *diag.Diagnostic `json:"error"`
	// Results are those of a plan, Statements those of a script of SQL that
	// have succeeded.
	Results    []resultSummary    `json:"results,omitempty"`
	Statements []statementSummary `json:"statements,omitempty"`
}

// resultSummary is a result of a plan: a node that collects rows.
type resultSummary struct {
	Node string `json:"node"`
	Rows int64  `json:"rows"`
}

func (c *cli) runCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "run JOB [ARGUMENT...]", Short: "Run a job: a Python script, a script of SQL, or a plan as JSON",
		Long: "Runs a job.\n\n" +
			"  .py    with the Python that has alink: --python, VIRTUAL_ENV, beside pyrunner,\n" +
			"         PATH. Further arguments are the script's. Its exit status is passed on.\n" +
			"  .sql   statements, as \"pyrunner sql\" runs them, with --param. The last result is\n" +
			"         printed as a table.\n" +
			"  .json  a plan, in an engine of its own. Rows of its results are printed as one\n" +
			"         JSON object a line.\n\n" +
			"Progress is shown on a terminal, otherwise as a line every few seconds. With\n" +
			"--json a summary is printed at the end, and what the job prints goes to standard\n" +
			"error.",
		Example: "  pyrunner run job.py --param day=2013-01-01\n  pyrunner run plan.json --json",
		Args:    cobra.MinimumNArgs(1),
	}
	params := command.Flags().StringArray("param", nil, "parameter as name=value, read with al.params or bound to $name; may be given several times")
	quiet := command.Flags().BoolP("quiet", "q", false, "show no progress")
	settingFlags(command, "python", "parallelism", "memory", "worker_memory", "spill_dir", "sandbox", "launcher", "lane", "offline", "progress")
	asJSON := jsonFlag(command)
	command.Flags().SetInterspersed(true)
	command.RunE = func(command *cobra.Command, args []string) error {
		s, err := settings(command)
		if err != nil {
			return err
		}
		named, err := parseParams(*params)
		if err != nil {
			return err
		}
		if *quiet {
			if err := s.Set("progress", "off", "--quiet"); err != nil {
				return err
			}
		}
		if _, err := os.Stat(args[0]); err != nil {
			return diag.New(diag.FileMissing, "there is no job %s", args[0]).WithCause(err)
		}
		switch kind := strings.ToLower(filepath.Ext(args[0])); kind {
		case ".py":
			return c.runScript(s, args, named, *asJSON)
		case ".sql":
			if len(args) > 1 {
				return usageError{badUsage("a script of SQL takes no arguments").WithHint("parameters are given with --param name=value")}
			}
			return c.runStatements(command.Context(), s, args[0], named, *asJSON)
		case ".json":
			if len(args) > 1 || len(named) > 0 {
				return usageError{badUsage("a plan takes no arguments and no parameters")}
			}
			return c.runPlan(command.Context(), s, args[0], *asJSON)
		default:
			return usageError{badUsage("%s is no job: its name must end in .py, .sql or .json", args[0])}
		}
	}
	return command
}

// parseParams reads name=value; the last of a name counts.
func parseParams(list []string) (map[string]string, error) {
	params := map[string]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usageError{badUsage("--param must be name=value, not %q", text).WithHint("--param day=2013-01-01")}
		}
		params[name] = value
	}
	return params, nil
}

// runScript runs a Python script and ends as it ends.
func (c *cli) runScript(s *config.Settings, args []string, params map[string]string, asJSON bool) error {
	python, err := findPython(s.Text("python"))
	if err != nil {
		return err
	}
	// Without a context: signals are passed on, and the script ends itself.
	child := exec.Command(python, args...)
	child.Stdin, child.Stdout, child.Stderr = c.stdin, c.stdout, c.stderr
	child.Env, err = scriptEnvironment(s, params)
	if err != nil {
		return err
	}
	jobsFile := ""
	if asJSON {
		child.Stdout = c.stderr
		dir, err := os.MkdirTemp("", "alink-run-")
		if err != nil {
			return fmt.Errorf("make a folder for the summary: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // in the system's temporary folder
		jobsFile = filepath.Join(dir, "jobs.jsonl")
		child.Env = append(child.Env, "ALINK_JOBS_FILE="+jobsFile)
	}
	began := time.Now()
	status, err := runChild(child)
	if err != nil {
		return diag.New(diag.NoInterpreter, "the Python at %s does not start", python).WithCause(err)
	}
	if asJSON {
		jobs, err := readJobs(jobsFile)
		if err != nil {
			return err
		}
		if err := printJSON(c.stdout, newSummary(status, time.Since(began), jobs)); err != nil {
			return err
		}
	}
	if status != exitDone {
		return exitError{status}
	}
	return nil
}

// scriptEnvironment is this process's environment with the settings and the
// parameters. Where standard error is no terminal, progress is lines.
func scriptEnvironment(s *config.Settings, params map[string]string) ([]string, error) {
	env := os.Environ()
	for _, key := range config.Keys {
		if v := s.Value(key.Name); v.Origin != config.DefaultOrigin {
			env = append(env, key.Variable+"="+v.Text)
		}
	}
	if s.Value("progress").Text == "auto" && !isTerminal(os.Stderr) {
		env = append(env, "ALINK_PROGRESS=plain")
	}
	if os.Getenv("ALINK_PYRUNNER") == "" {
		if self, err := os.Executable(); err == nil && filepath.Base(self) == "pyrunner" {
			env = append(env, "ALINK_PYRUNNER="+self)
		}
	}
	encoded, err := json.Marshal(params)
	return append(env, "ALINK_PARAMS="+string(encoded)), err
}

// runChild waits for a process, to which it passes signals on, and gives its
// exit status as a shell does. Ctrl-C of a terminal reaches the process by
// itself, because it is in the same group.
func runChild(child *exec.Cmd) (status int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case s := <-signals:
			fromTerminal := s == syscall.SIGINT || s == syscall.SIGQUIT
			if !fromTerminal || !inForeground() {
				_ = child.Process.Signal(s) // it may have ended
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if wait, ok := child.ProcessState.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
				return 128 + int(wait.Signal()), nil
			}
			return child.ProcessState.ExitCode(), nil
		}
	}
}

// inForeground reports whether the terminal sends its signals to this process.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func newSummary(status int, elapsed time.Duration, jobs []jobSummary) summary {
	state := string(engine.Succeeded)
	switch {
	case status == exitInterrupted:
		state = string(engine.Cancelled)
	case status != exitDone:
		state = string(engine.Failed)
	}
	return summary{State: state, ElapsedS: elapsed.Seconds(), Exit: status, Jobs: append([]jobSummary{}, jobs...)}
}

func readJobs(path string) ([]jobSummary, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // it ran no job
	}
	var jobs []jobSummary
	for line := range strings.Lines(string(data)) {
		var job jobSummary
		if json.Unmarshal([]byte(line), &job) == nil { // a line that a killed script has not finished is none
			jobs = append(jobs, job)
		}
	}
	return jobs, err
}

// runPlan runs a plan in an engine of its own.
func (c *cli) runPlan(ctx context.Context, s *config.Settings, path string, asJSON bool) error {
	text, err := readInput(path)
	if err != nil {
		return err
	}
	p, err := plan.Decode([]byte(text))
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{
		CacheDir: s.Text("cache_dir"), UV: s.Text("uv"), Offline: s.Switch("offline"), SourceBuilds: sourceBuilds(s), Sandbox: s.Text("sandbox"), Lane: s.Text("lane"), Launcher: s.Text("launcher"),
		MemoryLimitBytes: s.Number("memory"), WorkerMemoryBytes: s.Number("worker_memory"), Parallelism: int(s.Number("parallelism")), SpillDir: s.Text("spill_dir"),
	})
	if err != nil {
		return err
	}
	began := time.Now()
	job, results, err := c.followPlan(ctx, e, p, s.Text("progress"), asJSON)
	result := summaryOf(job, err)
	result.Results = results
	if err = errors.Join(err, e.Close()); !asJSON {
		return err
	}
	return c.printSummary(ctx, began, err, result)
}

// printSummary prints the summary of a job that ran in this process, and gives
// the job's error back.
func (c *cli) printSummary(ctx context.Context, began time.Time, err error, job jobSummary) error {
	status := exitDone
	if err != nil {
		status = exitFailed
		if ctx.Err() != nil {
			status = exitInterrupted
		}
	}
	if printErr := printJSON(c.stdout, newSummary(status, time.Since(began), []jobSummary{job})); printErr != nil {
		return printErr
	}
	return err
}

func summaryOf(job *engine.Job, err error) jobSummary {
	result := jobSummary{State: string(engine.Failed), Error: diag.From(err)}
	if job == nil {
		return result
	}
	result.ID, result.State, result.ElapsedS = job.ID, string(job.State()), job.Elapsed().Seconds()
	if operators := job.Progress(); len(operators) > 0 {
		last := operators[len(operators)-1]
		result.Rows = max(last.RowsIn, last.RowsOut)
	}
	return result
}

// planProgressEvery is the time between two lines of a plan's progress.
const planProgressEvery = 5 * time.Second

// followPlan runs a plan, prints the rows of its results and lines of
// progress, and waits for its end. Where standard output is for the summary,
// rows are printed on standard error, as what a script prints is.
func (c *cli) followPlan(ctx context.Context, e *engine.Engine, p *plan.Plan, progress string, asJSON bool) (*engine.Job, []resultSummary, error) {
	job, err := e.Submit(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	out := io.Writer(c.stdout)
	if asJSON {
		out = c.stderr
	}
	defer context.AfterFunc(ctx, job.Cancel)()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		c.showProgress(job, progress != "off")
	}()
	var results []resultSummary
	for _, node := range p.Nodes {
		if _, ok := node.Op.(plan.Collect); ok && err == nil {
			result := resultSummary{Node: node.ID}
			result.Rows, err = printRows(out, job, node.ID)
			results = append(results, result)
		}
	}
	if err != nil {
		job.Cancel()
	}
	// Not bounded by ctx: its end has cancelled the job.
	waitErr := job.Wait(context.Background())
	<-followed
	if err != nil && !isCancelled(waitErr) && waitErr != nil || err == nil {
		err = waitErr
	}
	return job, results, err
}

func (c *cli) showProgress(job *engine.Job, shown bool) {
	ticker := time.NewTicker(planProgressEvery)
	defer ticker.Stop()
	read := 0
	printLog := func() {
		var lines []engineexec.LogLine
		lines, read = job.Log(read)
		for _, line := range lines {
			fmt.Fprintf(c.stderr, "%s\n", diag.Harmless(fmt.Sprintf("[%s] %s", line.Function, line.Text)))
		}
	}
	for {
		select {
		case <-job.Done():
			printLog()
			return
		case <-ticker.C:
		}
		printLog()
		if !shown {
			continue
		}
		i := slices.IndexFunc(job.Progress(), func(o engineexec.Progress) bool { return o.State == "running" })
		if i >= 0 {
			o := job.Progress()[i]
			fmt.Fprintf(c.stderr, "pyrunner: %.0f s: %s %d rows\n", job.Elapsed().Seconds(), o.Name, o.RowsOut)
		}
	}
}

// printRows prints a result as JSON lines and counts its rows.
func printRows(out io.Writer, job *engine.Job, node string) (rows int64, err error) {
	reader, err := job.Result(node)
	if err != nil {
		return 0, err
	}
	defer reader.Release()
	encoder, err := file.NewEncoder(out, file.JSON, "", reader.Schema())
	if err != nil {
		return 0, err
	}
	for reader.Next() {
		rows += reader.RecordBatch().NumRows()
		if err := encoder.Write(reader.RecordBatch()); err != nil {
			return rows, err
		}
	}
	return rows, errors.Join(reader.Err(), encoder.Close())
}
