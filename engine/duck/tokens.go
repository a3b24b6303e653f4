package duck

import "strings"

// tokenKind is what a token is.
type tokenKind uint8

const (
	tokenOther     tokenKind = iota // one byte that is none of the others
	tokenBlank                      // blanks and comments
	tokenWord                       // names without quotes, keywords, numbers
	tokenQuoted                     // strings and names in quotes
	tokenParameter                  // $name
)

// token is a piece of SQL: bytes start to end of its text.
type token struct {
	kind       tokenKind
	start, end int
	// open: the text ends within a string, a name in quotes or a comment.
	open bool
}

// tokenAt gives the token that begins at a byte of a text. Together the tokens
// are the text. Where a statement ends and what a parameter is, DuckDB alone
// decides; tokens tell where in the text to look for what DuckDB has found.
func tokenAt(text string, at int) token {
	t := token{kind: tokenOther, start: at, end: at + 1}
	closed := true
	switch c := text[at]; {
	case c == '\'' || c == '"':
		t.kind = tokenQuoted
		t.end, closed = skipTo(text, at+1, string(c)) // a doubled quote begins another string at once
	case strings.HasPrefix(text[at:], "--"):
		t.kind = tokenBlank
		t.end = len(text)
		if n := strings.IndexAny(text[at:], "\r\n"); n >= 0 {
			t.end = at + n
		}
	case strings.HasPrefix(text[at:], "/*"):
		t.kind = tokenBlank
		t.end, closed = skipComment(text, at)
	case blank(c):
		t.kind = tokenBlank
		for t.end < len(text) && blank(text[t.end]) {
			t.end++
		}
	case c == '$':
		return dollar(text, at)
	case wordByte(c): // a name may hold a $
		t.kind = tokenWord
		for t.end < len(text) && (wordByte(text[t.end]) || text[t.end] == '$') {
			t.end++
		}
		// The prefix of a string belongs to it.
		if t.end == at+1 && t.end < len(text) && text[t.end] == '\'' && (c == 'e' || c == 'E') {
			t.kind = tokenQuoted
			t.end, closed = skipEscaped(text, t.end)
		}
	}
	t.open = !closed
	return t
}

// dollar gives the token that begins with a dollar sign: a parameter, a string
// within tags, $tag$ … $tag$, or the sign alone.
func dollar(text string, at int) token {
	end := at + 1
	numbered := end < len(text) && digit(text[end])
	for end < len(text) && wordByte(text[end]) && (digit(text[end]) || !numbered) {
		end++
	}
	switch {
	case end < len(text) && text[end] == '$' && !numbered:
		closing, closed := skipTo(text, end+1, text[at:end+1])
		return token{kind: tokenQuoted, start: at, end: closing, open: !closed}
	case end > at+1:
		return token{kind: tokenParameter, start: at, end: end}
	}
	return token{kind: tokenOther, start: at, end: at + 1}
}

// parameterMark is a parameter in the text of a query.
type parameterMark struct {
	start, end int
	name       string
}

// parameterMarks finds what looks like a parameter outside of strings, quoted
// names and comments.
func parameterMarks(text string) []parameterMark {
	var marks []parameterMark
	for at := 0; at < len(text); {
		t := tokenAt(text, at)
		if t.kind == tokenParameter {
			marks = append(marks, parameterMark{t.start, t.end, text[t.start+1 : t.end]})
		}
		at = t.end
	}
	return marks
}

// piece is a part of a script between semicolons, without blanks and comments
// in front.
type piece struct{ start, end int }

// pieces cuts a script at its semicolons. Those that are empty are left out.
func pieces(text string) []piece {
	var out []piece
	start := -1
	for at := 0; at < len(text); {
		t := tokenAt(text, at)
		at = t.end
		switch {
		case t.kind == tokenBlank:
		case t.kind == tokenOther && text[t.start] == ';':
			if start >= 0 {
				out = append(out, piece{start, t.start})
			}
			start = -1
		case start < 0:
			start = t.start
		}
	}
	if start >= 0 {
		out = append(out, piece{start, len(text)})
	}
	return out
}

// complete reports whether a text ends with a semicolon: blanks and comments
// may follow.
func complete(text string) bool {
	ended := false
	for at := 0; at < len(text); {
		t := tokenAt(text, at)
		at = t.end
		switch {
		case t.open:
			return false
		case t.kind != tokenBlank:
			ended = t.kind == tokenOther && text[t.start] == ';'
		}
	}
	return ended
}

func blank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// skipTo gives the byte behind the next end, or the text's own end, and
// whether it was found.
func skipTo(text string, from int, end string) (int, bool) {
	if n := strings.Index(text[from:], end); n >= 0 {
		return from + n + len(end), true
	}
	return len(text), false
}

// skipEscaped skips a string in which a backslash escapes a quote; at is its
// opening quote.
func skipEscaped(text string, at int) (int, bool) {
	for i := at + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '\'':
			return i + 1, true
		}
	}
	return len(text), false
}

// skipComment skips a comment, which may hold others.
func skipComment(text string, at int) (int, bool) {
	depth := 0
	for i := at; i < len(text)-1; i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(text), false
}
