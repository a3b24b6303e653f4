package duck

import (
	"slices"
	"strings"
)

// fragment is a piece of SQL that remembers where its parts come from, so that
// an error's position leads back to the user's text.
type fragment struct {
	sql   strings.Builder
	spans []span
	// depth is how deep the expressions in it are nested.
	depth int
}

// span is a part of a fragment: bytes start to end, of the node of that index.
type span struct {
	start, end int
	node       int
	// subject names what the part is for, `column "x"` for example; text is
	// set where the part is a text of the user.
	subject string
	text    string
	// offset is where the part begins in text.
	offset int
}

func (f *fragment) len() int         { return f.sql.Len() }
func (f *fragment) String() string   { return f.sql.String() }
func (f *fragment) write(sql string) { f.sql.WriteString(sql) }

// writeText writes a text of the user.
func (f *fragment) writeText(text string) {
	start := f.len()
	f.write(text)
	f.spans = append(f.spans, span{start: start, end: f.len(), text: text})
}

// writePart writes bytes start to end of a text of the user.
func (f *fragment) writePart(text string, start, end int) {
	from := f.len()
	f.write(text[start:end])
	f.spans = append(f.spans, span{start: from, end: f.len(), text: text, offset: start})
}

// mark says what everything from start on is for.
func (f *fragment) mark(start int, subject string) {
	f.spans = append(f.spans, span{start: start, end: f.len(), subject: subject})
}

// add writes another fragment.
func (f *fragment) add(other *fragment) {
	offset := f.len()
	f.depth = max(f.depth, other.depth)
	f.write(other.String())
	for _, s := range other.spans {
		s.start += offset
		s.end += offset
		f.spans = append(f.spans, s)
	}
}

// setNode says that all spans are of a node.
func (f *fragment) setNode(node int) {
	for i := range f.spans {
		f.spans[i].node = node
	}
}

// place is where in the user's program an error has its cause, as far as that
// is known.
type place struct {
	node    int // -1: not known
	subject string
	text    string
	offset  int // in text, in bytes; -1: not known
}

// locate finds the place of a position, in bytes of f; -1 is no position.
func (f *fragment) locate(position int) place {
	at := place{node: -1, offset: -1}
	if position < 0 {
		return at
	}
	for _, s := range f.spans {
		if position < s.start || position >= s.end {
			continue
		}
		at.node = s.node
		if s.text != "" {
			at.text, at.offset = s.text, s.offset+position-s.start
		} else {
			at.subject = s.subject
		}
	}
	return at
}

// only gives the place of a fragment that has one expression: its subject, and
// its text if it is one text.
func (f *fragment) only() (place, bool) {
	subjects := slices.DeleteFunc(slices.Clone(f.spans), func(s span) bool { return s.subject == "" })
	if len(subjects) != 1 {
		return place{}, false
	}
	at := place{node: subjects[0].node, subject: subjects[0].subject, offset: -1}
	if texts := len(f.spans) - 1; texts == 1 {
		for _, s := range f.spans {
			at.text += s.text
		}
	}
	return at, true
}
