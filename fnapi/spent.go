package fnapi

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
)

// Bounds on what a worker says of its time, which it could make up.
const (
	spentMax       = 365 * 24 * time.Hour
	importsMax     = 1024
	importNameMax  = 128
	importBytesMax = 256 << 10
	// profileBytesMax bounds the samples of one bundle.
	profileBytesMax = 16 << 20
)

// functionsOf are the names of the functions that are called, each once.
func functionsOf(calls []exec.FunctionCall) (names []string) {
	for _, call := range calls {
		if !slices.Contains(names, call.Function.Name) {
			names = append(names, call.Function.Name)
		}
	}
	return names
}

// readSpent reads where a worker's time has gone for a bundle of these functions.
// What is not sound, or from a worker of another kind, is left out: it is only
// looked at.
func readSpent(names []string, data map[string][]byte) (w exec.Work) {
	spent := data[spentKey]
	if len(spent) != 8*(1+2*len(names)) {
		return w
	}
	next := func() time.Duration {
		ns := time.Duration(binary.NativeEndian.Uint64(spent))
		spent = spent[8:]
		return min(max(0, ns), spentMax)
	}
	w.Load = next()
	w.Functions = make([]exec.FunctionTime, 0, len(names))
	for _, name := range names {
		w.Functions = append(w.Functions, exec.FunctionTime{Name: name, Python: next(), Conversion: next()})
	}
	w.Imports = readImports(data[importsKey])
	return w
}

func readImports(text []byte) map[string]time.Duration {
	if len(text) == 0 || len(text) > importBytesMax {
		return nil
	}
	var imports map[string]time.Duration
	if json.Unmarshal(text, &imports) != nil || len(imports) > importsMax {
		return nil
	}
	for name, took := range imports {
		if len(name) > importNameMax || took < 0 || took > spentMax {
			return nil
		}
	}
	return imports
}

// readProfile reads samples of stacks, as readSpent does.
func readProfile(text []byte) map[string]int64 {
	if len(text) > profileBytesMax {
		return nil
	}
	var us map[string]int64
	if json.Unmarshal(text, &us) != nil {
		return nil
	}
	for _, took := range us {
		if took < 0 || took > spentMax.Microseconds() {
			return nil
		}
	}
	return us
}
