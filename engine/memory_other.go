//go:build !linux

package engine

// machineMemoryBytes is what is assumed where the machine does not tell.
func machineMemoryBytes() int64 { return 4 << 30 }
