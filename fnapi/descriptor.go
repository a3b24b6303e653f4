package fnapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Artifacts finds what a job's functions refer to. Its errors may be
// diagnostics.
type Artifacts interface {
	// Blob is the path of an artifact for the engine itself.
	Blob(id string) (string, error)
	// Folder is where a domain's workers find artifacts, and all of it that they
	// see.
	Folder(domain string) (string, error)
	// Tables is where the tables lie that a domain's functions get whole; its
	// workers see it too.
	Tables(domain string) (string, error)
	// File is the path of an artifact there, Dir that of the folder into which
	// an archive has been unpacked.
	File(domain, id string) (string, error)
	Dir(domain, id string) (string, error)
}

// payload is what the harness finds in the do_fn of a stage.
type payload struct {
	Kind         exec.StageKind `json:"kind"`
	Calls        []payloadCall  `json:"calls"`
	OutputSchema string         `json:"output_schema"`
	// Keys is the number of key columns of aggregates.
	Keys int `json:"keys"`
	// Careful says that the page is to tell the exact row that runs.
	Careful bool `json:"careful,omitempty"`
	// Profile asks for samples of the functions' stacks.
	Profile bool `json:"profile,omitempty"`
}

type payloadCall struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Kind       plan.FunctionKind `json:"kind"`
	Batch      string            `json:"batch,omitempty"`
	Parameters []string          `json:"parameters"`
	Args       []int             `json:"args"`
	Constants  []payloadConstant `json:"constants,omitempty"`
	Output     int               `json:"output"`
	Code       payloadCode       `json:"code"`
	Modules    []string          `json:"modules"`
	Models     map[string]string `json:"models"`
	// Tables are paths of files of Arrow's.
	Tables    map[string]string `json:"tables,omitempty"`
	OnNull    string            `json:"on_null"`
	BatchRows int               `json:"batch_rows"`
	// OnError is "" where a failure ends the bundle. ExceptionRetries and
	// ErrorsMax are for the worker only where it is not.
	OnError          plan.OnError `json:"on_error,omitempty"`
	ExceptionRetries int          `json:"exception_retries,omitempty"`
	ErrorsMax        int64        `json:"errors_max,omitempty"`
	OutputBytes      int64        `json:"output_bytes"`
	// StateSchema is the schema of an aggregate's state, as OutputSchema is.
	StateSchema string `json:"state_schema,omitempty"`
}

// payloadConstant is an argument that is the same for every row; see
// plan.Constant.
type payloadConstant struct {
	Place int    `json:"place"`
	Value []byte `json:"value"`
}

type payloadCode struct {
	Pickle    string `json:"pickle,omitempty"`
	Source    string `json:"source,omitempty"`
	Name      string `json:"name,omitempty"`
	Attribute string `json:"attribute,omitempty"`
}

// stageCode is a stage as it is told to workers, without their endpoint.
type stageCode struct {
	id string
	// input and output are the schemas as IPC messages, doFn the serialized
	// ParDoPayload.
	input, output []byte
	doFn          []byte
	// careful is the doFn that makes the page exact.
	careful []byte
}

// carefulSuffix makes the name of the descriptor for careful bundles.
const carefulSuffix = "/careful"

// newStageCode finds the artifacts of a stage and writes down what a worker
// has to know. Its errors are diagnostics.
func newStageCode(stage *exec.FunctionStage, artifacts Artifacts) (*stageCode, error) {
	p := payload{Kind: stage.Kind, Keys: stage.Keys, Profile: stage.Profile != nil}
	for _, call := range stage.Calls {
		c, err := newPayloadCall(call, stage.Domain, artifacts)
		if err != nil {
			return nil, diag.From(fmt.Errorf("function %s: %w", call.Function.Name, err)).At(call.Operator, call.Origin)
		}
		for _, table := range stage.Tables {
			if c.Tables == nil {
				c.Tables = map[string]string{}
			}
			c.Tables[table.Name] = table.Path
		}
		p.Calls = append(p.Calls, c)
	}
	code := &stageCode{id: stage.ID}
	var err error
	if code.input, err = encodeSchema(stage.Input); err != nil {
		return nil, diag.From(err)
	}
	if code.output, err = encodeSchema(stage.Output); err != nil {
		return nil, diag.From(err)
	}
	p.OutputSchema = base64.StdEncoding.EncodeToString(code.output)
	if code.doFn, err = p.encode(); err != nil {
		return nil, diag.From(err)
	}
	p.Careful = true
	if code.careful, err = p.encode(); err != nil {
		return nil, diag.From(err)
	}
	return code, nil
}

func (p payload) encode() ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&pipepb.ParDoPayload{DoFn: &pipepb.FunctionSpec{Urn: functionURN, Payload: text}})
}

