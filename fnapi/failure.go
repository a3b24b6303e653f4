package fnapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/udfworker"
)

// Bounds of what a diagnostic takes from a worker.
const (
	framesMax    = 20
	valuesMax    = 50
	textCharsMax = 4000
	// outputLinesMax is how much of a dead worker's output is shown.
	outputLinesMax = 4
)

// failure is the JSON in an InstructionResponse's error.
type failure struct {
	Error     string          `json:"error"`
	Function  string          `json:"function"`
	Call      int             `json:"call"`
	Name      string          `json:"name"`
	Message   string          `json:"message"`
	Exception *diag.Exception `json:"exception"`
	Frames    []diag.Source   `json:"frames"`
	Row       *int64          `json:"row"`
	Values    []diag.Value    `json:"values"`
	Expected  string          `json:"expected"`
	Got       string          `json:"got"`
	Hint      string          `json:"hint"`
	Missing   string          `json:"missing"`
	// PeakBytes is the most memory that the worker had, where it matters.
	PeakBytes int64 `json:"peak_bytes"`
}

// failureCodes says which diagnostic a kind of failure is.
var failureCodes = map[string]diag.Code{
	"raised":  diag.FunctionRaised,
	"refused": diag.RowsRefused,
	"load":    diag.FunctionRaised,
	"type":    diag.WrongResultType,
	"length":  diag.WrongResultLength,
	"module":  diag.ModuleMissing,
	"output":  diag.OutputTooLarge,
	"many":    diag.TooManyErrors,
}

// failureOf makes a diagnostic of what a worker said of a bundle whose first
// row is firstRow. Everything in it is text from a process that is not
// trusted: it is bounded, and nothing is concluded from it but how to show it.
// confined says that the worker is in a sandbox.
func failureOf(stage *exec.FunctionStage, text string, firstRow int64, confined bool) *diag.Diagnostic {
	var f failure
	if len(text) > failureBytesMax || json.Unmarshal([]byte(text), &f) != nil || f.Message == "" {
		return strange(stage, cut(text))
	}
	code, known := failureCodes[f.Error]
	if !known {
		return strange(stage, cut(f.Message))
	}
	call := callOf(stage, f.Call, f.Function)
	d := diag.New(code, "%s", firstLine(cut(f.Message)))
	d.Function = cut(f.Name)
	d.Exception = f.Exception
	if d.Exception != nil {
		d.Exception.Message = cut(d.Exception.Message)
	}
	d.Frames = f.Frames[max(0, len(f.Frames)-framesMax):]
	for i := range d.Frames {
		d.Frames[i].Text = cut(d.Frames[i].Text)
	}
	if f.Row != nil && *f.Row >= 0 {
		d.Row = &diag.Row{Index: firstRow + *f.Row, Values: f.Values[:min(len(f.Values), valuesMax)]}
	}
	if f.Expected != "" && f.Got != "" && !strings.Contains(f.Message, f.Got) {
		d.WithFact("expected %s, got %s", cut(f.Expected), cut(f.Got))
	}
	if f.PeakBytes > 0 {
		d.WithFact("peak memory of the worker %s, limit %s", udfworker.FormatBytes(f.PeakBytes), udfworker.FormatBytes(stage.MemoryBytes))
	}
	d.Hint = cut(f.Hint)
	if d.Hint == "" && confined {
		d.Hint = sandboxHint(f.Exception, stage.Confinement)
	}
	if d.Hint == "" {
		d.Hint = hintOf(&f)
	}
	return d.At(call.Operator, call.Origin)
}

// hintOf is the hint where the worker gave none.
func hintOf(f *failure) string {
	switch f.Error {
	case "type":
		if f.Expected != "" {
			return fmt.Sprintf("return %s, or declare the type that %s returns", f.Expected, f.Name)
		}
	case "length":
		return "return one value for each row; a function that changes the number of rows is a map_batches function"
	case "module":
		if f.Missing != "" {
			return fmt.Sprintf("add it to the function's environment: al.Environment(requirements=[%q])", f.Missing)
		}
	case "load":
		return fmt.Sprintf("%s could not be loaded by the worker's interpreter: compare its Python and packages with the client's", f.Name)
	case "output":
		return "give less at a time, or raise the limit: output_max=\"1GiB\""
	case "many":
		return "mend the function, or allow more: errors_max=100_000"
	case "refused":
		return "look at what it was given: print() or show() its input"
	case "raised":
		if f.Row != nil {
			return fmt.Sprintf("call %s.local(...) with the values of this row", f.Name)
		}
		return fmt.Sprintf("call %s.local(...) on the same data", f.Name)
	}
	return ""
}

// strange is a failure that is the engine's or the harness's fault.
func strange(stage *exec.FunctionStage, cause string) *diag.Diagnostic {
	d := diag.New(diag.Internal, "a Python worker and the engine misunderstood each other while %s ran", functionNames(stage)).
		WithHint("this is a fault of the engine; please report it with the lines above")
	d.Cause = cause
	return d.At(stage.Calls[0].Operator, stage.Calls[0].Origin)
}

