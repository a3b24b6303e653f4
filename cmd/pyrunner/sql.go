package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	engineexec "github.com/alink-runtime/alink/engine/exec"
)

// Formats of results.
const (
	formatTable   = "table"
	formatCSV     = "csv"
	formatJSON    = "json"
	formatArrow   = "arrow"
	formatParquet = "parquet"
)

var formats = []string{formatTable, formatCSV, formatJSON, formatArrow, formatParquet}

// formatOfEnding is the format of a file, by the ending of its name.
var formatOfEnding = map[string]string{
	".txt": formatTable, ".csv": formatCSV, ".json": formatJSON, ".jsonl": formatJSON, ".ndjson": formatJSON,
	".arrow": formatArrow, ".feather": formatArrow, ".parquet": formatParquet,
}

// sqlOptions are the flags of `sql`.
type sqlOptions struct {
	commands  []string
	format    string
	output    string
	overwrite bool
	params    []string
}

func (c *cli) sqlCommand() *cobra.Command {
	var o sqlOptions
	command := &cobra.Command{
		Use: "sql [FILE]", Short: "SQL on files: statements, scripts, or a prompt",
		Long: "Runs SQL statements, in DuckDB's dialect, on files and on the tables that they\n" +
			"make. Statements come from -c, from FILE (- is standard input), or from standard\n" +
			"input; on a terminal there is a prompt. They run with your rights: COPY … TO and\n" +
			"ATTACH write files. What is not in a file is gone at the end. Extensions are\n" +
			"loaded only by INSTALL and LOAD.\n\n" +
			"Results are a table on a terminal, with its first and last rows and cut to its\n" +
			"width, and CSV otherwise. json is one object a line; arrow is a stream of Arrow\n" +
			"IPC, and in a file Arrow's file format (Feather). With -o the format follows the\n" +
			"ending of FILE, which appears when all statements have succeeded; .gz and .zst\n" +
			"compress text.\n\n" +
			"A parameter $name is a text that takes on the type which its place asks for; where\n" +
			"none is asked for, write CAST($name AS DOUBLE).",
		Example: "  pyrunner sql -c \"SELECT carrier, count(*) FROM 'flights.parquet' GROUP BY ALL\"\n" +
			"  pyrunner sql report.sql --param day=2013-01-01 -o report.parquet\n" +
			"  echo \"FROM 'flights.parquet'\" | pyrunner sql --format json | head",
		Args: cobra.MaximumNArgs(1),
	}
	flags := command.Flags()
	flags.StringArrayVarP(&o.commands, "command", "c", nil, "statements to run; may be given several times")
	flags.Var(&choiceValue{&o.format, formats}, "format", "format of results: "+strings.Join(formats, ", ")+" (default: see above)")
	flags.StringVarP(&o.output, "output", "o", "", "file to write the result to")
	flags.BoolVar(&o.overwrite, "overwrite", false, "replace the file of --output")
	flags.StringArrayVar(&o.params, "param", nil, "parameter as name=value, bound to $name; may be given several times")
	settingFlags(command, "memory", "parallelism", "spill_dir")
	_ = command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	command.RunE = func(command *cobra.Command, args []string) error {
		s, err := settings(command)
		if err != nil {
			return err
		}
		return c.sql(command.Context(), s, o, args)
	}
	return command
}

// choiceValue is a flag that is one of a few words.
type choiceValue struct {
	text    *string
	choices []string
}

func (v *choiceValue) String() string { return "" }
func (v *choiceValue) Type() string   { return "choice" }
func (v *choiceValue) Set(text string) error {
	if !slices.Contains(v.choices, text) {
		return fmt.Errorf("it must be one of %s", strings.Join(v.choices, ", "))
	}
	*v.text = text
	return nil
}

func (c *cli) sql(ctx context.Context, s *config.Settings, o sqlOptions, args []string) error {
	params, err := parseParams(o.params)
	if err != nil {
		return err
	}
	if len(args) > 0 && len(o.commands) > 0 {
		return usageError{badUsage("the statements are given twice: with -c and in %s", args[0])}
	}
	prompt := len(args) == 0 && len(o.commands) == 0 && isTerminal(c.stdin) && isTerminal(c.stdout)
	if err := c.chooseFormat(&o, prompt); err != nil {
		return err
	}
	var scripts []engineexec.Script
	if !prompt {
		if scripts, err = c.scripts(ctx, o.commands, args); err != nil {
			return err
		}
	}
	out, err := c.openResults(o)
	if err != nil {
		return err
	}
	defer out.discard()
	shell, err := openShell(s)
	if err != nil {
		return err
	}
	if prompt {
		err = c.prompt(shell, out, params)
	} else {
		err = runScripts(ctx, shell, scripts, params, out)
	}
	if err == nil {
		err = out.publish()
	}
	return errors.Join(err, shell.Close())
}

func openShell(s *config.Settings) (engineexec.Shell, error) {
	return engine.OpenShell(engine.Options{
		MemoryLimitBytes: s.Number("memory"), Parallelism: int(s.Number("parallelism")), SpillDir: s.Text("spill_dir"),
	})
}

