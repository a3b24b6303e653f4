package fnapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/udfworker"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// TestMain is also the supervisor and the fake worker: the tests start their
// own binary as each.
func TestMain(m *testing.M) {
	// Under the race detector a process sleeps for a second before it exits.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	switch {
	case os.Getenv("ALINK_WORKER_POOL") != "":
		if err := udfworker.ServeSupervisor(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) == 3 && os.Args[1] == "-I":
		if err := runFakeWorker(); err != nil {
			fmt.Fprintln(os.Stderr, "fake worker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeWorker speaks the Fn API as the harness does, and misbehaves on request.
// The source text of the function is a list of commands, separated by blanks;
// see obey. Without a command it gives twice its first argument.
type fakeWorker struct {
	link fakeLink

	mu      sync.Mutex
	changed *sync.Cond
	inputs  map[string]*fakeInput
	stages  map[string]*fakeStage
}

type fakeInput struct {
	bytes.Buffer
	ended bool
}

type fakeStage struct {
	input, output *arrow.Schema
	payload       payload
}

func runFakeWorker() error {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		return err
	}
	var launch launchLine
	if err := json.Unmarshal(line, &launch); err != nil {
		return err
	}
	go func() {
		_, _ = stdin.ReadByte()
		os.Exit(0)
	}()
	signal.Ignore(syscall.SIGINT)
	link, err := dialFake(launch)
	if err != nil {
		return err
	}
	w := &fakeWorker{link: link, inputs: map[string]*fakeInput{}, stages: map[string]*fakeStage{}}
	w.changed = sync.NewCond(&w.mu)
	return w.run()
}

func (w *fakeWorker) run() error {
	go w.readData()
	for {
		r, err := w.link.request()
		if err != nil {
			return nil //nolint:nilerr // the engine is done with us
		}
		response := &fnpb.InstructionResponse{InstructionId: r.GetInstructionId()}
		if err := w.bundle(r.GetInstructionId(), r.GetProcessBundle().GetProcessBundleDescriptorId()); err != nil {
			text := err.Error()
			if !strings.HasPrefix(text, "{") {
				b, _ := json.Marshal(failure{Error: "protocol", Message: text})
				text = string(b)
			}
			response.Error = text
		} else {
			response.Response = &fnpb.InstructionResponse_ProcessBundle{ProcessBundle: &fnpb.ProcessBundleResponse{}}
		}
		if err := w.link.respond(response); err != nil {
			return nil //nolint:nilerr // the engine is done with us
		}
	}
}

func (w *fakeWorker) readData() {
	for {
		d, err := w.link.data()
		if err != nil {
			os.Exit(0)
		}
		w.mu.Lock()
		in := w.inputLocked(d.GetInstructionId())
		in.Write(d.GetData())
		in.ended = in.ended || d.GetIsLast()
		w.changed.Broadcast()
		w.mu.Unlock()
	}
}

func (w *fakeWorker) inputLocked(instruction string) *fakeInput {
	if w.inputs[instruction] == nil {
		w.inputs[instruction] = &fakeInput{}
	}
	return w.inputs[instruction]
}

func (w *fakeWorker) stage(id string) (*fakeStage, error) {
	if s := w.stages[id]; s != nil {
		return s, nil
	}
	d, err := w.link.descriptor(id)
	if err != nil {
		return nil, err
	}
	s := &fakeStage{}
	var parDo pipepb.ParDoPayload
	if err := proto.Unmarshal(d.GetTransforms()[functionTransform].GetSpec().GetPayload(), &parDo); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(parDo.GetDoFn().GetPayload(), &s.payload); err != nil {
		return nil, err
	}
	if s.input, err = schemaOf(d, sourceTransform); err == nil {
		s.output, err = schemaOf(d, sinkTransform)
	}
	w.stages[id] = s
	return s, err
}

// schemaOf follows a port's coders to the schema.
func schemaOf(d *fnpb.ProcessBundleDescriptor, transform string) (*arrow.Schema, error) {
	var port fnpb.RemoteGrpcPort
	if err := proto.Unmarshal(d.GetTransforms()[transform].GetSpec().GetPayload(), &port); err != nil {
		return nil, err
	}
	windowed := d.GetCoders()[port.GetCoderId()]
	if windowed.GetSpec().GetUrn() != "beam:coder:windowed_value:v1" {
		return nil, fmt.Errorf("coder %v", windowed)
	}
	element := d.GetCoders()[windowed.GetComponentCoderIds()[0]]
	r, err := ipc.NewReader(bytes.NewReader(element.GetSpec().GetPayload()))
	if err != nil {
		return nil, err
	}
	return r.Schema(), nil
}

func (w *fakeWorker) bundle(instruction, descriptor string) error {
	s, err := w.stage(descriptor)
	if err != nil {
		return err
	}
	call := s.payload.Calls[0]
	if call.Code.Source == "early" { // an answer without reading
		return w.answer(instruction, []arrow.RecordBatch{modelBatch(0)})
	}
	input, err := w.whole(instruction, s.input)
	if err != nil {
		return err
	}
	sum := 0.0
	var output []arrow.RecordBatch
	for _, batch := range input {
		arg := 0
		if len(call.Args) > 0 {
			arg = call.Args[0]
		}
		doubled := array.NewFloat64Builder(memory.DefaultAllocator)
		values := batch.Column(arg).(*array.Float64)
		for i := range values.Len() {
			if err := w.obey(instruction, call, values.Value(i), i); err != nil {
				return err
			}
			doubled.Append(2 * values.Value(i))
			sum += values.Value(i)
		}
		columns := make([]arrow.Array, s.output.NumFields())
		for i := range columns {
			columns[i] = doubled.NewArray()
		}
		if s.payload.Kind != "fit" {
			output = append(output, array.NewRecordBatch(s.output, columns, batch.NumRows()))
		}
	}
	if s.payload.Kind == "fit" {
		output = []arrow.RecordBatch{modelBatch(sum)}
	}
	return w.answer(instruction, output)
}

func modelBatch(sum float64) arrow.RecordBatch {
	b := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.LargeBinary)
	b.Append([]byte(strconv.FormatFloat(sum, 'f', -1, 64)))
	return array.NewRecordBatch(modelSchema, []arrow.Array{b.NewArray()}, 1)
}

func (w *fakeWorker) whole(instruction string, schema *arrow.Schema) ([]arrow.RecordBatch, error) {
	w.mu.Lock()
	in := w.inputLocked(instruction)
	for !in.ended {
		w.changed.Wait()
	}
	delete(w.inputs, instruction)
	w.mu.Unlock()
	d, err := newDecoder(schema, false)
	if err != nil {
		return nil, err
	}
	return d.decode([]piece{{bytes: in.Bytes()}})
}

// answer sends output in pieces of an odd size.
func (w *fakeWorker) answer(instruction string, output []arrow.RecordBatch) error {
	const pieceBytes = 100_003
	var data []byte
	for _, batch := range output {
		b, err := encodeBatch(batch, dataNames{instruction, sinkTransform})
		if err != nil {
			return err
		}
		data = append(data, b...)
	}
	for {
		piece := data[:min(len(data), pieceBytes)]
		data = data[len(piece):]
		if err := w.put(instruction, piece, len(data) == 0); err != nil || len(data) == 0 {
			return err
		}
	}
}

func (w *fakeWorker) put(instruction string, piece []byte, last bool) error {
	return w.link.put(&fnpb.Elements_Data{InstructionId: instruction, TransformId: sinkTransform, Data: piece, IsLast: last})
}

// obey does what the function's text asks for at a row whose first argument is
// value: "die@3" kills the worker at 3, "dieonce@3:/path" unless the file
// exists, which it then makes, and so on.
func (w *fakeWorker) obey(instruction string, call payloadCall, value float64, row int) error {
	for _, command := range strings.Fields(call.Code.Source) {
		name, argument, _ := strings.Cut(command, "@")
		argument, path, _ := strings.Cut(argument, ":")
		if at, err := strconv.ParseFloat(argument, 64); err == nil && at != value {
			continue
		}
		switch name {
		case "die":
			fmt.Fprintf(os.Stderr, "dying at %v\n", value)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "dieonce":
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				_ = os.WriteFile(path, nil, 0o600)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		case "exit":
			os.Exit(3)
		case "hang":
			select {}
		case "nap":
			time.Sleep(20 * time.Millisecond)
		case "hangup":
			w.link.hangUp()
			select {}
		case "raise":
			text, _ := json.Marshal(map[string]any{
				"error": "raised", "function": call.ID, "name": call.Name, "message": call.Name + " raised ValueError: no",
				"exception": map[string]string{"module": "builtins", "type": "ValueError", "message": "no"},
				"frames":    []map[string]any{{"file": "job.py", "line": 3, "function": call.Name, "text": "    raise ValueError('no')"}},
				"row":       row, "values": []map[string]string{{"name": "x", "repr": fmt.Sprint(value)}},
			})
			return errors.New(string(text))
		case "print":
			_ = w.link.log(&fnpb.LogEntry_List{LogEntries: []*fnpb.LogEntry{{
				Severity: fnpb.LogEntry_Severity_NOTICE, Message: fmt.Sprintf("value %v", value), LogLocation: call.Name,
			}}})
		case "garbage":
			_ = w.put(instruction, []byte("no arrow data at all, whatever it is"), true)
			return nil
		case "rows":
			return w.answer(instruction, []arrow.RecordBatch{floats(1, 1)})
		case "wrongsink":
			_ = w.link.put(&fnpb.Elements_Data{InstructionId: instruction, TransformId: "other", Data: []byte{1}})
			select {}
		case "nonsense":
			return errors.New("{not json")
		}
	}
	return nil
}
