//go:build !linux

package engine

// heldBytes and roomBytes cannot be told here, so the guard never acts.
func heldBytes() int64 { return 0 }

func roomBytes() int64 { return 0 }

// foreignBytes cannot be told here.
func foreignBytes() int64 { return 0 }

// machineMemoryBytes is what is assumed where the machine does not tell.
func machineMemoryBytes() int64 { return 4 << 30 }
