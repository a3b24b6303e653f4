package file

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alink-runtime/alink/diag"
)

// jsonFile is a file of JSON objects: one after the other, a line each or not,
// or all in one array.
type jsonFile struct {
	path    string
	text    *textFile
	decoder *jsontext.Decoder
	array   bool
	begun   bool
	// row is the offset at which the current object begins.
	row int64
}

func openJSON(path string) (*jsonFile, error) {
	text, err := openText(path)
	if err != nil {
		return nil, unreadable(path, "JSON", err)
	}
	return &jsonFile{path: path, text: text, decoder: jsontext.NewDecoder(text)}, nil
}

// next goes to the next object, which the caller reads; its error is io.EOF at
// the end.
func (f *jsonFile) next() error {
	kind := f.decoder.PeekKind()
	if !f.begun {
		f.begun = true
		if kind == '[' {
			f.array = true
			if _, err := f.decoder.ReadToken(); err != nil {
				return f.broken(err)
			}
			kind = f.decoder.PeekKind()
		}
	}
	switch {
	case kind == '{':
		f.row = f.decoder.InputOffset()
		return nil
	case kind == ']' && f.array:
		if _, err := f.decoder.ReadToken(); err != nil {
			return f.broken(err)
		}
		f.array = false
		if _, err := f.decoder.ReadToken(); err == nil {
			return f.problem("the array is followed by something else")
		} else if !errors.Is(err, io.EOF) {
			return f.broken(err)
		}
		return io.EOF
	}
	value, err := f.decoder.ReadValue()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return f.broken(err)
	}
	return f.problem(fmt.Sprintf("an object is expected, not %s", show(value)))
}

// broken explains what is not JSON.
func (f *jsonFile) broken(err error) error {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return unreadable(f.path, "JSON", err)
	}
	reason := strings.TrimPrefix(syntax.Err.Error(), "jsontext: ")
	if errors.Is(syntax.Err, io.ErrUnexpectedEOF) {
		reason = "the file ends in the middle of a value"
	}
	d := diag.New(diag.FileUnreadable, "%s is not JSON", place(f.path, lineAt(f.path, syntax.ByteOffset))).WithCause(errors.New(reason))
	if column := f.column(syntax.JSONPointer); column != "" {
		d.WithFact("in the column %q", column)
	}
	return d.WithHint("a file holds JSON objects, one a line, or one array of objects")
}

// problem is a fault at the place that was just read.
func (f *jsonFile) problem(reason string) error {
	return diag.New(diag.FileUnreadable, "%s cannot be read as a table", place(f.path, f.line())).WithCause(errors.New(reason)).
		WithHint("a file holds JSON objects, one a line, or one array of objects")
}

// line is that of what was just read.
func (f *jsonFile) line() int64 { return lineAt(f.path, f.decoder.InputOffset()) }

// column names a place within a row: "a.b" for the member b of a.
func (f *jsonFile) column(pointer jsontext.Pointer) string {
	var parts []string
	for part := range pointer.Tokens() {
		parts = append(parts, part)
	}
	if f.array && len(parts) > 0 {
		parts = parts[1:]
	}
	return strings.Join(parts, ".")
}

// unquote is the content of a JSON string; it may use scratch.
func unquote(raw, scratch []byte) ([]byte, error) {
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' {
			return jsontext.AppendUnquote(scratch[:0], raw)
		}
	}
	return inner, nil
}
