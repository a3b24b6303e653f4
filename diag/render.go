package diag

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on what a rendered diagnostic may fill.
const (
	renderLinesMax  = 15
	renderCharsMax  = 200
	renderCauseMax  = 4
	renderFramesMax = 2
	renderValuesMax = 8
)

// Render writes d as the user sees it: at most fifteen lines, the first with
// the code and the sentence, the last with the hint.
func (d *Diagnostic) Render() string {
	lines := []string{fmt.Sprintf("%s: %s", d.Code, d.Message)}
	frames := d.Frames
	if len(frames) == 0 && d.Source != nil {
		frames = []Source{*d.Source}
	}
	if len(frames) > renderFramesMax {
		frames = frames[len(frames)-renderFramesMax:]
	}
	for _, frame := range frames {
		lines = append(lines, frame.render()...)
	}
	if d.Row != nil {
		lines = append(lines, d.Row.render())
	}
	for _, fact := range d.Facts {
		lines = append(lines, "  "+fact)
	}
	lines = append(lines, causeLines(d.Cause)...)
	if keep := renderLinesMax - 1; d.Hint != "" && len(lines) > keep {
		lines = lines[:keep]
	}
	if d.Hint != "" {
		lines = append(lines, "  hint: "+d.Hint)
	}
	if len(lines) > renderLinesMax {
		lines = lines[:renderLinesMax]
	}
	for i, line := range lines {
		lines[i] = cut(Harmless(line), renderCharsMax)
	}
	return strings.Join(lines, "\n")
}

func (s Source) render() []string {
	where := fmt.Sprintf("  File %q, line %d", s.File, s.Line)
	if s.Function != "" {
		where += ", in " + s.Function
	}
	text := strings.TrimLeft(s.Text, " \t")
	if text == "" {
		return []string{where}
	}
	lines := []string{where, "    " + text}
	indent := utf8.RuneCountInString(s.Text) - utf8.RuneCountInString(text)
	start := s.Column - 1 - indent
	if s.Column > 0 && s.EndColumn > s.Column && start >= 0 {
		lines = append(lines, "    "+strings.Repeat(" ", start)+strings.Repeat("^", s.EndColumn-s.Column))
	}
	return lines
}

func (r *Row) render() string {
	parts := make([]string, 0, len(r.Values))
	for i, v := range r.Values {
		if i == renderValuesMax {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, v.Name+"="+v.Repr)
	}
	line := fmt.Sprintf("  row %d", r.Index)
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	return line
}

// causeLines shows the first lines of a lower layer's text.
func causeLines(cause string) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(cause), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if len(lines) == renderCauseMax {
			return append(lines, "    …")
		}
		prefix := "    "
		if len(lines) == 0 {
			prefix = "  because: "
		}
		lines = append(lines, prefix+strings.TrimRight(line, " \t\r"))
	}
	return lines
}

// Harmless shows what would move a terminal's cursor, or turn the direction of
// text around, as escapes: what is rendered may hold a worker's words.
func Harmless(line string) string {
	harmful := func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069)
	}
	if strings.IndexFunc(line, harmful) < 0 {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		switch {
		case !harmful(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// cut shortens a line to n characters.
func cut(line string, n int) string {
	if utf8.RuneCountInString(line) <= n {
		return line
	}
	runes := []rune(line)
	return string(runes[:n-1]) + "…"
}
