package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/connector/file"
	engineexec "github.com/alink-runtime/alink/engine/exec"
)

// results writes the results of statements, in their format, as they come. It
// implements exec.Results.
type results struct {
	format string
	to     io.Writer
	// width is that of a terminal; 0 is not bounded.
	width int
	// path is the file that is written to, and target is it meanwhile; "" and
	// nil are standard output.
	path   string
	target *file.Target
	// changes tells of rows that were changed: at the prompt.
	changes bool

	count   int // of results begun
	preview *preview
	encoder *file.Encoder
}

// openResults begins the output.
func (c *cli) openResults(o sqlOptions) (*results, error) {
	r := &results{format: o.format, to: c.stdout, path: o.output, width: terminalWidth(c.stdout)}
	if o.output == "" {
		return r, nil
	}
	if err := existing(o); err != nil {
		return nil, err
	}
	target, err := file.Create(o.output, o.overwrite)
	if err != nil {
		return nil, err
	}
	r.to, r.target, r.width = target, target, 0
	return r, nil
}

// Begin implements exec.Results.
func (r *results) Begin(s engineexec.Statement, schema *arrow.Schema) error {
	r.count++
	if r.format == formatTable {
		r.preview = newPreview(s, schema)
		return nil
	}
	if err := r.checkResult(s, schema); err != nil {
		return err
	}
	if r.count > 1 && r.format == formatCSV {
		if _, err := io.WriteString(r.to, "\n"); err != nil {
			return err
		}
	}
	format := file.Format(r.format)
	if r.format == formatArrow && r.target != nil {
		format = file.Feather
	}
	var err error
	r.encoder, err = file.NewEncoder(r.to, format, r.path, schema)
	return err
}

// checkResult refuses what a format or a file cannot hold.
func (r *results) checkResult(s engineexec.Statement, schema *arrow.Schema) error {
	if r.target != nil && r.count > 1 && r.format != formatJSON {
		return diag.New(diag.BadOption, "%s holds one result, but statement %d gives another", r.path, s.Number).
			WithHint("let one statement have a result, write JSON, or write files with COPY … TO")
	}
	if r.format != formatJSON && r.format != formatParquet {
		return nil
	}
	seen := map[string]bool{}
	for _, f := range schema.Fields() {
		if seen[f.Name] {
			return diag.New(diag.BadQuery, "the result has two columns %q, which %s cannot hold", f.Name, r.format).
				WithHint("give one of them another name: … AS %s", "name")
		}
		seen[f.Name] = true
	}
	return nil
}

// Write implements exec.Results.
func (r *results) Write(batch arrow.RecordBatch) error {
	if r.preview != nil {
		r.preview.add(batch)
		return nil
	}
	return r.encoder.Write(batch)
}

// End implements exec.Results.
func (r *results) End(s engineexec.Statement) error {
	switch {
	case r.preview != nil:
		p := r.preview
		r.preview = nil
		defer p.release()
		return p.print(r.to, r.width)
	case r.encoder != nil:
		e := r.encoder
		r.encoder = nil
		return e.Close()
	case r.changes && changesRows[s.Kind]:
		_, err := fmt.Fprintf(r.to, "%s changed\n", count(int(s.Changed), "row"))
		return err
	}
	return nil
}

// changesRows are the statements whose number of changed rows is of interest.
var changesRows = map[string]bool{"INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true, "COPY": true}

// failed gives up the result of a statement that has failed.
func (r *results) failed() {
	if r.preview != nil {
		r.preview.release()
	}
	r.preview, r.encoder = nil, nil
}

// publish lets the file appear.
func (r *results) publish() error {
	if r.target == nil {
		return nil
	}
	if r.count == 0 {
		return diag.New(diag.BadOption, "no statement has a result that could be written to %s", r.path).
			WithHint("a SELECT has one; an INSERT or CREATE has none")
	}
	err := r.target.Publish()
	r.target = nil
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok && d.Code == diag.OutputExists {
		return fileExists(r.path)
	}
	return err
}

// discard gives up what was not published.
func (r *results) discard() {
	r.failed()
	if r.target != nil {
		r.target.Discard()
		r.target = nil
	}
}

var _ engineexec.Results = (*results)(nil)
