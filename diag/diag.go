// Package diag holds the one type in which the user is told what went wrong:
// a code, one sentence with the user's own names, the user's source line, the
// row, the facts and a hint. Every room may import it; it imports none.
//
// The same type exists in Python (python/alink/_diag.py). The texts in
// testdata are rendered by both sides, so that the two cannot drift apart.
package diag

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Diagnostic is what a user is told of one failure. Only Code and Message are
// always set.
type Diagnostic struct {
	// Code names the kind of failure; see codes.go.
	Code Code `json:"code"`
	// Message is one sentence with the user's own names, without a final stop.
	Message string `json:"message"`
	// Operator is the table method or SQL clause in which it happened.
	Operator string `json:"operator,omitempty"`
	// Function is the user's name of the Python function concerned.
	Function string `json:"function,omitempty"`
	// Source is where the user wrote the step that failed.
	Source *Source `json:"source,omitempty"`
	// Frames are the user's own stack frames, outermost first.
	Frames []Source `json:"frames,omitempty"`
	// Row is the row in which it happened.
	Row *Row `json:"row,omitempty"`
	// Facts are what was measured: environment, signal or exit status, memory.
	Facts []string `json:"facts,omitempty"`
	// Exception describes the Python exception behind the failure.
	Exception *Exception `json:"exception,omitempty"`
	// Cause is the text of a lower layer's error, already cut to a few lines.
	Cause string `json:"cause,omitempty"`
	// Hint says how to mend it.
	Hint string `json:"hint,omitempty"`
}

// Source is a place in the user's program. Columns are 1-based and count
// characters; EndColumn is exclusive. Column 0 means that it is not known.
type Source struct {
	File      string `json:"file"`
	Line      int    `json:"line"`
	Function  string `json:"function,omitempty"`
	Text      string `json:"text,omitempty"`
	Column    int    `json:"column,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
}

// Row is one row of a function's input. Index counts from 0 within the input
// of the function's stage.
type Row struct {
	Index  int64   `json:"index"`
	Values []Value `json:"values,omitempty"`
}

// Value is one argument of a function, as Python's repr shows it.
type Value struct {
	Name string `json:"name"`
	Repr string `json:"repr"`
}

// Exception is a Python exception as plain data; nothing is unpickled to read
// it.
type Exception struct {
	Module  string `json:"module"`
	Type    string `json:"type"`
	Message string `json:"message"`
}

// New makes a diagnostic with a formatted message.
func New(code Code, format string, args ...any) *Diagnostic {
	return &Diagnostic{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error makes a Diagnostic an error: the code and the one sentence.
func (d *Diagnostic) Error() string {
	if d.Cause != "" {
		return fmt.Sprintf("%s: %s: %s", d.Code, d.Message, d.Cause)
	}
	return fmt.Sprintf("%s: %s", d.Code, d.Message)
}

// WithHint sets the hint and returns d.
func (d *Diagnostic) WithHint(format string, args ...any) *Diagnostic {
	d.Hint = fmt.Sprintf(format, args...)
	return d
}

// WithCause sets the cause to the text of err and returns d.
func (d *Diagnostic) WithCause(err error) *Diagnostic {
	if err != nil {
		d.Cause = err.Error()
	}
	return d
}

// WithFact adds a fact and returns d.
func (d *Diagnostic) WithFact(format string, args ...any) *Diagnostic {
	d.Facts = append(d.Facts, fmt.Sprintf(format, args...))
	return d
}

// At sets the operator and the place where the user wrote it, unless they are
// known already, and returns d.
func (d *Diagnostic) At(operator string, source *Source) *Diagnostic {
	if d.Operator == "" {
		d.Operator = operator
	}
	if d.Source == nil {
		d.Source = source
	}
	return d
}

// From finds the diagnostic in err's chain. An error without one becomes an
// Internal diagnostic, so that a user never sees a bare error.
func From(err error) *Diagnostic {
	if err == nil {
		return nil
	}
	if d, ok := errors.AsType[*Diagnostic](err); ok {
		return d
	}
	return New(Internal, "the engine failed in a way it does not know").WithCause(err).
		WithHint("this is a fault of the engine; please report it with the lines above")
}

// JSON is d's wire form.
func (d *Diagnostic) JSON() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // the type holds only strings and integers
	}
	return b
}
