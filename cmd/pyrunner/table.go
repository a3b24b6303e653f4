package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"github.com/alink-runtime/alink/engine/connector/file"
	engineexec "github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Limits of what a table shows.
const (
	// tableRowsMax rows are shown; of more, the first and the last
	// tableEndRows.
	tableRowsMax = 40
	tableEndRows = 20
	// Cells of a table that is cut to a width are made narrower, down to
	// cellWidthMin, before columns are left out. cellWidthWide is the limit
	// where there is no width.
	cellWidthMin  = 16
	cellWidthWide = 1000
	// frameWidth is what each column has of the frame.
	frameWidth = 3
	// cellCharsOfOne are the characters that may stand in the place of one.
	cellCharsOfOne = 8
)

const ellipsis = "…"

// preview keeps the rows of a result that a table shows. It holds the batches
// that these rows are in, and so a few at most.
type preview struct {
	schema *arrow.Schema
	// drawn: the result is what EXPLAIN draws, which is no table.
	drawn bool
	rows  int64
	// head are the first rows, tail the last.
	head, tail         []arrow.RecordBatch
	headRows, tailRows int64
}

func newPreview(s engineexec.Statement, schema *arrow.Schema) *preview {
	return &preview{schema: schema, drawn: s.Kind == "EXPLAIN"}
}

// add looks at a batch, which stays the caller's.
func (p *preview) add(batch arrow.RecordBatch) {
	n := batch.NumRows()
	p.rows += n
	if room := tableRowsMax - p.headRows; room > 0 {
		p.head = append(p.head, batch.NewSlice(0, min(room, n)))
		p.headRows += min(room, n)
	}
	last := min(tableEndRows, n)
	p.tail = append(p.tail, batch.NewSlice(n-last, n))
	p.tailRows += last
	for p.tailRows-p.tail[0].NumRows() >= tableEndRows {
		p.tailRows -= p.tail[0].NumRows()
		p.tail[0].Release()
		p.tail = p.tail[1:]
	}
}

func (p *preview) release() {
	for _, batch := range append(p.head, p.tail...) {
		batch.Release()
	}
	p.head, p.tail = nil, nil
}

// print writes the table; 0 is no width.
func (p *preview) print(w io.Writer, width int) error {
	if p.drawn {
		return p.printDrawings(w)
	}
	wide := cellWidthWide
	if width > 0 {
		wide = max(width-frameWidth-1, 1)
	}
	columns, err := p.columns(wide)
	if err != nil {
		return err
	}
	if width > 0 && totalWidth(columns) > width {
		limit := cellLimit(columns, width)
		for i := range columns {
			columns[i].cut(limit)
		}
		columns = fit(columns, width)
	}
	_, err = w.Write(p.lines(columns))
	return err
}

