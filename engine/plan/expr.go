package plan

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Expr is an expression over the columns of a node's input. Exactly one of
// Column, Literal, SQL, Op and Call is set. In JSON:
//
//	{"column": "x"}                      a column, by its exact name
//	{"literal": {"type": "bigint", "value": 5}}
//	{"sql": "dep_delay > 3"}             one SQL expression
//	{"op": "+", "args": […]}             an operator of Operators
//	{"call": "f1", "args": […]}          a Python function of the plan
type Expr struct {
	Column  *string  `json:"column,omitempty"`
	Literal *Literal `json:"literal,omitempty"`
	SQL     string   `json:"sql,omitempty"`
	Op      string   `json:"op,omitempty"`
	Call    string   `json:"call,omitempty"`
	// Args are the arguments of Op or Call.
	Args []Expr `json:"args,omitempty"`
	// Type is the target of the operator "cast".
	Type string `json:"type,omitempty"`
}

// Literal is a typed constant. Value is null, a JSON boolean, number or
// string; decimals, dates, times and timestamps are strings in SQL's form,
// binary is a string of hexadecimal digits, integers beyond 2^53 and
// non-finite doubles ("NaN", "Infinity", "-Infinity") are strings too.
type Literal struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// Operators maps each operator of an Expr to its number of operands. "in" has
// one operand or more after the first, shown as -1.
var Operators = map[string]int{
	"+": 2, "-": 2, "*": 2, "/": 2, "%": 2, "neg": 1,
	"=": 2, "<>": 2, "<": 2, "<=": 2, ">": 2, ">=": 2,
	"and": 2, "or": 2, "not": 1,
	"is_null": 1, "is_not_null": 1, "in": -1, "cast": 1,
}

// Column is a reference to a column.
func Column(name string) Expr { return Expr{Column: &name} }

// SQL is an expression given as text.
func SQL(text string) Expr { return Expr{SQL: text} }

// Apply is an operator applied to operands.
func Apply(op string, args ...Expr) Expr { return Expr{Op: op, Args: args} }

// Call is a Python function applied to arguments.
func Call(function string, args ...Expr) Expr { return Expr{Call: function, Args: args} }

// Cast converts an expression to a type, given as a type string.
func Cast(e Expr, typ string) Expr { return Expr{Op: "cast", Args: []Expr{e}, Type: typ} }

// Lit is a literal of a Go value: nil, bool, int64, float64 or string.
func Lit(value any) Expr {
	typ := map[bool]string{true: "null"}[value == nil]
	switch value.(type) {
	case bool:
		typ = "boolean"
	case int, int64:
		typ = "bigint"
	case float64:
		typ = "double"
	case string:
		typ = "string"
	}
	if typ == "" {
		panic(fmt.Sprintf("plan.Lit: a literal cannot be made of a %T", value))
	}
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("plan.Lit: %v", err))
	}
	return Expr{Literal: &Literal{Type: typ, Value: raw}}
}

// Fold gives the form of a name in which names are compared: SQL disregards
// the case of ASCII letters.
func Fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// HasCall reports whether e applies a Python function anywhere.
func (e Expr) HasCall() bool {
	if e.Call != "" {
		return true
	}
	for _, arg := range e.Args {
		if arg.HasCall() {
			return true
		}
	}
	return false
}

// String writes e as SQL, for whoever looks at a plan.
func (e Expr) String() string {
	args := make([]string, len(e.Args))
	for i, arg := range e.Args {
		args[i] = arg.String()
	}
	switch {
	case e.Column != nil:
		return *e.Column
	case e.Literal != nil:
		return string(e.Literal.Value)
	case e.SQL != "":
		return e.SQL
	case e.Call != "" || e.Op == Perhaps:
		return e.Call + e.Op + "(" + strings.Join(args, ", ") + ")"
	case e.Op == "cast":
		return "cast(" + args[0] + " as " + e.Type + ")"
	case e.Op == "in":
		return args[0] + " in (" + strings.Join(args[1:], ", ") + ")"
	case e.Op == "and":
		return args[0] + " and " + args[1]
	case len(args) == 2:
		return "(" + args[0] + " " + e.Op + " " + args[1] + ")"
	}
	return e.Op + "(" + args[0] + ")"
}
