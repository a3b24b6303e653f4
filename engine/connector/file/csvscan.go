package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/alink-runtime/alink/engine/plan"
)

// dialect is how a CSV file is written.
type dialect struct {
	delimiter, quote, escape byte // quote 0: none
	comment                  byte // 0: none
	header                   bool
	skip                     int
	nulls                    [][]byte
	// ends marks the bytes that end a field that is not in quotes.
	ends [256]bool
}

func newDialect(f plan.CSVFormat) *dialect {
	one := func(text string, byDefault byte) byte {
		if text == "" {
			return byDefault
		}
		return text[0]
	}
	d := &dialect{
		delimiter: one(f.Delimiter, ','), quote: one(f.Quote, '"'), comment: one(f.Comment, 0),
		header: !f.NoHeader, skip: f.SkipRows, nulls: [][]byte{{}},
	}
	d.escape = one(f.Escape, d.quote)
	if f.NoQuote {
		d.quote = 0
	}
	if f.NullValues != nil {
		d.nulls = nil
		for _, text := range f.NullValues {
			d.nulls = append(d.nulls, []byte(text))
		}
	}
	for _, c := range []byte{d.delimiter, '\n', '\r'} {
		d.ends[c] = true
	}
	return d
}

func (d *dialect) isNull(text []byte) bool {
	for _, null := range d.nulls {
		if bytes.Equal(text, null) {
			return true
		}
	}
	return false
}

// field is a part of a record: bytes start to end of the scanner's buffer.
type field struct {
	start, end      int
	quoted, escaped bool
}

// csvScanner cuts a text into records. A record is held in memory as a whole;
// the buffer grows to what the longest one needs.
type csvScanner struct {
	dialect *dialect
	reader  io.Reader
	buffer  []byte
	// start to end is what was read and not yet given; from is where the
	// record that next gave begins.
	start, end, from int
	eof              bool
	fields           []field
	// line is that of the record that next gave; nextLine that of start.
	line, nextLine int64
	scratch        []byte
	// blanks says that an empty line is a record, with one empty field.
	blanks bool
}

func newCSVScanner(reader io.Reader, d *dialect) *csvScanner {
	return &csvScanner{dialect: d, reader: reader, buffer: make([]byte, readBufferBytes), nextLine: 1}
}

// errIncomplete says that the buffer does not hold a whole record.
var errIncomplete = errors.New("the record goes on")

// fill reads more, and makes room for it.
func (s *csvScanner) fill() error {
	if s.start > 0 {
		copy(s.buffer, s.buffer[s.start:s.end])
		s.start, s.end = 0, s.end-s.start
	}
	if s.end == len(s.buffer) {
		if len(s.buffer) >= rowBytesMax {
			return fmt.Errorf("line %d: the row is longer than %d MiB; a quote may be missing", s.nextLine, rowBytesMax>>20)
		}
		s.buffer = append(s.buffer, make([]byte, len(s.buffer))...)
	}
	for !s.eof && s.end < len(s.buffer) {
		n, err := s.reader.Read(s.buffer[s.end:])
		s.end += n
		if errors.Is(err, io.EOF) {
			s.eof = true
		} else if err != nil {
			return err
		}
		if n > 0 {
			break
		}
	}
	return nil
}

