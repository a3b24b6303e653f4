package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

const (
	// partBytesMax is the size beyond which the next file is begun.
	partBytesMax = 256 << 20
	// partsOpenMax and partsBytesMax bound the files that are written at the
	// same time and what they hold in memory; the one that was not used for
	// longest is then closed, and its partition goes on in a further file.
	partsOpenMax  = 64
	partsBytesMax = 128 << 20
	// partitionsMax bounds the folders of an output.
	partitionsMax = 10_000
)

// folderWriter writes a folder of files: first to a hidden folder beside it
// (within it, to add to it), which then takes its place.
type folderWriter struct {
	codec  codec
	output plan.Output
	staged *staging
	schema *arrow.Schema // of the files
	// keys are the columns of partition_by, rest the others.
	keys, rest []int
	parts      map[string]*part // by folder
	open       int
	clock      int64
}

// part is a partition's file.
type part struct {
	folder string
	number int // of the next file
	file   *os.File
	// encoder is nil while no file is open.
	encoder encoder
	used    int64
}

func openFolder(c codec, out plan.Output, schema *arrow.Schema) (*folderWriter, error) {
	w := &folderWriter{codec: c, output: out, parts: map[string]*part{}}
	if err := w.split(schema); err != nil {
		return nil, err
	}
	if err := checkAppended(c, out, w.schema); err != nil {
		return nil, err
	}
	var err error
	if w.staged, err = stage(out.Path, out.Mode); err != nil {
		return nil, err
	}
	if len(w.keys) == 0 { // a file appears even without rows
		w.parts[""] = &part{}
		if err := w.begin(w.parts[""]); err != nil {
			w.staged.discard()
			return nil, err
		}
	}
	return w, nil
}

// split finds the columns of partition_by.
func (w *folderWriter) split(schema *arrow.Schema) error {
	names := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		names[i] = f.Name
	}
	for _, name := range w.output.PartitionBy {
		at := indexOf(names, name)
		if at < 0 {
			return diag.New(diag.UnknownColumn, "partition_by: there is no column %q", name).
				WithHint("%s", diag.DidYouMean(name, "columns", names))
		}
		if !foldable(schema.Field(at).Type) {
			return diag.New(diag.TypeMismatch, "partition_by: the column %q of type %s cannot name folders", name, plan.FormatType(schema.Field(at).Type)).
				WithHint("partition by whole numbers, booleans, strings, dates or timestamps")
		}
		w.keys = append(w.keys, at)
	}
	var fields []arrow.Field
	for i, f := range schema.Fields() {
		if !slices.Contains(w.keys, i) {
			w.rest, fields = append(w.rest, i), append(fields, f)
		}
	}
	if len(fields) == 0 && len(w.keys) > 0 {
		return diag.New(diag.BadOption, "partition_by names every column; the files would have none")
	}
	w.schema = arrow.NewSchema(fields, nil)
	return nil
}

// foldable reports whether values of a type may name folders.
func foldable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.BOOL, arrow.STRING, arrow.LARGE_STRING, arrow.DATE32, arrow.TIMESTAMP:
		return true
	}
	return arrow.IsInteger(t.ID())
}

