// Package prism_test drives the worker harness with Beam's own local runner,
// Prism, through `pyrunner worker-pool`: what workers speak is Beam's protocol,
// not the engine's alone.
package prism_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"google.golang.org/protobuf/proto"
)

// jobTime is generous: it ends a job that would never end.
const jobTime = 2 * time.Minute

func fromEnv(t *testing.T, variable, otherwise string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join("..", "..", otherwise)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build`, or set %s", err, variable)
	}
	return path
}

// startPool starts a worker pool and gives its address; it is ended, and must
// leave no worker, at the test's end.
func startPool(t *testing.T, listen string, more ...string) string {
	t.Helper()
	pool := exec.Command(fromEnv(t, "ALINK_PYRUNNER", "bin/pyrunner"), append([]string{
		"worker-pool", "--listen", listen, "--python", fromEnv(t, "ALINK_TEST_PYTHON", ".venv/bin/python"),
	}, more...)...)
	var log bytes.Buffer
	pool.Stderr = &log
	out, err := pool.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pool.Process.Signal(syscall.SIGTERM)
		if err := pool.Wait(); err != nil {
			t.Errorf("the pool ended with %v", err)
		}
		t.Logf("the pool says:\n%s", &log)
		for line := range strings.Lines(log.String()) {
			var worker string
			var pid int
			if n, _ := fmt.Sscanf(line, "worker %s process %d started", &worker, &pid); n == 2 && syscall.Kill(pid, 0) == nil {
				t.Errorf("worker %s, process %d, is left", worker, pid)
			}
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

// The schemas of stages as Arrow IPC messages in base64, which pyarrow writes:
// (element binary), and with __alink_row bigint before it.
func schemas(t *testing.T) (columns, flatMap string) {
	t.Helper()
	const script = `
import base64, pyarrow as pa
element = pa.field("element", pa.binary())
for fields in ([element], [pa.field("__alink_row", pa.int64()), element]):
    print(base64.b64encode(pa.schema(fields).serialize()).decode())`
	out, err := exec.Command(fromEnv(t, "ALINK_TEST_PYTHON", ".venv/bin/python"), "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	for _, line := range lines {
		if _, err := base64.StdEncoding.DecodeString(line); err != nil {
			t.Fatal(err)
		}
	}
	return lines[0], lines[1]
}

// pipeline is built by hand, as a program of any language could.
type pipeline struct {
	t          *testing.T
	components *pipepb.Components
	roots      []string
	columns    string
	flatMap    string
}

func newPipeline(t *testing.T, pool string) *pipeline {
	t.Helper()
	payload, err := proto.Marshal(&pipepb.ExternalPayload{Endpoint: &pipepb.ApiServiceDescriptor{Url: pool}})
	if err != nil {
		t.Fatal(err)
	}
	p := &pipeline{t: t, components: &pipepb.Components{
		Transforms: map[string]*pipepb.PTransform{}, Pcollections: map[string]*pipepb.PCollection{},
		Coders: map[string]*pipepb.Coder{
			"bytes":  {Spec: &pipepb.FunctionSpec{Urn: "beam:coder:bytes:v1"}},
			"global": {Spec: &pipepb.FunctionSpec{Urn: "beam:coder:global_window:v1"}},
		},
		Environments: map[string]*pipepb.Environment{"alink": {Urn: "beam:env:external:v1", Payload: payload}},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{"windows": {
			WindowFn: &pipepb.FunctionSpec{Urn: "beam:window_fn:global_windows:v1"}, WindowCoderId: "global",
			MergeStatus: pipepb.MergeStatus_NON_MERGING, AccumulationMode: pipepb.AccumulationMode_DISCARDING,
			OutputTime: pipepb.OutputTime_END_OF_WINDOW, ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY,
			OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_ALWAYS, EnvironmentId: "alink",
			Trigger: &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		}},
	}}
	p.columns, p.flatMap = schemas(t)
	p.add("impulse", "beam:transform:impulse:v1", nil, "", "")
	return p
}

func (p *pipeline) add(id, urn string, payload []byte, input, environment string) {
	transform := &pipepb.PTransform{
		UniqueName: id, Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}, EnvironmentId: environment,
		Outputs: map[string]string{"out": id + ".out"},
	}
	if input != "" {
		transform.Inputs = map[string]string{"in": input + ".out"}
	}
	p.components.Transforms[id] = transform
	p.components.Pcollections[id+".out"] = &pipepb.PCollection{
		UniqueName: id + ".out", CoderId: "bytes", IsBounded: pipepb.IsBounded_BOUNDED, WindowingStrategyId: "windows",
	}
	p.roots = append(p.roots, id)
}

// function adds a stage of the Python function id, given as source text.
func (p *pipeline) function(id, kind, source, input string) {
	p.t.Helper()
	call, output := "row", p.columns
	if kind == "flat_map" {
		call, output = "flat_map", p.flatMap
	}
	text, err := json.Marshal(map[string]any{
		"kind": kind, "output_schema": output,
		"calls": []map[string]any{{
			"id": id, "name": id, "kind": call, "parameters": []string{"x"}, "args": []int{0}, "output": 0,
			"code": map[string]any{"source": source, "name": id}, "modules": []string{}, "models": map[string]string{},
			"on_null": "call", "batch_rows": 0,
		}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := proto.Marshal(&pipepb.ParDoPayload{DoFn: &pipepb.FunctionSpec{Urn: "alink:fn:arrow:v1", Payload: text}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.add(id, "beam:transform:pardo:v1", payload, input, "alink")
}

// run has Prism run the pipeline, and gives its last state and its errors.
func (p *pipeline) run() (jobpb.JobState_Enum, string) {
	p.t.Helper()
	ctx := p.t.Context()
	client, err := prism.CreateJobServer(ctx, prism.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	prepared, err := client.Prepare(ctx, &jobpb.PrepareJobRequest{
		JobName: p.t.Name(), Pipeline: &pipepb.Pipeline{Components: p.components, RootTransformIds: p.roots},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	job, err := client.Run(ctx, &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	if err != nil {
		p.t.Fatal(err)
	}
	messages, err := client.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: job.GetJobId()})
	if err != nil {
		p.t.Fatal(err)
	}
	stuck := time.AfterFunc(jobTime, func() { _, _ = client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: job.GetJobId()}) })
	defer stuck.Stop()
	var errors strings.Builder
	for {
		m, err := messages.Recv()
		if err != nil {
			p.t.Fatalf("the stream of messages broke: %v\n%s", err, &errors)
		}
		if text := m.GetMessageResponse(); text.GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_WARNING {
			errors.WriteString(text.GetMessageText() + "\n")
		}
		switch state := m.GetStateResponse().GetState(); state {
		case jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED:
			return state, errors.String()
		}
	}
}

const elements = 20_000

func TestPrismRunsPythonFunctions(t *testing.T) {
	for name, listen := range map[string]string{
		"loopback": "localhost:0",
		"unix":     "unix:" + filepath.Join(t.TempDir(), "pool"),
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			written := filepath.Join(folder, "written")
			p := newPipeline(t, startPool(t, listen, "--mount", folder+"=rw"))
			p.function("many", "flat_map", fmt.Sprintf(`
def many(x):
    assert x == b"", x  # what Beam's impulse is
    for i in range(%d):
        yield f"élement {i}".encode()`, elements), "impulse")
			p.function("shout", "columns", "def shout(x):\n    return x.decode().upper().encode()\n", "many")
			p.function("twice", "flat_map", "def twice(x):\n    return [x, b''] if x.endswith(b'7') else [x]\n", "shout")
			p.function("write", "columns", fmt.Sprintf(`
def write(x):
    with open(%q, "ab") as file:
        file.write(x + b"\n")
    return x`, written), "twice")
			if state, errors := p.run(); state != jobpb.JobState_DONE {
				t.Fatalf("the job is %s\n%s", state, errors)
			}
			content, err := os.ReadFile(written)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range elements {
				want = append(want, fmt.Sprintf("ÉLEMENT %d", i))
				if i%10 == 7 {
					want = append(want, "")
				}
			}
			got := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
			sort.Strings(want)
			sort.Strings(got)
			if strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%d lines were written, not %d", len(got), len(want))
			}
		})
	}
}

// TestPrismIsToldOfExceptions: the job fails with what the function raised.
func TestPrismIsToldOfExceptions(t *testing.T) {
	// Prism tells of it in its log alone.
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	defer slog.SetDefault(before)
	p := newPipeline(t, startPool(t, "127.0.0.1:0"))
	p.function("fails", "columns", "def fails(x):\n    raise ValueError('on purpose')\n", "impulse")
	state, errors := p.run()
	said, err := os.ReadFile(log.Name())
	if err != nil || state != jobpb.JobState_FAILED || !strings.Contains(string(said), "fails raised ValueError: on purpose") {
		t.Errorf("the job is %s\n%s\n%s%v", state, errors, said, err)
	}
}

// TestOtherMachinesAreRefused: a pool without mutual TLS is for this machine.
func TestOtherMachinesAreRefused(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "example.com:1", "nonsense"} {
		pool := exec.Command(fromEnv(t, "ALINK_PYRUNNER", "bin/pyrunner"), "worker-pool", "--listen", listen,
			"--python", fromEnv(t, "ALINK_TEST_PYTHON", ".venv/bin/python"))
		out, err := pool.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "ALK1006") || !strings.Contains(string(out), "hint:") {
			t.Errorf("%s: %v\n%s", listen, err, out)
		}
	}
}
