package main

import (
	"fmt"
	"strings"
)

// lineMax is the longest line that the project's Python formatter leaves
// alone.
const lineMax = 100

// quote writes a Python string literal as the formatter would: in double
// quotes, unless single ones save escapes.
func quote(s string) string {
	mark := `"`
	if strings.Count(s, `"`) > strings.Count(s, `'`) {
		mark = `'`
	}
	var b strings.Builder
	b.WriteString(mark)
	for _, r := range s {
		switch {
		case string(r) == mark || r == '\\':
			b.WriteString(`\` + string(r))
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString(mark)
	return b.String()
}
