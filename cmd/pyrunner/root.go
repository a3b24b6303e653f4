package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
)

// cli is what the commands share.
type cli struct {
	stdin  *os.File
	stdout *os.File
	stderr io.Writer
}

const about = `pyrunner runs dataflows on Arrow batches, with Python functions in workers.

Settings are found in this order: flag, ALINK_* variable, alink.toml in the
working directory or [tool.alink] of its pyproject.toml, default. See
"pyrunner config". Exit status: 0 done, 1 failed, 2 usage, 130 interrupted.`

// newRoot makes the tree of commands.
func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "pyrunner",
		Short: "Dataflows on Arrow batches, with Python functions in workers",
		Long:  about,
	}
	root.AddGroup(
		&cobra.Group{ID: groupWork, Title: "Work:"},
		&cobra.Group{ID: groupMachine, Title: "This machine:"},
		&cobra.Group{ID: groupMore, Title: "More:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add(groupWork, c.runCommand(), c.sqlCommand(), c.serveCommand(), c.jobsCommand())
	add(groupMachine, c.envCommand(), c.doctorCommand(), c.configCommand())
	add(groupMore, c.errorCommand(), c.versionCommand(), c.completionCommand(), c.engineCommand(), c.workerPoolCommand())
	root.SetHelpCommandGroupID(groupMore)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(flagError)
	// A command that only holds others has no line of usage of its own.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.Version = version
	root.SetVersionTemplate("pyrunner {{.Version}}\n")
	needsCommand(root)
	prepare(root)
	return root
}

// Groups of commands in the help.
const (
	groupWork    = "work"
	groupMachine = "machine"
	groupMore    = "more"
)

// needsCommand makes a command that only holds others say so.
func needsCommand(parent *cobra.Command) {
	parent.Args = cobra.ArbitraryArgs
	parent.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			fmt.Fprintln(command.ErrOrStderr(), command.UsageString())
			return exitError{exitUsage}
		}
		var names []string
		for _, sub := range parent.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				names = append(names, sub.Name())
			}
		}
		return usageError{badUsage("%s has no command %q", parent.CommandPath(), args[0]).
			WithHint("%s", diag.DidYouMean(args[0], "commands", names))}
	}
}

// prepare finishes every command of the tree: wrong numbers of arguments are
// usage errors, and flags keep the order in which they were declared.
func prepare(command *cobra.Command) {
	command.Flags().SortFlags = false
	if check := command.Args; check != nil {
		command.Args = func(command *cobra.Command, args []string) error {
			if err := check(command, args); err != nil {
				if _, ok := errors.AsType[*diag.Diagnostic](err); ok {
					return usageError{err}
				}
				return usageError{badUsage("%s: %v", command.CommandPath(), err).WithHint("usage: %s", command.UseLine())}
			}
			return nil
		}
	}
	for _, sub := range command.Commands() {
		prepare(sub)
	}
}

// flagError names the nearest flag.
func flagError(command *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return usageError{badUsage("%s: %v", command.CommandPath(), err).WithHint("%s --help", command.CommandPath())}
	}
	var names []string
	command.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	given := "--" + strings.TrimLeft(unknown.GetSpecifiedName(), "-")
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		given = "-" + unknown.GetSpecifiedName()
	}
	hint := diag.DidYouMean(given, "flags", names)
	if i := slices.IndexFunc(names, func(name string) bool { return len(given) > len("--x") && strings.HasPrefix(name, given) }); i >= 0 {
		hint = "did you mean " + names[i] + "?"
	}
	return usageError{badUsage("%s has no flag %s", command.CommandPath(), given).WithHint("%s", hint)}
}

// settingFlags adds the flags of settings to a command.
func settingFlags(command *cobra.Command, names ...string) {
	for _, name := range names {
		key, _ := config.Find(name)
		value := key.Default
		if value == "" {
			value = key.Automatic
		}
		usage := fmt.Sprintf("%s (%s; default: %s)", key.Summary, key.Variable, value)
		if key.Kind == config.Switch {
			command.Flags().Bool(key.Flag(), false, usage)
			continue
		}
		command.Flags().Var(&settingValue{kind: string(key.Kind)}, key.Flag(), usage)
		if key.Kind == config.Choice {
			_ = command.RegisterFlagCompletionFunc(key.Flag(), cobra.FixedCompletions(key.Choices, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
		}
	}
}

// settingValue is the value of a setting's flag; config reads it.
type settingValue struct{ text, kind string }

func (v *settingValue) String() string        { return v.text }
func (v *settingValue) Set(text string) error { v.text = text; return nil }
func (v *settingValue) Type() string          { return v.kind }

// settings gives the settings of the working directory, the environment and
// the command's flags.
func settings(command *cobra.Command) (*config.Settings, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, diag.New(diag.BadSetting, "the working directory cannot be read").WithCause(err)
	}
	s, err := config.Load(dir, os.Environ())
	if err != nil {
		return nil, usageError{err}
	}
	command.Flags().Visit(func(f *pflag.Flag) {
		name := strings.ReplaceAll(f.Name, "-", "_")
		if _, ok := config.Find(name); ok && err == nil {
			err = s.Set(name, f.Value.String(), "--"+f.Name)
		}
	})
	if err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

// jsonFlag adds --json to a command that prints facts.
func jsonFlag(command *cobra.Command) *bool {
	return command.Flags().Bool("json", false, "print JSON")
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printLine prints JSON on a line of its own.
func printLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// isTerminal reports whether a file is a terminal.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
