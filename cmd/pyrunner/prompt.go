package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/peterh/liner"

	"github.com/alink-runtime/alink/diag"
	engineexec "github.com/alink-runtime/alink/engine/exec"
)

const (
	promptFirst = "sql> "
	promptNext  = "...> "
	promptHelp  = `Statements end with ; and may have several lines.
.tables         tables and views
.schema [NAME]  columns of all tables, or of one
.help           this list
.quit           leave, as Ctrl-D does
Ctrl-C ends the statement that runs, or clears the line. Tab completes.
`
)

// promptCommands are what begins with a dot.
var promptCommands = []string{".exit", ".help", ".quit", ".schema", ".tables"}

// prompt is a dialogue on a terminal.
type prompt struct {
	cli     *cli
	shell   engineexec.Shell
	out     *results
	params  map[string]string
	line    *liner.State
	signals chan os.Signal
}

// prompt reads statements from the terminal and runs them, until the user
// leaves. Ctrl-C ends a statement, not the program, so that the signals are
// taken here.
func (c *cli) prompt(shell engineexec.Shell, out *results, params map[string]string) error {
	p := &prompt{cli: c, shell: shell, out: out, params: params, line: liner.NewLiner(), signals: make(chan os.Signal, 1)}
	signal.Notify(p.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(p.signals)
	defer func() { _ = p.line.Close() }() // the terminal may be gone
	out.changes = true
	p.line.SetCtrlCAborts(true)
	p.line.SetTabCompletionStyle(liner.TabPrints)
	p.line.SetWordCompleter(p.completeWord)
	history := historyPath()
	readHistory(p.line, history)
	err := p.dialogue()
	return errors.Join(err, writeHistory(p.line, history))
}

// dialogue reads and runs until the end of the input.
func (p *prompt) dialogue() error {
	fmt.Fprintf(p.cli.stdout, "pyrunner %s, SQL of DuckDB. Statements end with ; and .help lists commands.\n", version)
	var lines []string
	for {
		text, err := p.read(promptOf(lines))
		switch {
		case errors.Is(err, liner.ErrPromptAborted):
			lines = nil
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(p.cli.stdout)
			return nil
		case err != nil:
			return err
		}
		if len(lines) == 0 && strings.HasPrefix(strings.TrimSpace(text), ".") {
			p.line.AppendHistory(text)
			if leave := p.command(strings.Fields(text)); leave {
				return nil
			}
			continue
		}
		if lines = append(lines, text); strings.TrimSpace(strings.Join(lines, "")) == "" {
			lines = nil
			continue
		}
		whole := strings.Join(lines, "\n")
		if !p.shell.Complete(whole) {
			continue
		}
		p.remember(lines)
		lines = nil
		if err := p.run(engineexec.Script{Name: "<prompt>", Text: whole, Params: p.params}); err != nil {
			return err
		}
	}
}

func promptOf(lines []string) string {
	if len(lines) > 0 {
		return promptNext
	}
	return promptFirst
}

// read reads a line. SIGTERM and the end of the terminal end the program,
// however: the goroutine that waits for a key then ends with it.
func (p *prompt) read(prompt string) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := p.edit(prompt)
		done <- answer{text, err}
	}()
	for {
		select {
		case a := <-done:
			return a.text, a.err
		case s := <-p.signals:
			if s != syscall.SIGINT { // the terminal sends none while it reads a line
				return "", exitError{128 + int(s.(syscall.Signal))}
			}
		}
	}
}

// edit lets the user enter a line. The editor takes Ctrl-C as a character when
// the prompt stands there already: of someone who is fast it would be a signal,
// and lost.
func (p *prompt) edit(prompt string) (string, error) {
	if liner.TerminalSupported() {
		defer signalKeysOff()()
	}
	return p.line.Prompt(prompt)
}

// run runs statements until they end or Ctrl-C ends them. What a statement
// does wrong is told, and the dialogue goes on: an error is one of the dialogue.
func (p *prompt) run(script engineexec.Script) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- p.shell.Run(ctx, script, p.out) }()
	for {
		select {
		case s := <-p.signals:
			if s == syscall.SIGINT {
				cancel(context.Canceled)
			} else {
				cancel(exitError{128 + int(s.(syscall.Signal))})
			}
		case err := <-ended:
			p.out.failed()
			if exit, ok := errors.AsType[exitError](context.Cause(ctx)); ok {
				return exit
			}
			return p.tell(err)
		}
	}
}