// next reads a record; its error is io.EOF at the end.
func (s *csvScanner) next() error {
	for {
		err := s.skipLines()
		if err == nil && s.start == s.end && s.eof {
			return io.EOF
		}
		if err == nil {
			err = s.record()
		}
		if !errors.Is(err, errIncomplete) {
			return err
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// skipLines passes comments, empty lines, and the lines that the dialect says
// to skip.
func (s *csvScanner) skipLines() error {
	for {
		if s.start == s.end {
			if s.eof {
				return nil
			}
			return errIncomplete
		}
		c := s.buffer[s.start]
		empty := !s.blanks && (c == '\n' || c == '\r')
		if !empty && s.nextLine > int64(s.dialect.skip) && (s.dialect.comment == 0 || c != s.dialect.comment) {
			return nil
		}
		size, err := s.lineEnd(s.start)
		if err != nil {
			return err
		}
		s.start += size
		s.nextLine++
	}
}

// lineEnd is the length of the line that begins at from, its end included.
func (s *csvScanner) lineEnd(from int) (int, error) {
	at := bytes.IndexAny(s.buffer[from:s.end], "\r\n")
	if at < 0 {
		if s.eof {
			return s.end - from, nil
		}
		return 0, errIncomplete
	}
	size, err := s.newline(from + at)
	return at + size, err
}

// newline is the length of the end of a line at a byte of the buffer.
func (s *csvScanner) newline(at int) (int, error) {
	if s.buffer[at] == '\n' {
		return 1, nil
	}
	if at+1 == s.end {
		if s.eof {
			return 1, nil
		}
		return 0, errIncomplete
	}
	if s.buffer[at+1] == '\n' {
		return 2, nil
	}
	return 1, nil
}

// record parses the record at start and passes it.
func (s *csvScanner) record() error {
	s.fields = s.fields[:0]
	at, lines := s.start, int64(0)
	for {
		f := field{start: at}
		if s.dialect.quote != 0 && at < s.end && s.buffer[at] == s.dialect.quote {
			var err error
			if f, err = s.quoted(at); err != nil {
				return err
			}
			at = f.end + 1
			lines += int64(bytes.Count(s.buffer[f.start:f.end], []byte{'\n'}))
			if at < s.end && !s.dialect.ends[s.buffer[at]] {
				return fmt.Errorf("line %d: after the quote that closes field %d comes %s instead of %q",
					s.nextLine+lines, len(s.fields)+1, show(s.buffer[at:min(s.end, at+showBytesMax)]), s.dialect.delimiter)
			}
		} else {
			for at < s.end && !s.dialect.ends[s.buffer[at]] {
				at++
			}
			f.end = at
		}
		if at == s.end && !s.eof {
			return errIncomplete
		}
		s.fields = append(s.fields, f)
		if at < s.end && s.buffer[at] == s.dialect.delimiter {
			at++
			continue
		}
		size := 0
		if at < s.end {
			var err error
			if size, err = s.newline(at); err != nil {
				return err
			}
			lines++
		}
		s.line, s.nextLine = s.nextLine, s.nextLine+lines
		s.from, s.start = s.start, at+size
		return nil
	}
}

// quoted finds the end of a field in quotes.
func (s *csvScanner) quoted(from int) (field, error) {
	d := s.dialect
	f := field{start: from + 1, quoted: true}
	at := from + 1
	for {
		rest := s.buffer[at:s.end]
		mark := bytes.IndexByte(rest, d.quote)
		if d.escape != d.quote {
			// An escape before the quote makes what follows it plain.
			before := rest
			if mark >= 0 {
				before = rest[:mark]
			}
			if escape := bytes.IndexByte(before, d.escape); escape >= 0 {
				f.escaped = true
				if at += escape + 2; at <= s.end {
					continue
				}
				mark = -1
			}
		}
		if mark < 0 {
			if s.eof {
				return f, fmt.Errorf("line %d: field %d begins with a quote that is not closed", s.nextLine, len(s.fields)+1)
			}
			return f, errIncomplete
		}
		at += mark
		if d.escape == d.quote {
			if at+1 == s.end && !s.eof {
				return f, errIncomplete
			}
			if at+1 < s.end && s.buffer[at+1] == d.quote {
				f.escaped = true
				at += 2
				continue
			}
		}
		f.end = at
		return f, nil
	}
}

// text is a field's content; it is the scanner's and lives until the next call
// of text or next.
func (s *csvScanner) text(f field) []byte {
	raw := s.buffer[f.start:f.end]
	if !f.escaped {
		return raw
	}
	s.scratch = s.scratch[:0]
	for i := 0; i < len(raw); i++ {
		if raw[i] == s.dialect.escape && i+1 < len(raw) {
			i++
		}
		s.scratch = append(s.scratch, raw[i])
	}
	return s.scratch
}

// size is the number of bytes of the record.
func (s *csvScanner) size() int { return s.start - s.from }
