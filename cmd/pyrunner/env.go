package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/envmgr"
)

func (c *cli) envCommand() *cobra.Command {
	command := &cobra.Command{Use: "env", Short: "Environments of functions: list, build, show, remove, collect"}
	command.AddCommand(c.envList(), c.envBuild(), c.envShow(), c.envRemove(), c.envCollect())
	needsCommand(command)
	return command
}

// sourceBuilds reports whether environments may be built from source: by the
// user's own engine, unless a setting says no.
func sourceBuilds(s *config.Settings) bool { return s.Text("source_builds") != "false" }

// store opens the cache of environments.
func store(command *cobra.Command) (*envmgr.Store, *config.Settings, error) {
	s, err := settings(command)
	if err != nil {
		return nil, nil, err
	}
	opened, err := engine.OpenEnvironments(engine.Options{CacheDir: s.Text("cache_dir"), UV: s.Text("uv"), Offline: s.Switch("offline"), SourceBuilds: sourceBuilds(s), Sandbox: s.Text("sandbox")})
	return opened, s, err
}

func (c *cli) envList() *cobra.Command {
	command := &cobra.Command{Use: "ls", Short: "List the environments, the one used last first", Args: cobra.NoArgs}
	settingFlags(command, "cache_dir")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		s, _, err := store(command)
		if err != nil {
			return err
		}
		list, err := s.List()
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, list)
		}
		return c.printEnvironments(list)
	}
	return command
}

// idShown is the number of characters of an environment's name in a list.
const idShown = 12

func (c *cli) printEnvironments(list []envmgr.Entry) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENVIRONMENT\tSIZE\tLAST USE\tPYTHON\tREQUIREMENTS OR FILES\tASKED BY")
	var total int64
	for _, e := range list {
		used := ago(time.Since(e.LastUsed))
		if e.InUse {
			used = "in use"
		}
		asked := ""
		if len(e.AskedBy) > 0 {
			asked = e.AskedBy[0]
		}
		total += e.SizeBytes
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.ID[:min(idShown, len(e.ID))], bytesText(e.SizeBytes), used, cmp.Or(e.Python, "-"), cut(wants(e), 60), cut(asked, 60))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "%s, %s\n", count(len(list), "environment"), bytesText(total))
	return err
}

func (c *cli) envBuild() *cobra.Command {
	command := &cobra.Command{
		Use: "build [REQUIREMENT...]", Short: "Build an environment ahead of the first job that needs it",
		Example: "  pyrunner env build 'numpy==2.2.*' holidays\n  pyrunner env build --version 3.11 -r requirements.txt\n" +
			"  pyrunner env build --lock pylock.toml --index 'https://me:${TOKEN}@host/simple'",
	}
	var flags environmentFlags
	flags.add(command)
	settingFlags(command, "python", "cache_dir", "uv", "offline")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		spec, err := flags.spec(args)
		if err != nil {
			return err
		}
		return c.buildEnvironment(command, spec, *asJSON)
	}
	return command
}

func (c *cli) buildEnvironment(command *cobra.Command, spec envmgr.Spec, asJSON bool) error {
	s, set, err := store(command)
	if err != nil {
		return err
	}
	spec.BaseInterpreter = set.Text("python")
	if spec.BaseInterpreter == "" && spec.Python == "" {
		// The one that scripts run with: their functions ask for the same.
		spec.BaseInterpreter, _ = findPython("")
	}
	env, err := s.Resolve(command.Context(), spec, func(text string) { fmt.Fprintln(c.stderr, text) })
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	var entries []envmgr.Entry
	for _, key := range env.Entries {
		entry, err := s.Get(key)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	if asJSON {
		// The packages; what goes with them beside.
		return printJSON(c.stdout, struct {
			envmgr.Entry
			With []envmgr.Entry `json:"with"`
		}{entries[0], append([]envmgr.Entry{}, entries[1:]...)})
	}
	for _, entry := range entries {
		fmt.Fprintln(c.stdout, entryText(entry))
	}
	return nil
}

func (c *cli) envShow() *cobra.Command {
	command := &cobra.Command{
		Use: "show ENVIRONMENT", Short: "What an environment holds and who asked for it",
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeEnvironments,
	}
	settingFlags(command, "cache_dir")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		s, _, err := store(command)
		if err != nil {
			return err
		}
		e, err := s.Get(args[0])
		if err != nil {
			return err
		}
		packages, err := s.Packages(e.ID)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, struct {
				envmgr.Entry
				Installed []string `json:"installed"`
			}{e, packages})
		}
		return c.printEnvironment(e, packages)
	}
	return command
}

