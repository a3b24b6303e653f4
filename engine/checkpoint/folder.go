package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// A checkpoint is the folder checkpoint-N with a manifest and an Arrow file
// for each subtask that remembers rows. It is written as unfinished-N, every
// file synced, and renamed when whole; what is called unfinished is never read.
const (
	formatVersion    = 1
	completePrefix   = "checkpoint-"
	unfinishedPrefix = "unfinished-"
	manifestName     = "manifest.json"
	lockName         = "lock"
)

// manifest says what a checkpoint holds.
type manifest struct {
	Version  int    `json:"version"`
	ID       uint64 `json:"id"`
	Finished bool   `json:"finished,omitempty"`
	// EndedBy is what ended a finished job before its source had an end.
	EndedBy string      `json:"ended_by,omitempty"`
	Steps   []plan.Step `json:"steps"`
	States  []stateFile `json:"states"`

	dir string
}

// stateFile is what one subtask remembered. Without rows there is no file.
type stateFile struct {
	Vertex  string          `json:"vertex"`
	Subtask int             `json:"subtask"`
	Meta    json.RawMessage `json:"meta"`
	File    string          `json:"file,omitempty"`
	Bytes   int64           `json:"bytes,omitempty"`
	CRC32C  uint32          `json:"crc32c,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// files is the part of the file system that checkpoints are written with.
type files interface {
	mkdir(path string) error
	// write makes a file that is on the disk when write returns.
	write(path string, data []byte) error
	// publish renames a folder, and is on the disk when it returns.
	publish(from, to string) error
}

type disk struct{}

func (disk) mkdir(path string) error { return os.Mkdir(path, 0o755) }

func (disk) write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (disk) publish(from, to string) error {
	if err := syncDir(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// folder is the place of a job's checkpoints, locked for it.
type folder struct {
	dir   string
	log   func(string)
	files files
	lock  *os.File
}

func openFolder(options Options) (*folder, error) {
	f := &folder{dir: options.Dir, log: options.Log, files: options.files}
	if err := f.open(); err != nil {
		f.close()
		if d := diag.From(err); d.Code != diag.Internal {
			return nil, d
		}
		return nil, diag.New(diag.CheckpointFailed, "the checkpoint folder %s cannot be used", options.Dir).WithCause(err).
			WithHint("name a folder that can be made and written to")
	}
	return f, nil
}

func (f *folder) open() (err error) {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	// The lock ends with the process, however that ends.
	if f.lock, err = os.OpenFile(filepath.Join(f.dir, lockName), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	if err := syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		return diag.New(diag.CheckpointInUse, "the checkpoint folder %s is in use by another job", f.dir).
			WithHint("give each job a folder of its own, or end the other one")
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinishedPrefix) {
			if err := os.RemoveAll(filepath.Join(f.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// Better to learn now than at the first checkpoint.
	probe := filepath.Join(f.dir, unfinishedPrefix+"probe")
	if err := f.files.mkdir(probe); err != nil {
		return err
	}
	return os.Remove(probe)
}

func (f *folder) close() {
	if f.lock != nil {
		_ = f.lock.Close() // gives the lock up; nothing was written
		f.lock = nil
	}
}

func (f *folder) path(prefix string, id uint64) string {
	return filepath.Join(f.dir, fmt.Sprintf("%s%08d", prefix, id))
}

// ids are those of the checkpoints that bear the name of complete ones, the
// newest first.
func (f *folder) ids() ([]uint64, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), completePrefix)
		if id, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids, nil
}

// newest finds the newest checkpoint of which every byte is there; nil if
// there is none at all.
func (f *folder) newest() (*manifest, error) {
	ids, err := f.ids()
	if err != nil {
		return nil, err
	}
	var causes []error
	for _, id := range ids {
		m, err := f.read(id)
		if err == nil {
			return m, nil
		}
		causes = append(causes, fmt.Errorf("checkpoint %d: %w", id, err))
		f.log(fmt.Sprintf("checkpoint %d in %s is damaged and was skipped: %v", id, f.dir, err))
	}
	if len(causes) == 0 {
		return nil, nil
	}
	return nil, diag.New(diag.CheckpointDamaged, "no checkpoint in %s can be read", f.dir).WithCause(causes[0]).
		WithHint("to start over, remove this folder and the job's output")
}

func (f *folder) read(id uint64) (*manifest, error) {
	m := &manifest{dir: f.path(completePrefix, id)}
	text, err := os.ReadFile(filepath.Join(m.dir, manifestName))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	if m.Version != formatVersion || m.ID != id {
		return nil, fmt.Errorf("its manifest is of version %d and checkpoint %d", m.Version, m.ID)
	}
	for _, s := range m.States {
		if s.File == "" {
			continue
		}
		if _, err := m.content(s); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// content reads a file of the checkpoint, checked against the manifest.
func (m *manifest) content(s stateFile) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(m.dir, filepath.Base(s.File)))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != s.Bytes || crc32.Checksum(data, castagnoli) != s.CRC32C {
		return nil, fmt.Errorf("%s is not as it was written", s.File)
	}
	return data, nil
}

// load gives what the subtasks of a vertex remembered.
func (f *folder) load(m *manifest, vertex string, allocator memory.Allocator) (out []exec.Snapshot, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, s := range out {
			s.Release()
		}
		out, err = nil, diag.New(diag.CheckpointFailed, "checkpoint %d in %s cannot be read", m.ID, f.dir).WithCause(err).
			WithHint("start the job again: a damaged checkpoint is skipped")
	}()
	for _, s := range m.States {
		if s.Vertex != vertex {
			continue
		}
		snapshot := exec.Snapshot{Meta: s.Meta}
		if s.File != "" {
			data, err := m.content(s)
			if err != nil {
				return out, err
			}
			reader, err := ipc.NewFileReader(bytes.NewReader(data), ipc.WithAllocator(allocator))
			if err != nil {
				return out, err
			}
			if snapshot.Batch, err = reader.RecordBatchAt(0); err != nil {
				return out, errors.Join(err, reader.Close())
			}
			if err := reader.Close(); err != nil {
				return append(out, snapshot), err
			}
		}
		out = append(out, snapshot)
	}
	return out, nil
}

// draft is a checkpoint that is being written.
type draft struct {
	folder   *folder
	manifest manifest
	dir      string
	bytes    int64
}

func (f *folder) begin(id uint64) (*draft, error) {
	d := &draft{folder: f, manifest: manifest{Version: formatVersion, ID: id}, dir: f.path(unfinishedPrefix, id)}
	return d, f.files.mkdir(d.dir)
}

// add writes what a subtask remembers. The snapshot stays the caller's.
func (d *draft) add(a ack) error {
	s := stateFile{Vertex: a.vertex, Subtask: a.index, Meta: a.snapshot.Meta}
	if batch := a.snapshot.Batch; batch != nil {
		var buffer bytes.Buffer
		w, err := ipc.NewFileWriter(&buffer, ipc.WithSchema(batch.Schema()))
		if err != nil {
			return err
		}
		if err := errors.Join(w.Write(batch), w.Close()); err != nil {
			return err
		}
		s.File = fmt.Sprintf("state-%d.arrow", len(d.manifest.States))
		s.Bytes, s.CRC32C = int64(buffer.Len()), crc32.Checksum(buffer.Bytes(), castagnoli)
		if err := d.folder.files.write(filepath.Join(d.dir, s.File), buffer.Bytes()); err != nil {
			return err
		}
		d.bytes += s.Bytes
	}
	d.manifest.States = append(d.manifest.States, s)
	return nil
}

// commit makes the checkpoint complete.
func (d *draft) commit(finished bool, endedBy string, steps []plan.Step) error {
	d.manifest.Finished, d.manifest.EndedBy, d.manifest.Steps = finished, endedBy, steps
	text, err := json.MarshalIndent(d.manifest, "", " ")
	if err != nil {
		return err
	}
	d.bytes += int64(len(text))
	if err := d.folder.files.write(filepath.Join(d.dir, manifestName), text); err != nil {
		return err
	}
	return d.folder.files.publish(d.dir, d.folder.path(completePrefix, d.manifest.ID))
}

func (d *draft) discard() { _ = os.RemoveAll(d.dir) } // what is left is removed at the next start

// forget removes all but the newest checkpoints up to id. What cannot be
// removed does no harm.
func (f *folder) forget(id uint64, kept int) {
	ids, err := f.ids()
	if err != nil {
		return
	}
	ids = slices.DeleteFunc(ids, func(other uint64) bool { return other > id })
	for _, old := range ids[min(kept, len(ids)):] {
		// The manifest goes first: half a checkpoint must not pass for a whole.
		if err := os.Remove(filepath.Join(f.path(completePrefix, old), manifestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		_ = os.RemoveAll(f.path(completePrefix, old))
	}
}