// Write implements exec.SinkWriter.
func (w *folderWriter) Write(ctx context.Context, batch arrow.RecordBatch) error {
	if batch.NumRows() == 0 {
		return nil
	}
	if len(w.keys) == 0 {
		return w.add("", batch)
	}
	folders, rows, err := w.group(batch)
	if err != nil {
		return err
	}
	columns := make([]arrow.Array, len(w.rest))
	for i, at := range w.rest {
		columns[i] = batch.Column(at)
	}
	rest := array.NewRecordBatch(w.schema, columns, batch.NumRows())
	defer rest.Release()
	for i, folder := range folders {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		picked, err := take(ctx, rest, rows[i])
		if err != nil {
			return err
		}
		err = w.add(folder, picked)
		picked.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// group gives the folders of a batch's rows, in the order of their first row,
// and the rows of each.
func (w *folderWriter) group(batch arrow.RecordBatch) (folders []string, rows [][]int64, err error) {
	writers := make([]valueWriter, len(w.keys))
	for i, at := range w.keys {
		if writers[i], err = newValueWriter(batch.Column(at), formCSV); err != nil {
			return nil, nil, err
		}
	}
	places := map[string]int{}
	var name, value []byte
	for row := range batch.NumRows() {
		name = name[:0]
		for i, at := range w.keys {
			if i > 0 {
				name = append(name, '/')
			}
			name = append(appendEscaped(name, []byte(w.output.PartitionBy[i])), '=')
			if batch.Column(at).IsNull(int(row)) {
				name = append(name, nullPartition...)
				continue
			}
			value = writers[i](value[:0], int(row))
			name = appendEscaped(name, value)
		}
		at, ok := places[string(name)]
		if !ok {
			at = len(folders)
			places[string(name)] = at
			folders, rows = append(folders, string(name)), append(rows, nil)
		}
		rows[at] = append(rows[at], row)
	}
	return folders, rows, nil
}

// appendEscaped writes a name that a folder can have: odd characters are
// percent-encoded, and a value that looks like the folder of NULL.
func appendEscaped(dst, text []byte) []byte {
	for i, c := range text {
		odd := c < ' ' || c == 0x7f || strings.IndexByte(`%/\=:*?"'<>|#[]{}`, c) >= 0
		if odd || i == 0 && string(text) == nullPartition {
			dst = fmt.Appendf(dst, "%%%02X", c)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// take picks rows of a batch, in ascending order; the caller releases the
// result.
func take(ctx context.Context, batch arrow.RecordBatch, rows []int64) (arrow.RecordBatch, error) {
	if n := int64(len(rows)); rows[n-1]-rows[0] == n-1 {
		return batch.NewSlice(rows[0], rows[n-1]+1), nil
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	indices := b.NewArray()
	defer indices.Release()
	columns := make([]arrow.Array, 0, batch.NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, column := range batch.Columns() {
		picked, err := compute.TakeArray(ctx, column, indices)
		if errors.Is(err, arrow.ErrNotImplemented) {
			picked, err = takeSlices(column, rows)
		}
		if err != nil {
			return nil, err
		}
		columns = append(columns, picked)
	}
	return array.NewRecordBatch(batch.Schema(), columns, int64(len(rows))), nil
}

// takeSlices picks rows of an array of a type that Arrow's own function does
// not know.
func takeSlices(a arrow.Array, rows []int64) (arrow.Array, error) {
	var runs []arrow.Array
	defer func() {
		for _, run := range runs {
			run.Release()
		}
	}()
	for from := 0; from < len(rows); {
		to := from + 1
		for to < len(rows) && rows[to] == rows[to-1]+1 {
			to++
		}
		runs = append(runs, array.NewSlice(a, rows[from], rows[to-1]+1))
		from = to
	}
	return array.Concatenate(runs, memory.DefaultAllocator)
}

// add writes rows of one partition.
func (w *folderWriter) add(folder string, batch arrow.RecordBatch) error {
	p := w.parts[folder]
	if p == nil {
		if len(w.parts) == partitionsMax {
			return diag.New(diag.TooManyPartitions, "%s would have more than %d partitions", w.output.Path, partitionsMax).
				WithHint("partition by columns with fewer values")
		}
		p = &part{folder: folder}
		w.parts[folder] = p
	}
	if p.encoder == nil {
		if err := w.begin(p); err != nil {
			return err
		}
	}
	w.clock++
	p.used = w.clock
	if err := p.encoder.write(batch); err != nil {
		return w.unwritable(err)
	}
	if at, err := p.file.Seek(0, 1); err == nil && at > partBytesMax {
		if err := w.end(p); err != nil {
			return err
		}
	}
	return w.bound()
}

// tooLong names the column whose value makes a folder's name too long.
func (w *folderWriter) tooLong(folder string) error {
	const shown = 40
	longest := ""
	for name := range strings.SplitSeq(folder, "/") {
		if len(name) > len(longest) {
			longest = name
		}
	}
	column, value, _ := strings.Cut(longest, "=")
	return diag.New(diag.ValueUnwritable, "partition_by: a value of the column %q is too long for the name of a folder", unescape(column)).
		WithFact("it takes %d bytes, and begins with %s", len(value), strings.ToValidUTF8(value[:min(len(value), shown)], "")).
		WithHint("partition by a shorter column, such as the beginning of this one or a hash of it")
}

// begin opens a partition's next file.
func (w *folderWriter) begin(p *part) error {
	folder := filepath.Join(w.staged.folder, filepath.FromSlash(p.folder))
	err := os.MkdirAll(folder, 0o755)
	if err == nil {
		p.file, err = os.Create(filepath.Join(folder, partName(p.number, w.codec.extension)))
	}
	if errors.Is(err, syscall.ENAMETOOLONG) {
		return w.tooLong(p.folder)
	}
	if err != nil {
		return w.unwritable(err)
	}
	w.open++
	p.number++
	if p.encoder, err = w.codec.open(p.file, w.schema); err != nil {
		p.encoder = nil
		return w.unwritable(errors.Join(err, p.file.Close()))
	}
	return nil
}

func partName(number int, extension string) string {
	return fmt.Sprintf("part-%05d%s", number, extension)
}

// end completes a partition's file.
func (w *folderWriter) end(p *part) error {
	e := p.encoder
	p.encoder = nil
	w.open--
	err := e.finish()
	if err == nil {
		err = p.file.Sync()
	}
	if err := errors.Join(err, p.file.Close()); err != nil {
		return w.unwritable(err)
	}
	return nil
}

// bound closes files until the limits are kept.
func (w *folderWriter) bound() error {
	for {
		var oldest *part
		var held int64
		for _, p := range w.parts {
			if p.encoder == nil {
				continue
			}
			held += p.encoder.buffered()
			if oldest == nil || p.used < oldest.used {
				oldest = p
			}
		}
		if oldest == nil || w.open < 2 || w.open <= partsOpenMax && held <= partsBytesMax {
			return nil
		}
		if err := w.end(oldest); err != nil {
			return err
		}
	}
}

// Commit implements exec.SinkWriter.
func (w *folderWriter) Commit(context.Context) error {
	for _, p := range w.parts {
		if p.encoder == nil {
			continue
		}
		if err := w.end(p); err != nil {
			w.Abort()
			return err
		}
	}
	if err := w.staged.publish(); err != nil {
		w.Abort()
		return w.unwritable(err)
	}
	return nil
}

// Abort implements exec.SinkWriter.
func (w *folderWriter) Abort() {
	for _, p := range w.parts {
		if p.encoder != nil {
			p.encoder = nil
			_ = p.file.Close() // its content is given up
		}
	}
	w.staged.discard()
}

func (w *folderWriter) unwritable(err error) error {
	return unwritable(w.output.Path, err)
}

// staging is a hidden folder in which an output is made.
type staging struct {
	target string
	mode   plan.WriteMode
	folder string
	lock   *os.File // held as long as the process lives
}

const (
	stagingPrefix = "."
	stagingSuffix = ".alink-part"
)

// stage makes the hidden folder of an output, and removes those of processes
// that were killed.
func stage(path string, mode plan.WriteMode) (*staging, error) {
	s := &staging{target: path, mode: mode}
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return nil, unwritable(path, errors.New("it is a file, not a folder"))
	case err == nil:
		// What a link points at is replaced, not the link.
		if s.target, err = filepath.EvalSymlinks(path); err != nil {
			return nil, unwritable(path, err)
		}
		if err := s.check(); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, unwritable(path, err)
	}
	parent, name := filepath.Split(filepath.Clean(s.target))
	if mode == plan.Append {
		if err := os.Mkdir(s.target, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, unwritable(path, err)
		}
		parent, name = s.target, "append"
	}
	prefix := stagingPrefix + name + "."
	sweep(parent, prefix)
	if s.folder, s.lock, err = lockedFolder(parent, prefix); err != nil {
		return nil, unwritable(path, err)
	}
	return s, nil
}

// check refuses a folder that is in the way.
func (s *staging) check() error {
	if s.mode == plan.Append {
		return nil
	}
	entries, err := os.ReadDir(s.target)
	if err != nil {
		return unwritable(s.target, err)
	}
	if s.mode == plan.ErrorIfExists {
		if len(entries) > 0 {
			return exists(s.target)
		}
		return nil
	}
	var others []string
	err = filepath.WalkDir(s.target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !deletable(path, entry) {
			name, _ := filepath.Rel(s.target, path)
			others = append(others, name)
		}
		return nil
	})
	if err != nil {
		return unwritable(s.target, err)
	}
	if len(others) > 0 {
		return diag.New(diag.UnexpectedFiles, "the folder %s is not overwritten: it holds files that are no tables", s.target).
			WithFact("such as %s", listed(others)).
			WithHint("choose another folder, or remove it yourself")
	}
	return nil
}

// deletable reports whether a file is one that a table is made of.
func deletable(path string, entry fs.DirEntry) bool {
	if !entry.Type().IsRegular() {
		return false
	}
	name := entry.Name()
	if name == "_SUCCESS" || name == "_metadata" || name == "_common_metadata" || strings.HasSuffix(name, ".crc") {
		return true
	}
	if extensionOf(path) == ".txt" { // it may be a table, but also somebody's notes
		return false
	}
	for _, f := range []format{&parquetFormat{}, &csvFormat{}, &jsonFormat{}} {
		if slices.Contains(f.extensions(), extensionOf(path)) {
			return true
		}
	}
	return false
}

// publish puts the folder in its place, or its files in their folders.
func (s *staging) publish() error {
	if s.mode == plan.Append {
		if err := s.move(); err != nil {
			return err
		}
		s.discard()
		return nil
	}
	if err := os.Chmod(s.folder, 0o755); err != nil {
		return err
	}
	if s.mode == plan.Overwrite {
		return s.replace()
	}
	// A folder that is empty is replaced; one that has come since is not.
	if err := os.Rename(s.folder, s.target); err != nil {
		if errors.Is(err, fs.ErrExist) || isFolder(s.target) {
			return exists(s.target)
		}
		return err
	}
	return s.lock.Close()
}

// replace exchanges the folder for the old one, which is then removed. Where
// the system cannot exchange, the old one is put aside first: between the two
// renames there is neither.
func (s *staging) replace() error {
	if !isFolder(s.target) {
		if err := os.Rename(s.folder, s.target); err != nil {
			return err
		}
		return s.lock.Close()
	}
	if err := s.check(); err != nil { // what has come since is not removed either
		return err
	}
	if err := exchange(s.folder, s.target); err != nil {
		aside := s.folder + ".old"
		if err := os.Rename(s.target, aside); err != nil {
			return err
		}
		if err := os.Rename(s.folder, s.target); err != nil {
			return errors.Join(err, os.Rename(aside, s.target))
		}
		s.folder = aside
	}
	s.discard()
	return nil
}

// move gives each file the next free number in its folder. Each appears whole;
// if one cannot, those before it are taken back.
func (s *staging) move() (err error) {
	var moved []string
	defer func() {
		if err != nil {
			for _, path := range moved {
				_ = os.Remove(path) // it is ours
			}
		}
	}()
	return filepath.WalkDir(s.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(s.folder, filepath.Dir(path))
		if err != nil {
			return err
		}
		folder := filepath.Join(s.target, relative)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		name, err := linkNumbered(path, folder)
		if err != nil {
			return err
		}
		moved = append(moved, name)
		return nil
	})
}

// linkNumbered gives a part the first number that no part of a folder reaches.
func linkNumbered(path, folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	number := 0
	for _, e := range entries {
		digits, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "part-"), ".")
		if n, err := strconv.Atoi(digits); err == nil && strings.HasPrefix(e.Name(), "part-") {
			number = max(number, n+1)
		}
	}
	_, extension, _ := strings.Cut(filepath.Base(path), ".")
	for {
		name := filepath.Join(folder, partName(number, "."+extension))
		err := os.Link(path, name)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
		number++
	}
}

// discard removes the hidden folder and what it holds.
func (s *staging) discard() {
	_ = os.RemoveAll(s.folder) // swept by the next write otherwise
	_ = s.lock.Close()
}
