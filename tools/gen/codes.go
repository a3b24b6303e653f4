package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
)

// codesSource is where the names of the codes stand; package diag itself has
// only their values at run time.
const codesSource = "diag/codes.go"

func renderCodes() ([]byte, error) {
	names, err := codeNames()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("\"\"\"The codes of diagnostics, as the engine documents them.\"\"\"\n\nfrom __future__ import annotations\n\n")
	for _, entry := range diag.Entries {
		name, ok := names[string(entry.Code)]
		if !ok {
			return nil, fmt.Errorf("%s has no constant for code %s", codesSource, entry.Code)
		}
		fmt.Fprintf(&b, "%s = %s\n", name, quote(string(entry.Code)))
	}
	b.WriteString("\n# Code -> (name of the exception class, summary).\nCODES: dict[str, tuple[str, str]] = {\n")
	for _, entry := range diag.Entries {
		for _, line := range []string{
			fmt.Sprintf("    %s: (", names[string(entry.Code)]),
			fmt.Sprintf("        %s,", quote(entry.Class)),
			fmt.Sprintf("        %s,", quote(entry.Summary)),
			"    ),",
		} {
			if utf8.RuneCountInString(line) > lineMax {
				return nil, fmt.Errorf("the summary of %s makes a line longer than %d characters", entry.Code, lineMax)
			}
			b.WriteString(line + "\n")
		}
	}
	b.WriteString("}\n")
	return b.Bytes(), nil
}

// codeNames reads the constants of type Code: value to Python name.
func codeNames() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), codesSource, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant := spec.(*ast.ValueSpec)
			if typ, ok := constant.Type.(*ast.Ident); !ok || typ.Name != "Code" || len(constant.Values) != 1 {
				continue
			}
			literal, ok := constant.Values[0].(*ast.BasicLit)
			if !ok {
				return nil, fmt.Errorf("%s: constant %s is not a literal", codesSource, constant.Names[0].Name)
			}
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				return nil, err
			}
			names[value] = upperSnake(constant.Names[0].Name)
		}
	}
	return names, nil
}

// upperSnake turns UnknownColumn into UNKNOWN_COLUMN.
func upperSnake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