func newPayloadCall(call exec.FunctionCall, domain string, artifacts Artifacts) (payloadCall, error) {
	f := call.Function
	c := payloadCall{
		ID: call.FunctionID, Name: f.Name, Kind: f.Kind, Batch: f.Batch, Parameters: nonNil(f.Parameters),
		Args: nonNil(call.Args), Output: call.Output, Modules: []string{}, Models: map[string]string{},
		Code:   payloadCode{Source: f.Code.Source, Name: f.Code.Name, Attribute: f.Code.Attribute},
		OnNull: f.Options.OnNull, BatchRows: f.Options.BatchRows, OutputBytes: f.OutputBytes(),
	}
	if f.Options.OnError.Tolerant() {
		c.OnError, c.ExceptionRetries, c.ErrorsMax = f.Options.OnError, f.Options.ExceptionRetries, f.ErrorsMax()
	}
	if c.OnNull == "" {
		c.OnNull = "call"
	}
	for _, constant := range call.Constants {
		c.Constants = append(c.Constants, payloadConstant{constant.Place, constant.Value})
	}
	var err error
	if call.State != nil {
		state, err := encodeSchema(call.State)
		if err != nil {
			return c, err
		}
		c.StateSchema = base64.StdEncoding.EncodeToString(state)
	}
	if f.Code.Artifact != "" {
		if c.Code.Pickle, err = artifacts.File(domain, f.Code.Artifact); err != nil {
			return c, err
		}
	}
	for _, id := range f.Modules {
		dir, err := artifacts.Dir(domain, id)
		if err != nil {
			return c, err
		}
		c.Modules = append(c.Modules, dir)
	}
	for name, id := range f.Models {
		if c.Models[name], err = artifacts.File(domain, id); err != nil {
			return c, err
		}
	}
	return c, nil
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// The ids in a descriptor, beside the transforms'.
const (
	inputCollection, outputCollection = "input", "output"
	inputCoder, outputCoder           = "input_windowed", "output_windowed"
	inputElement, outputElement       = "input_arrow", "output_arrow"
	windowCoder                       = "global_window"
	windowing                         = "global"
)

// descriptors are the stage as bundle descriptors for the worker at url: for
// ordinary bundles and for careful ones.
func (c *stageCode) descriptors(url string) (all []*fnpb.ProcessBundleDescriptor, err error) {
	for id, doFn := range map[string][]byte{c.id: c.doFn, c.id + carefulSuffix: c.careful} {
		d, err := c.descriptor(id, doFn, url)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (c *stageCode) descriptor(id string, doFn []byte, url string) (*fnpb.ProcessBundleDescriptor, error) {
	source, err := port(url, inputCoder)
	if err != nil {
		return nil, err
	}
	sink, err := port(url, outputCoder)
	if err != nil {
		return nil, err
	}
	transform := func(name, urn string, payload []byte, inputs, outputs map[string]string) *pipepb.PTransform {
		return &pipepb.PTransform{
			UniqueName: name, Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}, Inputs: inputs, Outputs: outputs,
		}
	}
	coder := func(urn string, payload []byte, components ...string) *pipepb.Coder {
		return &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}, ComponentCoderIds: components}
	}
	collection := func(name, coder string) *pipepb.PCollection {
		return &pipepb.PCollection{
			UniqueName: name, CoderId: coder, IsBounded: pipepb.IsBounded_BOUNDED, WindowingStrategyId: windowing,
		}
	}
	to := func(id string) map[string]string { return map[string]string{"0": id} }
	return &fnpb.ProcessBundleDescriptor{
		Id: id,
		Transforms: map[string]*pipepb.PTransform{
			sourceTransform:   transform(sourceTransform, "beam:runner:source:v1", source, nil, to(inputCollection)),
			functionTransform: transform(functionTransform, "beam:transform:pardo:v1", doFn, to(inputCollection), to(outputCollection)),
			sinkTransform:     transform(sinkTransform, "beam:runner:sink:v1", sink, to(outputCollection), nil),
		},
		Pcollections: map[string]*pipepb.PCollection{
			inputCollection:  collection(inputCollection, inputElement),
			outputCollection: collection(outputCollection, outputElement),
		},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{windowing: {
			WindowFn:      &pipepb.FunctionSpec{Urn: "beam:window_fn:global_windows:v1"},
			WindowCoderId: windowCoder,
		}},
		Coders: map[string]*pipepb.Coder{
			inputElement:  coder(coderURN, c.input),
			outputElement: coder(coderURN, c.output),
			windowCoder:   coder("beam:coder:global_window:v1", nil),
			inputCoder:    coder("beam:coder:windowed_value:v1", nil, inputElement, windowCoder),
			outputCoder:   coder("beam:coder:windowed_value:v1", nil, outputElement, windowCoder),
		},
	}, nil
}

func port(url, coder string) ([]byte, error) {
	return proto.Marshal(&fnpb.RemoteGrpcPort{
		ApiServiceDescriptor: &pipepb.ApiServiceDescriptor{Url: url}, CoderId: coder,
	})
}
