package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alink-runtime/alink/config"
)

// renderSettings writes the keys of the settings for the client.
func renderSettings() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("\"\"\"The settings that client, engine and command line share.\"\"\"\n\nfrom __future__ import annotations\n\n")
	b.WriteString("# Name -> (variable, kind, choices).\nSETTINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {\n")
	for _, k := range config.Keys {
		var choices []string
		for _, c := range k.Choices {
			choices = append(choices, quote(c))
		}
		fmt.Fprintf(&b, "    %s: (%s, %s, (%s)),\n", quote(k.Name), quote(k.Variable), quote(string(k.Kind)), strings.Join(choices, ", "))
	}
	b.WriteString("}\n")
	fmt.Fprintf(&b, "PARALLELISM_MAX = %d\n", config.ParallelismMax)
	return b.Bytes(), nil
}
