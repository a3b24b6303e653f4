package udfworker

import (
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Template is the command of a site's own launcher, which shuts workers in
// instead of the sandbox: bwrap, nsjail, a container's runtime. It is a command
// line in words; double quotes keep blanks in one.
//
//	{command}            the words of the worker's command; a word of its own
//	{scratch}            the worker's folder for temporary files
//	[… {visible} …]      is repeated for every path that the worker reads
//	[… {writable} …]     is repeated for every path that it writes
//	[… {network}]        is kept where the function has the network, without
//	[… {no-network}]     the placeholder; or where it has not
//
// The launcher must run the command as a process below its own, with its
// standard input, output and environment, at the same paths, and end with it.
type Template struct {
	words []templateWord
}

// templateWord is a word, or a group of words in brackets.
type templateWord struct {
	text  string
	group []string
}

// launcherVariable hands the template from the engine to the supervisor.
const launcherVariable = "ALINK_WORKER_LAUNCHER"

// templateWordsMax bounds a template.
const templateWordsMax = 1000

// The placeholders of a template.
const (
	commandPlace   = "{command}"
	scratchPlace   = "{scratch}"
	visiblePlace   = "{visible}"
	writablePlace  = "{writable}"
	networkPlace   = "{network}"
	noNetworkPlace = "{no-network}"
)

var places = []string{commandPlace, scratchPlace, visiblePlace, writablePlace, networkPlace, noNetworkPlace}

func badTemplate(format string, args ...any) *diag.Diagnostic {
	return diag.New(diag.BadOption, "launcher: "+format, args...).
		WithHint(`write it as "bwrap --die-with-parent [--ro-bind {visible} {visible}] [--bind {writable} {writable}] -- {command}"`)
}

// ParseTemplate reads a template; "" is none. Its errors are diagnostics.
func ParseTemplate(text string) (*Template, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	words, err := splitWords(text)
	if err != nil {
		return nil, err
	}
	t := &Template{}
	var group []string
	inGroup, commands := false, 0
	for _, word := range words {
		word, begins := strings.CutPrefix(word, "[")
		word, ends := strings.CutSuffix(word, "]")
		switch {
		case begins && inGroup || ends && !inGroup && !begins:
			return nil, badTemplate("its brackets do not match at %q", word)
		case begins:
			inGroup, group = true, nil
		}
		if err := checkPlaces(word, inGroup); err != nil {
			return nil, err
		}
		if word == commandPlace {
			commands++
		}
		switch {
		case inGroup && ends:
			t.words, inGroup = append(t.words, templateWord{group: append(group, word)}), false
		case inGroup:
			group = append(group, word)
		default:
			t.words = append(t.words, templateWord{text: word})
		}
	}
	if inGroup {
		return nil, badTemplate("a bracket is not closed")
	}
	if commands != 1 {
		return nil, badTemplate("%s must stand in it once, as a word of its own, not %d times", commandPlace, commands)
	}
	return t, t.check()
}

// checkPlaces refuses placeholders that there are not, or that stand where they
// mean nothing.
func checkPlaces(word string, inGroup bool) error {
	for rest := word; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		name, _, _ := strings.Cut(after, "}")
		if place := "{" + name + "}"; !slices.Contains(places, place) {
			d := badTemplate("there is no placeholder %s", place)
			if near := diag.DidYouMean(place, "placeholders", places); near != "" {
				d.Hint = near
			}
			return d
		}
		rest = after
	}
	switch {
	case strings.Contains(word, commandPlace) && (word != commandPlace || inGroup):
		return badTemplate("%s must be a word of its own, outside of brackets", commandPlace)
	case !inGroup:
		for _, place := range []string{visiblePlace, writablePlace, networkPlace, noNetworkPlace} {
			if strings.Contains(word, place) {
				return badTemplate("%s must stand in brackets, with what is repeated or left out", place)
			}
		}
	case strings.Contains(word, networkPlace) && word != networkPlace, strings.Contains(word, noNetworkPlace) && word != noNetworkPlace:
		return badTemplate("%s and %s must be words of their own", networkPlace, noNetworkPlace)
	}
	return nil
}

