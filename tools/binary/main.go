// Command binary builds the engine's binary as it is used and as it ships,
// from the repository's root:
//
//	go run ./tools/binary -o FILE           build it
//	go run ./tools/binary -o FILE -ship -notices FILE
//	                                        build it for a wheel: print the wheel's
//	                                        platform tag, write the notices of all
//	                                        that is linked in
//	go run ./tools/binary -check            fail if a module that is linked in has
//	                                        no licence, or NOTICE does not name it
//
// libstdc++ is linked statically: DuckDB would otherwise tie the binary to the
// one of the machine it was built on.
package main

import (
	"flag"
	"fmt"
	"os"
)

const target = "./cmd/pyrunner"

func main() {
	goCommand := flag.String("go", "go", "the Go `command`")
	output := flag.String("o", "", "build the binary to `FILE`")
	ship := flag.Bool("ship", false, "fail if the binary would not run on other machines; print the platform tag of its wheel")
	notices := flag.String("notices", "", "write the notices of all that is linked in to `FILE`")
	check := flag.Bool("check", false, "build nothing; check the notices")
	flag.Parse()
	if err := run(*goCommand, *output, *ship, *notices, *check); err != nil {
		fmt.Fprintln(os.Stderr, "binary:", err)
		os.Exit(1)
	}
}

func run(goCommand, output string, ship bool, notices string, check bool) error {
	if flag.NArg() > 0 || (output == "") == !check {
		return fmt.Errorf("usage: go run ./tools/binary -o FILE [-ship] [-notices FILE] | -check")
	}
	tool := toolchain{command: goCommand}
	if check {
		return checkNotices(tool, "NOTICE")
	}
	if err := build(tool, output, ship); err != nil {
		return err
	}
	if notices != "" {
		if err := writeNotices(tool, notices); err != nil {
			return err
		}
	}
	if !ship {
		return nil
	}
	tag, err := platformTag(output)
	if err != nil {
		return err
	}
	fmt.Println(tag)
	return nil
}