func (c *cli) printEnvironment(e envmgr.Entry, packages []string) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "environment\t%s\nfolder\t%s\n", e.ID, e.Path)
	if e.Python != "" {
		fmt.Fprintf(w, "Python\t%s\n", e.Python)
	}
	if !e.InterpreterOK {
		fmt.Fprintln(w, "\tthe interpreter it was made from has been removed: it will be built anew")
	}
	fmt.Fprintf(w, "size\t%s\nmade\t%s\n", bytesText(e.SizeBytes), e.Created.Local().Format(time.DateTime))
	used := e.LastUsed.Local().Format(time.DateTime)
	if e.InUse {
		used += ", in use"
	}
	fmt.Fprintf(w, "last use\t%s\n", used)
	if e.SourceBuilds {
		fmt.Fprintln(w, "source builds\tallowed")
	}
	list := func(label string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(w, "%s\t%s\n", label, line)
			label = ""
		}
	}
	if e.Lock != "" {
		list("lock file", []string{e.Lock})
	}
	if len(e.Requirements) > 0 {
		list("requirements", []string{strings.Join(e.Requirements, ", ")})
	}
	list("indexes", e.Indexes)
	list("files", e.Files)
	list("asked by", e.AskedBy)
	list("installed", packages)
	return w.Flush()
}

func (c *cli) envRemove() *cobra.Command {
	command := &cobra.Command{
		Use: "rm ENVIRONMENT...", Short: "Remove environments that nobody uses",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeEnvironments,
	}
	settingFlags(command, "cache_dir")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		s, _, err := store(command)
		if err != nil {
			return err
		}
		removed := []string{}
		for _, id := range args {
			e, err := s.Get(id)
			if err != nil {
				return err
			}
			if err := s.Remove(e.ID); err != nil {
				return err
			}
			removed = append(removed, e.ID)
			if !*asJSON {
				fmt.Fprintf(c.stdout, "removed %s (%s)\n", e.ID[:min(idShown, len(e.ID))], bytesText(e.SizeBytes))
			}
		}
		if *asJSON {
			return printJSON(c.stdout, map[string][]string{"removed": removed})
		}
		return nil
	}
	return command
}

func (c *cli) envCollect() *cobra.Command {
	command := &cobra.Command{
		Use: "gc", Short: "Remove environments by last use until the cache is small enough",
		Long: "Removes the environments used longest ago until the cache is within its limit,\n" +
			"and with --unused-for also those not used for so long. One in use stays.",
		Args: cobra.NoArgs,
	}
	unused := command.Flags().Duration("unused-for", 0, "remove what has not been used for this long (720h)")
	dry := command.Flags().Bool("dry-run", false, "only tell what would go")
	settingFlags(command, "cache_dir", "cache_limit")
	asJSON := jsonFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *unused < 0 {
			return usageError{badUsage("--unused-for must not be negative")}
		}
		s, set, err := store(command)
		if err != nil {
			return err
		}
		gone, stay, err := s.Collect(command.Context(), envmgr.Collection{BytesMax: set.Number("cache_limit"), UnusedFor: *unused, DryRun: *dry})
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.stdout, map[string]any{"removed": gone, "kept": stay, "dry_run": *dry})
		}
		verb := "removed"
		if *dry {
			verb = "would remove"
		}
		for _, e := range gone {
			fmt.Fprintf(c.stdout, "%s %s (%s, last used %s)\n", verb, e.ID[:min(idShown, len(e.ID))], bytesText(e.SizeBytes), ago(time.Since(e.LastUsed)))
		}
		_, err = fmt.Fprintf(c.stdout, "%s %s, %s; %s of %s stay\n", verb, count(len(gone), "environment"), bytesText(sizeOf(gone)), bytesText(sizeOf(stay)), count(len(stay), "environment"))
		return err
	}
	return command
}

func sizeOf(list []envmgr.Entry) (total int64) {
	for _, e := range list {
		total += e.SizeBytes
	}
	return total
}

func completeEnvironments(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, _, err := store(command)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := s.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, e := range list {
		out = append(out, e.ID[:min(idShown, len(e.ID))]+"\t"+cut(wants(e), 60))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
