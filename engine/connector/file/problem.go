package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
)

// showBytesMax bounds a value in a message.
const showBytesMax = 60

// show quotes a value for a message, cut where it is long.
func show(value []byte) string {
	if len(value) <= showBytesMax {
		return strconv.Quote(string(value))
	}
	cut := value[:showBytesMax]
	for len(cut) > 0 && !utf8.Valid(cut) && len(cut) > showBytesMax-utf8.UTFMax {
		cut = cut[:len(cut)-1]
	}
	return strconv.Quote(string(cut)) + "…"
}

// place names a line of a file.
func place(path string, line int64) string {
	if line == 0 {
		return path
	}
	return fmt.Sprintf("%s, line %d", path, line)
}

// openFile opens a file of any format for reading.
func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing(path)
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("it is a folder, not a file")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	return os.Open(path)
}

// missing says which file is not there and which names near it are.
func missing(path string) error {
	d := diag.New(diag.FileMissing, "there is no file %s", path)
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return d.WithHint("the folder %s does not exist either; relative paths are taken from the client's working directory", folder)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if near := diag.Suggest(filepath.Base(path), names); len(near) > 0 {
		return d.WithHint("did you mean %s?", filepath.Join(folder, near[0]))
	}
	return d.WithHint("relative paths are taken from the client's working directory")
}

// unreadable says that a file is not what it should be. A diagnostic is passed
// on.
func unreadable(path, format string, err error) error {
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		return d
	}
	d := diag.New(diag.FileUnreadable, "%s cannot be read as %s", path, format).WithCause(err)
	if errors.Is(err, fs.ErrPermission) {
		return d.WithHint("the engine runs as %s, which may not read it", user())
	}
	return d.WithHint("check that the file is whole and that it is %s", format)
}

// user names the user that the engine runs as.
func user() string { return fmt.Sprintf("user %d", os.Geteuid()) }

// badValue says that a value does not fit its column.
func badValue(path string, line int64, column string, value []byte, t arrow.DataType, declared bool, why error) error {
	if errors.Is(why, errNotUTF8) {
		return diag.New(diag.ValueUnreadable, "%s: the value %s of column %q is not UTF-8", place(path, line), show(value), column).
			WithHint("convert the file to UTF-8: iconv -f LATIN1 -t UTF-8 …")
	}
	d := diag.New(diag.ValueUnreadable, "%s: the value %s of column %q does not fit its type %s",
		place(path, line), show(value), column, plan.FormatType(t))
	if !errors.Is(why, errDoesNotFit) {
		d.WithCause(why)
	}
	if declared {
		return d.WithHint("the type is declared: another one, string for example, in schema= reads it")
	}
	return d.WithFact("the type was found by looking at the first rows").
		WithHint("declare the column: schema={%q: \"string\"}", column)
}
