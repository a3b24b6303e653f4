package duck

import (
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// boundBytesMax bounds the text of the statements that a Database remembers.
const boundBytesMax = 8 << 20

// bound is what statements give that were found to be sound, by their text. To
// bind one takes DuckDB a tenth of a millisecond for each column; a search or a
// notebook writes the same ones again and again, and each step that is put
// behind others asks for all of theirs.
type bound struct {
	columns map[string][]column
	bytes   int
}

// find gives the columns of a statement, if they are known.
func (b *bound) find(statement string) ([]column, bool) {
	found, ok := b.columns[statement]
	return found, ok
}

// keep notes the columns of a statement.
func (b *bound) keep(statement string, columns []column) {
	if len(statement) > boundBytesMax/8 {
		return
	}
	if _, known := b.columns[statement]; !known {
		b.bytes += len(statement)
	}
	if b.columns == nil || b.bytes > boundBytesMax {
		b.columns, b.bytes = map[string][]column{}, len(statement)
	}
	b.columns[statement] = columns
}

// columns gives the names and types of what a statement gives that reads
// nothing but what it defines itself, whose expressions are nested so deep. The
// result is not to be changed. The error is a *queryError.
func (s *session) columns(statement string, depth int) ([]column, error) {
	s.db.mu.Lock()
	known, ok := s.db.bound.find(statement)
	s.db.mu.Unlock()
	if ok {
		return known, nil
	}
	p, err := s.prepare(statement, depth)
	if err != nil {
		return nil, err
	}
	defer duckdb.DestroyPrepare(&p)
	columns := make([]column, int(duckdb.PreparedStatementColumnCount(p)))
	for i := range columns {
		logical := duckdb.PreparedStatementColumnLogicalType(p, duckdb.IdxT(i))
		columns[i] = column{duckdb.PreparedStatementColumnName(p, duckdb.IdxT(i)), readType(logical)}
		duckdb.DestroyLogicalType(&logical)
	}
	s.db.mu.Lock()
	s.db.bound.keep(statement, columns)
	s.db.mu.Unlock()
	return columns, nil
}
