package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Step is what a checkpoint keeps of a step of its plan: what must not change
// when a job goes on from it.
type Step struct {
	Op string `json:"op"`
	// Args are JSON texts by the name of the argument.
	Args map[string]string `json:"args"`
}

// mutable are the arguments that may change between two runs of a job, by op.
var mutable = map[string][]string{
	Generate{}.Name():     {"rows_per_second", "batch_rows"},
	WriteParquet{}.Name(): {"mode", "checkpoint", "folder", "compression"},
}

// Steps are the steps of a plan: its nodes, then its functions. The code of a
// function may change, so that a mistake in it can be mended; its name, kind
// and types may not.
func Steps(p *Plan) []Step {
	places := map[string]int{}
	steps := make([]Step, 0, len(p.Nodes)+len(p.Functions))
	for i, n := range p.Nodes {
		places[n.ID] = i + 1
		step := Step{Op: n.Op.Name(), Args: map[string]string{}}
		var args map[string]json.RawMessage
		if err := json.Unmarshal(encoded(n.Op), &args); err != nil {
			panic(err) // every op is a JSON object
		}
		for name, value := range args {
			if !slices.Contains(mutable[step.Op], name) {
				step.Args[name] = string(value)
			}
		}
		if w, ok := n.Op.(WriteParquet); ok && w.Checkpoint != nil {
			step.Args["name"] = string(encoded(w.Checkpoint.Name))
		}
		inputs := make([]int, len(n.Inputs))
		for j, id := range n.Inputs {
			inputs[j] = places[id]
		}
		step.Args["inputs"] = string(encoded(inputs))
		steps = append(steps, step)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Functions)) {
		f := p.Functions[id]
		steps = append(steps, Step{Op: "function " + f.Name, Args: map[string]string{
			"kind": string(encoded(f.Kind)), "result": string(encoded(f.Result)), "schema": string(encoded(f.Schema)),
		}})
	}
	return steps
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of what JSON has
	}
	return b
}

// Difference says in which step two plans differ first; "" if they do not.
func Difference(was, is []Step) string {
	for i := range min(len(was), len(is)) {
		if was[i].Op != is[i].Op {
			return fmt.Sprintf("step %d was %s, is %s", i+1, was[i].Op, is[i].Op)
		}
		names := maps.Clone(was[i].Args)
		maps.Copy(names, is[i].Args)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if a, b := was[i].Args[name], is[i].Args[name]; a != b {
				return fmt.Sprintf("step %d, %s: %s was %s, is %s", i+1, is[i].Op, name, shown(a), shown(b))
			}
		}
	}
	switch {
	case len(was) > len(is):
		return fmt.Sprintf("step %d was %s, is gone", len(is)+1, was[len(is)].Op)
	case len(was) < len(is):
		return fmt.Sprintf("step %d is new: %s", len(was)+1, is[len(was)].Op)
	}
	return ""
}

// shown cuts an argument for a message.
func shown(arg string) string {
	const shownMax = 120
	switch runes := []rune(arg); {
	case arg == "":
		return "not given"
	case len(runes) > shownMax:
		return string(runes[:shownMax]) + "…"
	}
	return arg
}