// runScripts runs scripts that share their parameters.
func runScripts(ctx context.Context, shell engineexec.Shell, scripts []engineexec.Script, params map[string]string, out engineexec.Results) error {
	if err := checkParams(shell, scripts, params); err != nil {
		return err
	}
	for _, script := range scripts {
		script.Params = params
		if err := shell.Run(ctx, script, out); err != nil {
			return err
		}
	}
	return nil
}

// checkParams refuses a parameter that no script has: its name is misspelt.
func checkParams(shell engineexec.Shell, scripts []engineexec.Script, params map[string]string) error {
	var used []string
	for _, script := range scripts {
		used = append(used, shell.Parameters(script.Text)...)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		isUsed := func(u string) bool { return strings.EqualFold(u, name) }
		if _, err := strconv.Atoi(name); err == nil || slices.ContainsFunc(used, isUsed) { // a number is that of a ?
			continue
		}
		d := diag.New(diag.BadOption, "the SQL has no parameter $%s", name)
		if len(used) > 0 {
			return d.WithHint("%s", diag.DidYouMean(name, "its parameters", used))
		}
		return d.WithHint("write $%s where the value belongs", name)
	}
	return nil
}

// chooseFormat decides on the format and refuses what cannot be written.
func (c *cli) chooseFormat(o *sqlOptions, prompt bool) error {
	if o.overwrite && o.output == "" {
		return usageError{badUsage("--overwrite needs --output")}
	}
	if prompt && o.output != "" {
		return usageError{badUsage("--output needs statements: -c, a file, or standard input").
			WithHint("at the prompt, COPY … TO writes files")}
	}
	if o.format == "" && o.output != "" {
		if o.format = formatOfEnding[ending(o.output)]; o.format == "" {
			return usageError{badUsage("the ending of %s is that of no format", o.output).WithHint("name one with --format: %s", strings.Join(formats, ", "))}
		}
	}
	if o.format == "" {
		o.format = formatCSV
		if isTerminal(c.stdout) {
			o.format = formatTable
		}
	}
	switch {
	case o.output != "":
	case o.format == formatParquet:
		return usageError{badUsage("parquet cannot be written to standard output").WithHint("name a file with -o; arrow can be")}
	case o.format == formatArrow && isTerminal(c.stdout):
		return usageError{badUsage("arrow is binary and not written to a terminal").WithHint("name a file with -o, or write to a pipe")}
	}
	return nil
}

// ending is the ending of a file's name, that of a compression apart.
func ending(path string) string {
	path = strings.ToLower(path)
	for _, compression := range []string{".gz", ".zst"} {
		path = strings.TrimSuffix(path, compression)
	}
	return filepath.Ext(path)
}

// scripts reads what there is to run.
func (c *cli) scripts(ctx context.Context, commands, args []string) ([]engineexec.Script, error) {
	if len(commands) > 0 {
		scripts := make([]engineexec.Script, len(commands))
		for i, text := range commands {
			scripts[i] = engineexec.Script{Name: "-c", Text: text}
		}
		return scripts, nil
	}
	if len(args) == 0 || args[0] == "-" {
		text, err := readAll(ctx, c.stdin)
		return []engineexec.Script{{Name: "standard input", Text: withoutMark(text)}}, err
	}
	if format := formatOfEnding[ending(args[0])]; format != "" && format != formatTable {
		if _, err := os.Stat(args[0]); err == nil {
			return nil, usageError{badUsage("%s is data, not a script of SQL", args[0]).WithHint("pyrunner sql -c \"FROM '%s'\"", args[0])}
		}
	}
	text, err := readInput(args[0])
	return []engineexec.Script{{Name: args[0], Text: withoutMark(text)}}, err
}

// withoutMark removes the mark of byte order that some editors put in front.
func withoutMark(text string) string { return strings.TrimPrefix(text, "\ufeff") }

// readAll reads a small standard input to its end, or until ctx is done: the
// goroutine that waits for a terminal then ends with the process.
func readAll(ctx context.Context, in io.Reader) (string, error) {
	type read struct {
		data []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(in, inputBytesMax+1))
		done <- read{data, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-done:
		if r.err == nil && len(r.data) > inputBytesMax {
			r.err = fmt.Errorf("it has more than %d bytes", inputBytesMax)
		}
		if r.err != nil {
			return "", diag.New(diag.FileUnreadable, "standard input cannot be read").WithCause(r.err)
		}
		return string(r.data), nil
	}
}

// existing refuses a file that is there before anything runs.
func existing(o sqlOptions) error {
	info, err := os.Stat(o.output)
	switch {
	case err == nil && info.IsDir():
		return diag.New(diag.OutputUnwritable, "%s is a folder", o.output).WithHint("name a file in it")
	case err == nil && info.Mode().IsRegular() && !o.overwrite:
		return fileExists(o.output)
	}
	folder := filepath.Dir(o.output)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return diag.New(diag.OutputUnwritable, "%s cannot be written: there is no folder %s", o.output, folder).WithHint("make it first")
	}
	return nil
}

func fileExists(path string) error {
	return diag.New(diag.OutputExists, "%s exists already", path).
		WithHint("--overwrite replaces it once all statements have succeeded")
}
