package file

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// readBufferBytes is what is read of a text at a time.
	readBufferBytes = 256 << 10
	// batchBytesMax bounds the text in a batch; a row may be larger and is
	// then a batch of its own.
	batchBytesMax = 16 << 20
	// rowBytesMax bounds a row, which is held in memory.
	rowBytesMax = 1 << 30
)

// compressions are the endings of compressed files.
var compressions = map[string]string{".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

// compressionOf is the compression that a file's name tells; "" if it is none.
func compressionOf(path string) string { return compressions[strings.ToLower(filepath.Ext(path))] }

// extensionOf is the ending of a file's name in small letters, without that of
// a compression.
func extensionOf(path string) string {
	if compressionOf(path) != "" {
		path = strings.TrimSuffix(path, filepath.Ext(path))
	}
	return strings.ToLower(filepath.Ext(path))
}

// textFile is a file of text as it is read, decompressed.
type textFile struct {
	io.Reader
	file *os.File
	zstd *zstd.Decoder
}

// openText opens a text of UTF-8, without its byte order mark.
func openText(path string) (*textFile, error) {
	file, err := openFile(path)
	if err != nil {
		return nil, err
	}
	t := &textFile{Reader: file, file: file}
	switch compressionOf(path) {
	case "gzip":
		if t.Reader, err = gzip.NewReader(file); err == io.EOF { //nolint:errorlint // as io.Reader promises
			t.Reader, err = bytes.NewReader(nil), nil // an empty file
		}
	case "zstd":
		// One decoder without goroutines of its own: nothing to wait for.
		t.zstd, err = zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		t.Reader = t.zstd
	}
	if err == nil {
		err = t.skipMark()
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// skipMark takes away a byte order mark of UTF-8 and refuses those of others.
func (t *textFile) skipMark() error {
	head := make([]byte, 4)
	n, err := io.ReadFull(t.Reader, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	head = head[:n]
	if rest, marked := bytes.CutPrefix(head, []byte("\xef\xbb\xbf")); marked {
		head = rest
	} else if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) {
		return fmt.Errorf("it is UTF-16; only UTF-8 is read")
	}
	t.Reader = io.MultiReader(bytes.NewReader(head), t.Reader)
	return nil
}

// Close closes the file. Nothing can be lost: it is only read.
func (t *textFile) Close() {
	if t.zstd != nil {
		t.zstd.Close()
	}
	_ = t.file.Close()
}

// lineAt gives the line of a byte of a text, by reading it again: only for
// what goes wrong. 0 means that it cannot be told.
func lineAt(path string, offset int64) int64 {
	t, err := openText(path)
	if err != nil {
		return 0
	}
	defer t.Close()
	line, buffer := int64(1), make([]byte, readBufferBytes)
	for offset > 0 {
		n, err := t.Read(buffer[:min(int64(len(buffer)), offset)])
		line += int64(bytes.Count(buffer[:n], []byte{'\n'}))
		offset -= int64(n)
		if err != nil {
			break
		}
	}
	return line
}
