package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/diag"
)

// setting is a line of `pyrunner config`.
type setting struct {
	Name     string  `json:"name"`
	Value    *string `json:"value"`
	Origin   string  `json:"origin"`
	Variable string  `json:"variable"`
	Kind     string  `json:"kind"`
	Summary  string  `json:"summary"`
}

func (c *cli) configCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "config", Short: "Every setting with its value and where it was set",
		Long: "Shows every setting with its value and where it was set: a flag, a variable, a\n" +
			"line of alink.toml or of [tool.alink] in pyproject.toml, or nowhere (default).\n" +
			"Setting flags of other commands may be given to see what they do.",
		Args: cobra.NoArgs,
	}
	settingFlags(command, config.Names()...)
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		s, err := settings(command)
		if err != nil {
			return err
		}
		var list []setting
		for _, key := range config.Keys {
			line := setting{Name: key.Name, Origin: s.Value(key.Name).Origin, Variable: key.Variable, Kind: string(key.Kind), Summary: key.Summary}
			if text := s.Text(key.Name); text != "" {
				line.Value = &text
			}
			list = append(list, line)
		}
		strangers := config.Strangers(os.Environ())
		if *asJSON {
			return printJSON(c.stdout, map[string]any{"settings": list, "unknown_variables": append([]string{}, strangers...)})
		}
		return c.printSettings(list, strangers)
	}
	return command
}

func (c *cli) printSettings(list []setting, strangers []string) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tVALUE\tORIGIN")
	for _, s := range list {
		value := ""
		if s.Value != nil {
			value = *s.Value
		} else if key, ok := config.Find(s.Name); ok {
			value = "(" + key.Automatic + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, value, s.Origin)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var variables []string
	for _, key := range config.Keys {
		variables = append(variables, key.Variable)
	}
	for _, name := range strangers {
		hint := ""
		if near := diag.Suggest(name, variables); len(near) > 0 {
			hint = "; did you mean " + near[0] + "?"
		}
		fmt.Fprintf(c.stdout, "note: the variable %s is no setting%s\n", name, hint)
	}
	return nil
}