// tell shows what a statement did wrong. Where the terminal is gone, the
// dialogue ends.
func (p *prompt) tell(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EIO):
		return err
	case isCancelled(err):
		fmt.Fprintln(p.cli.stderr, "cancelled")
		return nil
	}
	report(p.cli.stderr, err)
	return nil
}

// command carries out a command that begins with a dot.
func (p *prompt) command(words []string) (leave bool) {
	name := strings.Trim(strings.TrimSuffix(strings.Join(words[1:], " "), ";"), `"`)
	switch words[0] {
	case ".quit", ".exit":
		return true
	case ".help":
		fmt.Fprint(p.cli.stdout, promptHelp)
	case ".tables":
		leave = p.query(tablesQuery, nil)
	case ".schema":
		params := map[string]string{}
		query := columnsQuery
		if name != "" {
			params["name"] = name
			query = strings.Replace(query, "ORDER", "AND lower(table_name) = lower($name) ORDER", 1)
		}
		leave = p.query(query, params)
	default:
		report(p.cli.stderr, badUsage("there is no command %s", words[0]).WithHint("%s", diag.DidYouMean(words[0], "commands", promptCommands)))
	}
	return leave
}

const (
	tablesQuery = `SELECT database_name AS database, schema_name AS schema, table_name AS name, 'table' AS kind
		FROM duckdb_tables() WHERE NOT internal
		UNION ALL SELECT database_name, schema_name, view_name, 'view' FROM duckdb_views() WHERE NOT internal ORDER BY ALL`
	columnsQuery = `SELECT table_name AS "table", column_name AS "column", data_type AS type, is_nullable AS nullable
		FROM duckdb_columns() WHERE NOT internal ORDER BY database_name, schema_name, table_name, column_index`
)

// query shows a query of ours as a table, whatever the format.
func (p *prompt) query(text string, params map[string]string) (leave bool) {
	format := p.out.format
	p.out.format = formatTable
	defer func() { p.out.format = format }()
	return p.run(engineexec.Script{Name: "<prompt>", Text: text, Params: params}) != nil
}

// completeWord completes the word before the cursor.
func (p *prompt) completeWord(line string, pos int) (head string, completions []string, tail string) {
	runes := []rune(line)
	start := pos
	for start > 0 && isWord(runes[start-1]) {
		start--
	}
	head, tail = string(runes[:start]), string(runes[pos:])
	word := string(runes[start:pos])
	if start > 0 && strings.TrimSpace(head) == "." {
		for _, name := range promptCommands {
			if rest, ok := strings.CutPrefix(name, "."+word); ok {
				completions = append(completions, word+rest)
			}
		}
		return head, completions, tail
	}
	if word == "" {
		return head, nil, tail
	}
	words, err := p.shell.Words(context.Background())
	if err != nil {
		return head, nil, tail // a courtesy
	}
	for _, candidate := range words {
		if len(candidate) >= len(word) && strings.EqualFold(candidate[:len(word)], word) {
			completions = append(completions, inCaseOf(candidate, word))
		}
	}
	slices.Sort(completions)
	return head, slices.Compact(completions), tail
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80
}

// inCaseOf writes a keyword, which comes in capitals, in small letters where
// the user has begun so.
func inCaseOf(candidate, word string) string {
	if candidate == strings.ToUpper(candidate) && word == strings.ToLower(word) {
		return strings.ToLower(candidate)
	}
	return candidate
}

// remember puts what was entered into the history, line by line: a line break
// may stand in a string.
func (p *prompt) remember(lines []string) {
	for _, line := range lines {
		if strings.TrimSpace(line) != "" {
			p.line.AppendHistory(line)
		}
	}
}

// historyPath is the file of the history, in the user's folder for state; ""
// where there is none.
func historyPath() string {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "alink", "sql_history")
}

// readHistory reads the history, if there is one that can be read.
func readHistory(line *liner.State, path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = line.ReadHistory(io.LimitReader(f, inputBytesMax)) // what is not text is not wanted
}

// writeHistory writes the history, for its user's eyes alone.
func writeHistory(line *liner.State, path string) error {
	if path == "" {
		return nil
	}
	var text bytes.Buffer
	if _, err := line.WriteHistory(&text); err != nil {
		return err
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = replaceFile(path, text.Bytes())
	}
	if err != nil {
		return diag.New(diag.OutputUnwritable, "the history cannot be kept").WithCause(err)
	}
	return nil
}

// replaceFile writes a private file, whole or not at all.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error before is the one to tell
	}
	return err
}
