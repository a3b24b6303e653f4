//go:build !linux

package main

const linuxOnly = "only Linux has it"

func machineFindings() []finding { return nil }

func watchFinding() finding { return finding{Name: "watch", Reason: linuxOnly} }

func shmFinding() finding { return finding{Name: "shared memory", Reason: linuxOnly} }

func freeSpace(name, dir string) finding { return finding{Name: name, OK: true, Value: dir} }
