//go:build unix && !linux

package udfworker

// procProcesses cannot tell anything here: limits of memory hold on Linux only.
type procProcesses struct{}

func (procProcesses) tree(pid int) []int { return []int{pid} }

func (procProcesses) born() string { return "" }

func (procProcesses) resident(int) int64 { return 0 }

func (procProcesses) held(int) int64 { return 0 }

func (procProcesses) temporary(int) int64 { return 0 }

func childrenOf(int) []int { return nil }

func (*scratchUse) deleted(int) {}

func kernelKills() (int64, bool) { return 0, false }

func machineBytes() int64 { return 0 }