// callOf is the call at a place, if that calls function id, or else the first
// that does, or the first.
func callOf(stage *exec.FunctionStage, at int, id string) exec.FunctionCall {
	if at >= 0 && at < len(stage.Calls) && stage.Calls[at].FunctionID == id {
		return stage.Calls[at]
	}
	for _, c := range stage.Calls {
		if c.FunctionID == id {
			return c
		}
	}
	return stage.Calls[0]
}

// functionNames lists a stage's functions as the user knows them.
func functionNames(stage *exec.FunctionStage) string {
	names := functionsOf(stage.Calls)
	if len(names) == 1 {
		return "function " + names[0]
	}
	return "functions " + strings.Join(names, ", ")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// cut bounds a text from a worker.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "�")
	if utf8.RuneCountInString(text) <= textCharsMax {
		return text
	}
	return string([]rune(text)[:textCharsMax-1]) + "…"
}

// workerDied is the diagnostic of the first of the bundles that were begun,
// which is given up.
func workerDied(stage *exec.FunctionStage, begun []*bundle, l *lease, death udfworker.Death) *diag.Diagnostic {
	first := begun[0]
	times := "once"
	if n := len(first.deaths) + first.kills; n > 1 {
		times = fmt.Sprintf("%d times", n)
	}
	names := functionNames(stage)
	d := diag.New(diag.WorkerDied, "%s killed its Python worker %s (%s)", names, times, death)
	switch {
	case death.Kind == udfworker.OverLimit:
		d = diag.New(diag.WorkerTooLarge, "%s needed more memory than its limit of %s (tried %s)", names, udfworker.FormatBytes(death.LimitBytes), times)
	case death.Kind == udfworker.OverScratch:
		d = diag.New(diag.ScratchTooLarge, "%s wrote more temporary files than its worker may hold: %s (tried %s)", names, death.Scratch, times)
	case death.Kind == udfworker.KernelOOM:
		d.Message = fmt.Sprintf("the kernel ended the Python worker of %s %s, for want of memory (%s)", names, times, death.SignalText())
	case death.Kind == udfworker.SupervisorLost:
		d.Message = fmt.Sprintf("the Python worker of %s was lost %s (%s)", names, times, death)
	case l.silent:
		d.Message = fmt.Sprintf("the Python worker of %s lost its connection to the engine %s", names, times)
	case death.Signal == 0:
		d.Message = fmt.Sprintf("%s ended its Python worker %s (%s)", names, times, death)
	}
	if len(stage.Calls) == 1 {
		d.Function = stage.Calls[0].Function.Name
	}
	if first.row >= 0 {
		call := stage.Calls[min(first.call, len(stage.Calls)-1)]
		d.Row = &diag.Row{Index: first.firstRow + first.row, Values: l.session.valuesAt(first, call, first.row)}
		d.Function = call.Function.Name
	} else {
		rowsFact(d, first, begun[len(begun)-1])
	}
	workerFact(d, l.worker)
	d.Facts = append(d.Facts, death.Facts()...)
	d.Cause = death.LastWords(outputLinesMax)
	d.Hint = deathHint(death)
	if l.silent && death.Kind != udfworker.OverLimit && death.Kind != udfworker.OverScratch {
		d.Hint = "the function, or a library that it calls, closed descriptors that are not its own (os.closerange does that)"
	}
	return d.At(stage.Calls[0].Operator, stage.Calls[0].Origin)
}

func deathHint(death udfworker.Death) string {
	switch {
	case death.Kind == udfworker.OverLimit:
		return "raise the limit (memory=\"4GiB\"), or hold less at a time: a smaller batch_rows="
	case death.Kind == udfworker.OverScratch:
		return "delete files when they are done with, or write to a folder that the function is given: mounts={\"/data\": \"rw\"}"
	case death.Kind == udfworker.KernelOOM, death.ProbablyKernel():
		return "the machine has too little memory for this: a smaller batch_rows= or fewer workers= hold less at a time"
	case death.Kind == udfworker.SupervisorLost:
		return "something ended the engine's worker-pool process; the system's log may say what"
	case death.Signal == int(syscall.SIGKILL):
		return "if the function did not do it, look for what ends the engine's processes; the kernel's log tells whether memory was short"
	case death.Signal == int(syscall.SIGSEGV), death.Signal == int(syscall.SIGBUS), death.Signal == int(syscall.SIGILL),
		death.Signal == int(syscall.SIGFPE), death.Signal == int(syscall.SIGABRT):
		return "this is a fault in native code: run the function on these rows with python -X faulthandler, and update the library that it names"
	case death.Signal != 0:
		return "look for what sends this signal to the engine's processes"
	default:
		return "the function, or a library that it calls, ended the process (os._exit does that): raise an exception instead"
	}
}
