package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

var schema = arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)

func snapshot(alloc memory.Allocator, meta string, values ...int64) exec.Snapshot {
	s := exec.Snapshot{Meta: []byte(meta)}
	if values != nil {
		b := array.NewRecordBuilder(alloc, schema)
		defer b.Release()
		b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
		s.Batch = b.NewRecordBatch()
	}
	return s
}

func open(t *testing.T, dir string, change func(*Options)) (*Coordinator, error) {
	t.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	o := Options{
		Dir: dir, Interval: time.Second, Steps: []plan.Step{{Op: "window", Args: map[string]string{"size_us": "5"}}},
		Log: func(text string) { t.Log(text) }, Allocator: checked,
	}
	if change != nil {
		change(&o)
	}
	c, err := Open(o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		c.Close()
		checked.AssertSize(t, 0)
	})
	return c, nil
}

// beat runs a coordinator with a source and a subtask that answer to n
// checkpoints.
func beat(t *testing.T, c *Coordinator, n int) error {
	t.Helper()
	source, window := c.Source("source"), c.Keeper("window", 3)
	c.Start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- c.Run(ctx) }()
	for range n {
		select {
		case err := <-failed:
			return err
		case id := <-source.Barriers():
			if err := window.Keep(ctx, id, snapshot(c.options.Allocator, `{"w":1}`, 4, 5)); err != nil {
				return err
			}
			synctest.Wait()
			if last := c.Stats().Last; last == id {
				t.Errorf("checkpoint %d was complete before all had answered", id)
			}
			if err := source.Keep(ctx, id, snapshot(c.options.Allocator, `{"offset":7}`)); err != nil {
				return err
			}
			synctest.Wait()
		}
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	cancel()
	return <-failed
}

func TestCheckpointsComeEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		c, err := open(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		var complete []uint64
		c.OnComplete(func(id uint64) error { complete = append(complete, id); return nil })
		began := time.Now()
		if err := beat(t, c, 5); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("five checkpoints took %v", took)
		}
		if s := c.Stats(); s.Completed != 5 || s.Last != 5 || s.LastBytes == 0 || len(complete) != 5 {
			t.Errorf("%+v, %v", s, complete)
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != keptDefault+1 {
			t.Errorf("%v are left (%v)", left, err)
		}
		c.Close()
		again, err := open(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := again.Keeper("window", 0).Restored()
		if err != nil || len(got) != 1 || compact(t, got[0].Meta) != `{"w":1}` || got[0].Batch.Column(0).(*array.Int64).Value(1) != 5 {
			t.Errorf("restored %v, %v", got, err)
		}
		for _, s := range got {
			s.Release()
		}
		if again.next != 6 || again.Finished() {
			t.Errorf("goes on with checkpoint %d", again.next)
		}
	})
}

func compact(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// failing is a file system that fails from the nth call on.
type failing struct {
	disk
	left int
}

var errDisk = errors.New("no space left on device")

func (f *failing) spent() bool { f.left--; return f.left < 0 }

func (f *failing) mkdir(path string) error {
	if f.spent() {
		return errDisk
	}
	return f.disk.mkdir(path)
}

func (f *failing) write(path string, data []byte) error {
	if f.spent() {
		return errors.Join(os.WriteFile(path, data[:len(data)/2], 0o600), errDisk)
	}
	return f.disk.write(path, data)
}

func (f *failing) publish(from, to string) error {
	if f.spent() {
		return errDisk
	}
	return f.disk.publish(from, to)
}

// TestAFullDiskEndsTheJobAndKeepsWhatWasComplete: whichever call fails, the
// error says where, and the next start goes on from a whole checkpoint.
func TestAFullDiskEndsTheJobAndKeepsWhatWasComplete(t *testing.T) {
	for calls := range 12 {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			c, err := open(t, dir, func(o *Options) { o.files = &failing{left: calls} })
			if err == nil {
				err = beat(t, c, 10)
				c.Close()
			}
			if d := diag.From(err); d == nil || d.Code != diag.CheckpointFailed || !strings.Contains(d.Cause, errDisk.Error()) || d.Hint == "" {
				t.Fatalf("after %d calls: %v", calls, err)
			}
			again, err := open(t, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			// A probe, then for each checkpoint a folder, a state, a manifest and
			// the renaming.
			if want := uint64(max(0, calls-1) / 4); again.Stats().Restored != want {
				t.Errorf("after %d calls: restored %d instead of %d", calls, again.Stats().Restored, want)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, unfinishedPrefix+"*")); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
		})
	}
}

func TestTheEndIsACheckpointToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c, err := open(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		sink := c.Keeper("sink", 0)
		late := c.Source("late")
		c.Start()
		if err := errors.Join(
			sink.Keep(t.Context(), End, snapshot(c.options.Allocator, `{"through":9}`)),
			late.Keep(t.Context(), 77, snapshot(c.options.Allocator, `{}`, 1)), // overtaken by the end
			c.Finish(),
		); err != nil {
			t.Fatal(err)
		}
		c.Close()
		again, err := open(t, dir, nil)
		if err != nil || !again.Finished() {
			t.Fatalf("finished: %v", err)
		}
		if got, err := again.Keeper("sink", 0).Restored(); err != nil || len(got) != 1 || compact(t, got[0].Meta) != `{"through":9}` {
			t.Errorf("%v, %v", got, err)
		}
		again.Close()
		_, err = open(t, dir, func(o *Options) { o.Steps[0].Args["size_us"] = "6" })
		if d := diag.From(err); d == nil || d.Code != diag.PlanChanged || !strings.Contains(d.Message, "step 1, window: size_us was 5, is 6") {
			t.Errorf("%v", err)
		}
	})
}

// TestACheckpointOnDemand begins at once, or after the one that is under way,
// and its folder is told when it is complete; the end of the job serves too.
func TestACheckpointOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c, err := open(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		source := c.Source("source")
		c.Start()
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- c.Run(ctx) }()
		type told struct {
			dir string
			err error
		}
		ask := func() <-chan told {
			out := make(chan told, 1)
			go func() {
				dir, err := c.Now(t.Context())
				out <- told{dir, err}
			}()
			synctest.Wait()
			return out
		}
		keep := func() uint64 {
			id := <-source.Barriers()
			if err := source.Keep(ctx, id, snapshot(c.options.Allocator, `{}`)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			return id
		}
		began := time.Now()
		first, second := ask(), ask() // the second comes while the first is under way
		if keep() != 1 || (<-first).dir != filepath.Join(dir, "checkpoint-00000001") || len(second) != 0 {
			t.Error("the first request was not answered by the first checkpoint, or the second was")
		}
		if keep() != 2 || (<-second).dir != filepath.Join(dir, "checkpoint-00000002") {
			t.Error("the second request was not answered by the second checkpoint")
		}
		if time.Since(began) != 0 {
			t.Errorf("requests waited for %v", time.Since(began))
		}
		if keep(); time.Since(began) != time.Second {
			t.Errorf("the next regular checkpoint came after %v", time.Since(began))
		}
		third := ask()
		cancel()
		if err := errors.Join(<-ran, c.Finish()); err != nil {
			t.Fatal(err)
		}
		if got := <-third; got.dir != filepath.Join(dir, "checkpoint-00000005") || got.err != nil {
			t.Errorf("at the end of the job: %+v", got)
		}
		last := ask()
		c.Close()
		if got := <-last; diag.From(got.err).Code != diag.CheckpointFailed {
			t.Errorf("after the end: %+v", got)
		}
	})
}