// check looks whether the launcher is there, and groups mean one thing.
func (t *Template) check() error {
	program := t.words[0].text
	if program == "" || program == commandPlace {
		return badTemplate("it must begin with a program")
	}
	if _, err := exec.LookPath(program); err != nil {
		return badTemplate("there is no program %s", program).WithCause(err)
	}
	for _, word := range t.words {
		text := strings.Join(word.group, " ")
		kinds := 0
		for _, place := range []string{visiblePlace, writablePlace, networkPlace, noNetworkPlace} {
			if strings.Contains(text, place) {
				kinds++
			}
		}
		if word.group != nil && kinds != 1 {
			return badTemplate("the brackets around %q must hold one of %s, %s, %s, %s", text, visiblePlace, writablePlace, networkPlace, noNetworkPlace)
		}
	}
	return nil
}

// splitWords cuts a command line at blanks that are not between double quotes.
func splitWords(text string) (words []string, err error) {
	var word strings.Builder
	quoted, begun := false, false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range text {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case !quoted && strings.ContainsRune(" \t\n", r):
			end()
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	end()
	if quoted {
		return nil, badTemplate("a quote is not closed")
	}
	if len(words) > templateWordsMax {
		return nil, badTemplate("it has more than %d words", templateWordsMax)
	}
	return words, nil
}

// argv is the launcher's command line for a worker's command, which sees what a
// specification says.
func (t *Template) argv(command []string, scratch string, spec sandbox.Spec) []string {
	visible, writable := slices.Clone(spec.Visible), slices.Clone(spec.Writable)
	for _, path := range spec.Optional {
		if _, err := os.Lstat(path); err == nil {
			visible = append(visible, path)
		}
	}
	for _, m := range spec.Mounts {
		if m.Write {
			writable = append(writable, m.Path)
		} else {
			visible = append(visible, m.Path)
		}
	}
	visible, writable = outermost(visible), outermost(writable)
	fill := func(word string) string { return strings.ReplaceAll(word, scratchPlace, scratch) }
	var argv []string
	for _, word := range t.words {
		switch {
		case word.text == commandPlace:
			argv = append(argv, command...)
		case word.group == nil:
			argv = append(argv, fill(word.text))
		default:
			argv = append(argv, expand(word.group, visible, writable, spec.Network, fill)...)
		}
	}
	return argv
}

// outermost sorts paths and leaves out those that lie in others.
func outermost(paths []string) (kept []string) {
	slices.Sort(paths)
	for _, path := range paths {
		inside := func(folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
		if !slices.ContainsFunc(kept, inside) {
			kept = append(kept, path)
		}
	}
	return kept
}

func expand(group, visible, writable []string, network bool, fill func(string) string) (argv []string) {
	text := strings.Join(group, " ")
	for place, paths := range map[string][]string{visiblePlace: visible, writablePlace: writable} {
		if !strings.Contains(text, place) {
			continue
		}
		for _, path := range paths {
			for _, word := range group {
				argv = append(argv, fill(strings.ReplaceAll(word, place, path)))
			}
		}
		return argv
	}
	if slices.Contains(group, networkPlace) != network {
		return nil
	}
	for _, word := range group {
		if word != networkPlace && word != noNetworkPlace {
			argv = append(argv, fill(word))
		}
	}
	return argv
}

// externalReport is what is known of a machine where a site's launcher does it.
func externalReport(t *Template) sandbox.Report {
	return sandbox.Report{Level: sandbox.External, Layers: []sandbox.Layer{{
		Name: "launcher", Level: sandbox.External, OK: true, Value: t.words[0].text + ", the site's own: what it confines is not known here",
	}}}
}
