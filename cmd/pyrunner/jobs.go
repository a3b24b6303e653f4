package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/server"
)

// jobNameShown is the width of a job's name in a list.
const jobNameShown = 40

func (c *cli) jobsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "jobs", Short: "Jobs of a server: list, show, logs, cancel, savepoint",
		Long: "Shows and cancels the jobs of a server, whoever started them: the one that\n" +
			"--server names, or this user's on its socket (pyrunner serve).",
	}
	command.AddCommand(c.jobsList(), c.jobsShow(), c.jobsLogs(), c.jobsCancel(), c.jobsSavepoint())
	needsCommand(command)
	return command
}

// jobCommand finishes a command about a server's jobs.
func (c *cli) jobCommand(command *cobra.Command, run func(ctx context.Context, client *server.Client, args []string) error) *cobra.Command {
	settingFlags(command, "server", "token_file", "tls_ca")
	command.RunE = func(command *cobra.Command, args []string) error {
		client, err := dial(command)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		return run(command.Context(), client, args)
	}
	if command.Args == nil {
		command.Args = cobra.ExactArgs(1)
		command.ValidArgsFunction = completeJobs
	}
	return command
}

// dial makes a client of the server that the settings name.
func dial(command *cobra.Command) (*server.Client, error) {
	s, err := settings(command)
	if err != nil {
		return nil, err
	}
	options := server.ClientOptions{Address: s.Text("server"), Token: os.Getenv("ALINK_TOKEN"), TLSCA: s.Text("tls_ca")}
	if options.Address == "" {
		options.Address = "grpc+unix://" + defaultSocket()
	}
	if path := s.Text("token_file"); path != "" && options.Token == "" {
		if options.Token, err = server.ReadToken(path); err != nil {
			return nil, err
		}
	}
	return server.Dial(options)
}

func completeJobs(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	client, err := dial(command)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer func() { _ = client.Close() }()
	list, err := client.Jobs(command.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, job := range list {
		out = append(out, job.ID+"\t"+string(job.State)+" "+oneLine(job.Name))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) jobsList() *cobra.Command {
	command := &cobra.Command{Use: "ls", Short: "List the jobs, the newest first", Args: cobra.NoArgs}
	asJSON := jsonFlag(command)
	return c.jobCommand(command, func(ctx context.Context, client *server.Client, _ []string) error {
		list, err := client.Jobs(ctx)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, list)
		}
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "JOB\tNAME\tSTATE\tSTARTED\tELAPSED\tROWS")
		for i := len(list) - 1; i >= 0; i-- {
			job := list[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", job.ID, cut(oneLine(job.Name), jobNameShown), job.State, ago(time.Since(job.Started)), elapsedText(job.ElapsedS), job.Rows)
		}
		return w.Flush()
	})
}

// oneLine keeps what a client has named from moving a terminal's cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func elapsedText(seconds float64) string {
	if seconds < 60 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return (time.Duration(seconds) * time.Second).String()
}

func (c *cli) jobsShow() *cobra.Command {
	command := &cobra.Command{Use: "show JOB", Short: "Show a job: its operators, checkpoints and error"}
	asJSON := jsonFlag(command)
	return c.jobCommand(command, func(ctx context.Context, client *server.Client, args []string) error {
		job, err := client.Job(ctx, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, job)
		}
		return c.printJob(job)
	})
}

