//go:build !linux

package main

import (
	"context"
	"errors"
)

const linuxOnly = "only Linux has it"

func machineFindings() []finding { return nil }

func sandboxFindings(context.Context) []finding {
	return []finding{
		{Name: "user namespaces", Reason: linuxOnly},
		{Name: "Landlock", Reason: linuxOnly},
		{Name: "seccomp", Reason: linuxOnly},
	}
}

func probeInNamespaces() error { return errors.New(linuxOnly) }

func watchFinding() finding { return finding{Name: "watch", Reason: linuxOnly} }

func shmFinding() finding { return finding{Name: "shared memory", Reason: linuxOnly} }

func freeSpace(name, dir string) finding { return finding{Name: name, OK: true, Value: dir} }
