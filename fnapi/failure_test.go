package fnapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/grant"
)

func TestFailures(t *testing.T) {
	stage := newStage(exec.StageColumns, "")
	stage.Calls = append(stage.Calls, exec.FunctionCall{
		Function: &plan.Function{Name: "other"}, FunctionID: "f2", Operator: "select", Origin: &diag.Source{File: "job.py", Line: 9},
	})
	long := strings.Repeat("x", failureBytesMax)
	for name, test := range map[string]struct {
		text string
		code diag.Code
		line int      // of the call
		want []string // in the rendered text
	}{
		"raised": {
			`{"error":"raised","function":"f2","name":"other","message":"other raised KeyError: 'a'","exception":{"module":"builtins","type":"KeyError","message":"'a'"},"row":3}`,
			diag.FunctionRaised, 9,
			[]string{"ALK2001: other raised KeyError: 'a'", "row 103", "hint: call other.local(...) with the values of this row"},
		},
		"refused": {
			`{"error":"refused","function":"f1","name":"made_up","message":"made_up: 'x' is NULL"}`,
			diag.RowsRefused, 7,
			[]string{"ALK2035: made_up: 'x' is NULL"},
		},
		"raised in a vectorised function": {
			`{"error":"raised","function":"f1","name":"made_up","message":"made_up raised ValueError: no\nmore"}`,
			diag.FunctionRaised, 7,
			[]string{"ALK2001: made_up raised ValueError: no\n", "on the same data"},
		},
		"type": {
			`{"error":"type","function":"f1","name":"made_up","message":"made_up returned a string where a number belongs","expected":"double","got":"'abc' (str)","row":0,"values":[{"name":"x","repr":"1.0"}]}`,
			diag.WrongResultType, 7,
			[]string{"ALK2002", "row 100: x=1.0", "expected double, got 'abc' (str)", "hint: return double"},
		},
		"length": {
			`{"error":"length","function":"f1","name":"made_up","message":"made_up returned 2 values for 3 rows","hint":"mind the filter"}`,
			diag.WrongResultLength, 7,
			[]string{"ALK2003", "hint: mind the filter"},
		},
		"module": {
			`{"error":"module","function":"f1","name":"made_up","message":"made_up needs the module cowsay","missing":"cowsay"}`,
			diag.ModuleMissing, 7,
			[]string{"ALK2006", `al.Environment(requirements=["cowsay"])`},
		},
		"load": {
			`{"error":"load","function":"f1","name":"made_up","message":"made_up could not be loaded"}`,
			diag.FunctionRaised, 7,
			[]string{"ALK2001", "compare its Python"},
		},
		"protocol":          {`{"error":"protocol","message":"no such coder"}`, diag.Internal, 7, []string{"ALK5003", "functions made_up, other", "because: no such coder"}},
		"an unknown kind":   {`{"error":"surprise","message":"boo"}`, diag.Internal, 7, []string{"boo"}},
		"not JSON":          {`Traceback`, diag.Internal, 7, []string{"because: Traceback"}},
		"no message":        {`{"error":"raised"}`, diag.Internal, 7, nil},
		"too long":          {`{"error":"raised","message":"` + long + `"}`, diag.Internal, 7, nil},
		"a row below zero":  {`{"error":"raised","function":"f1","name":"made_up","message":"m","row":-5}`, diag.FunctionRaised, 7, []string{"ALK2001: m"}},
		"another's message": {`{"error":"raised","function":"f9","name":"made_up","message":"m \ufffd"}`, diag.FunctionRaised, 7, []string{"m �"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := failureOf(stage, test.text, 100, true)
			text := d.Render()
			if d.Code != test.code || d.Source.Line != test.line || d.Hint == "" {
				t.Errorf("%+v", d)
			}
			for _, want := range test.want {
				if !strings.Contains(text+"\n", want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			if len(d.JSON()) > 10*textCharsMax {
				t.Errorf("%d bytes", len(d.JSON()))
			}
		})
	}
}

// What a worker says is bounded, part by part.
func TestFailureBounds(t *testing.T) {
	part := `{"file":"a.py","line":1,"text":"` + strings.Repeat("é", 2*textCharsMax) + `"}`
	frames := strings.TrimSuffix(strings.Repeat(part+",", 2*framesMax), ",")
	values := strings.TrimSuffix(strings.Repeat(`{"name":"x","repr":"1"},`, 2*valuesMax), ",")
	text := fmt.Sprintf(`{"error":"raised","message":%q,"row":0,"frames":[%s],"values":[%s]}`, strings.Repeat("m", 2*textCharsMax), frames, values)
	if len(text) > failureBytesMax {
		t.Fatalf("the test's text has %d bytes", len(text))
	}
	d := failureOf(newStage(exec.StageColumns, ""), text, 0, true)
	if len(d.Frames) != framesMax || len(d.Row.Values) != valuesMax || len([]rune(d.Message)) != textCharsMax || len([]rune(d.Frames[0].Text)) != textCharsMax {
		t.Errorf("%d frames, %d values, message of %d", len(d.Frames), len(d.Row.Values), len(d.Message))
	}
}

func TestHintsOfTheSandbox(t *testing.T) {
	c := plan.Confinement{Mounts: []grant.Mount{{Path: "/data"}, {Path: "/out", Write: true}}}
	for _, test := range []struct{ kind, message, says string }{
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/srv/x/y.csv'", `does not show /srv/x/y.csv to functions: mounts={"/srv/x": "ro"}`},
		{"PermissionError", "[Errno 13] Permission denied: '/srv/y.csv'", `mounts={"/srv": "ro"}`},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/lone'", `mounts={"/lone": "ro"}`},
		{"OSError", "[Errno 30] Read-only file system: '/data/x'", `mounts={"/data": "rw"}`},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/data/x'", ""},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/out/x'", ""},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/tmp/x/y'", `mounts={"/tmp/x": "ro"}`},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/dev/shm/y'", ""},
		{"FileNotFoundError", "[Errno 2] No such file or directory: 'x'", ""},
		{"PermissionError", "[Errno 13] Permission denied", "network=True"},
		{"gaierror", "[Errno -3] Temporary failure in name resolution", "network=True"},
		{"requests.exceptions.ConnectionError", "no", "network=True"},
		{"ValueError", "x", ""},
	} {
		got := sandboxHint(&diag.Exception{Type: test.kind, Message: test.message}, c)
		if test.says == "" && got != "" || !strings.Contains(got, test.says) {
			t.Errorf("%s: %s: %q", test.kind, test.message, got)
		}
	}
	c.Network = true
	if got := sandboxHint(&diag.Exception{Type: "gaierror"}, c); got != "" {
		t.Errorf("with a network: %q", got)
	}
}