// printDrawings prints the last column as it is.
func (p *preview) printDrawings(w io.Writer) error {
	for _, batch := range p.head {
		drawings, ok := batch.Column(p.schema.NumFields() - 1).(*array.String)
		for row := 0; ok && row < drawings.Len(); row++ {
			for line := range strings.Lines(drawings.Value(row)) {
				if _, err := fmt.Fprintln(w, escape(strings.TrimRight(line, " \n"))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tableColumn is a column of a table: its cells are its name, its type and its rows.
type tableColumn struct {
	cells []string
	right bool
	width int
}

func (c *tableColumn) cut(width int) {
	c.width = 0
	for i, cell := range c.cells {
		c.cells[i] = cut(cell, width)
		c.width = max(c.width, runewidth.StringWidth(c.cells[i]))
	}
}

// columns makes the cells of the rows that are shown.
func (p *preview) columns(width int) ([]tableColumn, error) {
	columns := make([]tableColumn, p.schema.NumFields())
	for i, field := range p.schema.Fields() {
		c := &columns[i]
		c.right = isNumber(field.Type)
		c.cells = []string{escape(field.Name), plan.FormatType(field.Type)}
		take := func(batches []arrow.RecordBatch, from, to int64) error {
			for _, batch := range batches {
				n := batch.NumRows()
				if err := c.add(batch.Column(i), max(from, 0), min(to, n), width); err != nil {
					return err
				}
				from, to = from-n, to-n
			}
			return nil
		}
		var err error
		if p.rows <= tableRowsMax {
			err = take(p.head, 0, p.rows)
		} else if err = take(p.head, 0, tableEndRows); err == nil {
			err = take(p.tail, p.tailRows-tableEndRows, p.tailRows)
		}
		if err != nil {
			return nil, err
		}
		c.cut(width)
	}
	return columns, nil
}

// add adds the cells of some rows of an array.
func (c *tableColumn) add(values arrow.Array, from, to int64, width int) error {
	text, err := cellTexts(values, width)
	if err != nil {
		return err
	}
	for row := from; row < to; row++ {
		if values.IsNull(int(row)) {
			c.cells = append(c.cells, "NULL")
			continue
		}
		c.cells = append(c.cells, escape(text(int(row))))
	}
	return nil
}

// cellTexts gives the texts of values. Of a long one no more than what can be
// shown is looked at.
func cellTexts(values arrow.Array, width int) (func(row int) string, error) {
	charsMax := cellCharsOfOne * (width + 1)
	switch values := values.(type) {
	case *array.String:
		return func(row int) string { return firstChars(values.Value(row), charsMax) }, nil
	case *array.Binary:
		return func(row int) string {
			value := values.Value(row)
			return "0x" + hex.EncodeToString(value[:min(len(value), width+1)])
		}, nil
	}
	text, err := file.Texts(values)
	if err != nil {
		return nil, err
	}
	return func(row int) string { return firstChars(string(text(row)), charsMax) }, nil
}

func firstChars(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

func isNumber(t arrow.DataType) bool {
	return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) || arrow.IsDecimal(t.ID())
}

// escape keeps control characters from the terminal.
func escape(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// cellLimit is the greatest width of cells with which all columns fit; where
// there is none, the least.
func cellLimit(columns []tableColumn, width int) int {
	for limit := width; limit > cellWidthMin; limit-- {
		total := 1
		for _, c := range columns {
			total += min(c.width, limit) + frameWidth
		}
		if total <= width {
			return limit
		}
	}
	return cellWidthMin
}

// totalWidth is that of a table, with its frame.
func totalWidth(columns []tableColumn) int {
	total := 1
	for _, c := range columns {
		total += c.width + frameWidth
	}
	return total
}

// fit leaves out columns in the middle if not all of them fit; the first always
// stays.
func fit(columns []tableColumn, width int) []tableColumn {
	if totalWidth(columns) <= width || len(columns) < 2 {
		return columns
	}
	gap := tableColumn{cells: make([]string, len(columns[0].cells)), width: 1}
	for i := range gap.cells {
		gap.cells[i] = ellipsis
	}
	left, right := 1, len(columns) // the columns before left and from right on stay
	used := totalWidth([]tableColumn{columns[0], gap})
	for left < right {
		at := left
		if len(columns)-right < left {
			at = right - 1
		}
		if used += totalWidth(columns[at:at+1]) - 1; used > width {
			break
		}
		if at == left {
			left++
		} else {
			right--
		}
	}
	out := append([]tableColumn{}, columns[:left]...)
	return append(append(out, gap), columns[right:]...)
}

// lines draws the table.
func (p *preview) lines(columns []tableColumn) []byte {
	var b bytes.Buffer
	rule := func(left, joint, right string) {
		b.WriteString(left)
		for i, c := range columns {
			if i > 0 {
				b.WriteString(joint)
			}
			b.WriteString(strings.Repeat("─", c.width+2))
		}
		b.WriteString(right + "\n")
	}
	row := func(at int) {
		for _, c := range columns {
			padding := strings.Repeat(" ", c.width-runewidth.StringWidth(c.cells[at]))
			if c.right {
				b.WriteString("│ " + padding + c.cells[at] + " ")
			} else {
				b.WriteString("│ " + c.cells[at] + padding + " ")
			}
		}
		b.WriteString("│\n")
	}
	const heads = 2 // cells above the rows
	rule("┌", "┬", "┐")
	row(0)
	row(1)
	rule("├", "┼", "┤")
	for at := heads; at < len(columns[0].cells); at++ {
		if at == heads+tableEndRows && p.rows > tableRowsMax {
			fmt.Fprintf(&b, "  %s %s rows\n", ellipsis, thousands(p.rows-tableRowsMax))
		}
		row(at)
	}
	rule("└", "┴", "┘")
	b.WriteString(rowsText(p.rows) + "\n")
	return b.Bytes()
}

func rowsText(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return thousands(n) + " rows"
}

// thousands writes a number with commas.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// terminalWidth is the number of columns of the terminal that a file is; 0 if
// it is none. COLUMNS says otherwise.
func terminalWidth(f *os.File) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