func (c *cli) printJob(job server.JobInfo) error {
	fmt.Fprintf(c.stdout, "%s %s: %s, started %s, %s\n", job.ID, oneLine(job.Name), job.State, job.Started.Local().Format(time.DateTime), elapsedText(job.ElapsedS))
	if job.Detached {
		fmt.Fprintln(c.stdout, "it goes on when its client leaves")
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nOPERATOR\tSTATE\tROWS IN\tROWS OUT\tTIME\tNOTE")
	for _, o := range job.Operators {
		note := o.Note
		if o.LateRows > 0 {
			note = strings.TrimSpace(fmt.Sprintf("%s %d late", note, o.LateRows))
		}
		if o.FailedRows > 0 {
			note = strings.TrimSpace(fmt.Sprintf("%s %d failed", note, o.FailedRows))
		}
		if o.LagS != nil && job.State == engine.Running {
			note = strings.TrimSpace(fmt.Sprintf("%s %.1f s behind", note, *o.LagS))
		}
		if o.Bundles > 0 {
			note = strings.TrimSpace(fmt.Sprintf("%s python %.2f s, conversion %.2f s, transfer %.2f s, load %.2f s; queue %.2f s", note, o.PythonS, o.ConversionS, o.TransferS, o.LoadS, o.QueueS))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.2f s\t%s\n", o.Name, o.State, o.RowsIn, o.RowsOut, o.TimeS, oneLine(note))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if of, ok := job.Checkpoints.(map[string]any); ok {
		fmt.Fprintf(c.stdout, "\ncheckpoints: %.0f completed, the last is %.0f\n", of["completed"], of["last"])
	}
	if job.Error != nil {
		_, err := fmt.Fprintf(c.stdout, "\n%s\n", fullText(job.Error))
		return err
	}
	return nil
}

// fullText is a diagnostic as its user sees it, and below it the cause where
// that was cut.
func fullText(d *diag.Diagnostic) string {
	shown, cause := d.Render(), strings.TrimSpace(d.Cause)
	if last := strings.TrimSpace(cause[strings.LastIndexByte(cause, '\n')+1:]); !strings.Contains(shown, last) {
		shown += "\n\nthe whole cause:\n" + cause
	}
	lines := strings.Split(shown, "\n")
	for i, line := range lines {
		lines[i] = oneLine(line)
	}
	return strings.Join(lines, "\n")
}

func (c *cli) jobsLogs() *cobra.Command {
	command := &cobra.Command{
		Use: "logs JOB", Short: "Print what a job's functions have printed and logged",
		Long: "Prints what a job's functions have printed and logged, the last 10,000 lines of it\n" +
			"while the job runs. The client of the job sees the same lines.",
	}
	follow := command.Flags().BoolP("follow", "f", false, "go on until the job ends")
	asJSON := jsonFlag(command)
	return c.jobCommand(command, func(ctx context.Context, client *server.Client, args []string) error {
		return client.Log(ctx, args[0], *follow, func(function, level, text string) error {
			if *asJSON {
				return printLine(c.stdout, map[string]string{"function": function, "level": level, "text": text})
			}
			if function == "" {
				function = level
			}
			_, err := fmt.Fprintf(c.stdout, "%s\n", diag.Harmless(fmt.Sprintf("[%s] %s", function, text)))
			return err
		})
	})
}

func (c *cli) jobsCancel() *cobra.Command {
	command := &cobra.Command{Use: "cancel JOB", Short: "Cancel a job; its outputs do not appear"}
	asJSON := jsonFlag(command)
	return c.jobCommand(command, func(ctx context.Context, client *server.Client, args []string) error {
		job, err := client.Cancel(ctx, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, job)
		}
		if job.State != engine.Running && job.State != engine.Cancelled {
			return diag.New(diag.BadOption, "job %s has ended already: %s", job.ID, job.State)
		}
		_, err = fmt.Fprintf(c.stdout, "cancelled %s\n", job.ID)
		return err
	})
}

func (c *cli) jobsSavepoint() *cobra.Command {
	command := &cobra.Command{
		Use: "savepoint JOB", Short: "Make a checkpoint of a stream now and print its folder",
		Long: "Makes a checkpoint of a job that is written with checkpoint= now, waits until it\n" +
			"is complete and prints its folder, which lies on the server's disk. It is kept as\n" +
			"long as a regular one: until three more are complete.",
	}
	asJSON := jsonFlag(command)
	return c.jobCommand(command, func(ctx context.Context, client *server.Client, args []string) error {
		path, err := client.Savepoint(ctx, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, map[string]string{"path": path})
		}
		_, err = fmt.Fprintln(c.stdout, path)
		return err
	})
}
