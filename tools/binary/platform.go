package main

import (
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// provided are the libraries that every system with glibc has, and with it
// every Python that installs manylinux wheels. libgcc_s stays among them:
// linked statically, it asks for glibc 2.35 instead of 2.34 (GCC 12), and
// pyarrow needs that of the system anyway.
var provided = []string{
	"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2",
	"libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
}

var architectures = map[elf.Machine]string{
	elf.EM_X86_64:  "x86_64",
	elf.EM_AARCH64: "aarch64",
}

// platformTag gives the platform tag of a wheel with the binary inside: the
// oldest glibc that has every symbol the binary asks for.
func platformTag(path string) (string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("wheels are made for Linux only: %w", err)
	}
	defer func() { _ = file.Close() }()
	architecture, known := architectures[file.Machine]
	if !known {
		return "", fmt.Errorf("wheels are made for x86-64 and ARM64, not for %v", file.Machine)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return "", err
	}
	for _, library := range libraries {
		if strings.Contains(library, "musl") {
			return "", fmt.Errorf("the binary is linked with musl; DuckDB's libraries need glibc: build on a system with glibc")
		}
		if !slices.Contains(provided, library) {
			return "", fmt.Errorf("the binary needs %s, which other machines may not have in this version", library)
		}
	}
	needs, err := file.DynamicVersionNeeds()
	if err != nil {
		return "", err
	}
	var versions []string
	for _, need := range needs {
		for _, dep := range need.Needs {
			versions = append(versions, dep.Dep)
		}
	}
	minor, err := glibcMinor(versions)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("manylinux_2_%d_%s", minor, architecture), nil
}

// glibcMinor gives the y of the highest GLIBC_2.y among versions of symbols.
func glibcMinor(versions []string) (int, error) {
	highest := 0
	for _, version := range versions {
		rest, ours := strings.CutPrefix(version, "GLIBC_")
		if !ours {
			continue
		}
		major, minor, _ := strings.Cut(rest, ".")
		minor, _, _ = strings.Cut(minor, ".") // GLIBC_2.2.5
		number, err := strconv.Atoi(minor)
		if err != nil || major != "2" {
			return 0, fmt.Errorf("the binary needs %s, which no tag of a wheel stands for", version)
		}
		highest = max(highest, number)
	}
	if highest == 0 {
		return 0, fmt.Errorf("the binary needs no glibc: it was built without DuckDB (CGO_ENABLED=0)")
	}
	return highest, nil
}
