package sandbox

import (
	"fmt"
	"os"

	"github.com/alink-runtime/alink/grant"
)

// Spec is a process to shut in.
type Spec struct {
	Level Level
	// Argv[0] is the absolute path of the program, Env its whole environment,
	// Dir the folder that it starts in.
	Argv []string
	Env  []string
	Dir  string
	// Visible are files and folders that it sees besides the system's own,
	// Optional those that may be missing. All are for reading, with what lies
	// below them.
	Visible  []string
	Optional []string
	// Writable are those that it may write.
	Writable []string
	// Mounts are what the policy grants.
	Mounts []grant.Mount
	// Network leaves it the machine's network.
	Network bool
	Limits  Limits
	// DenyUnmapped denies memory that no process need map (memfd_create, System
	// V segments): where only a watch counts memory, it would miss that.
	DenyUnmapped bool
}

// Limits bound what a process may use; 0 is no limit.
type Limits struct {
	// ScratchBytes is the size of each of its temporary file systems, at L2,
	// and ScratchFiles the number of files there.
	ScratchBytes int64
	ScratchFiles int64
	// FileBytes is the size of a file that it writes.
	FileBytes int64
	// OpenFiles are the descriptors of each of its processes.
	OpenFiles int64
	// Processes counts processes and threads. It is kept where the worker has a
	// user namespace of its own; elsewhere it would count all of its user's.
	Processes int64
	// DataBytes bounds anonymous private memory of each process: a backstop.
	DataBytes int64
}

// Process is a process that was started.
type Process struct {
	// PID is its number, Reaper that of process 1 of its namespace, or 0. Both
	// are children of the caller's.
	PID, Reaper int
	// End ends the namespace, and every process in it, when it is closed; nil
	// where there is none. The end of the caller closes it too.
	End *os.File
}

// Names of layers, as an Error and a Report have them.
const (
	layerHelper       = "helper process"
	layerUser         = "user namespace"
	layerMounts       = "mount namespace"
	layerProcesses    = "pid namespace"
	layerProc         = "private /proc"
	layerLimits       = "resource limits"
	layerCapabilities = "capabilities"
	layerPrivileges   = "no_new_privs"
	layerLandlock     = "Landlock"
	layerSeccomp      = "seccomp"
	layerRoom         = "folder of a worker"

	// LayerProgram is no layer: the program itself could not be started.
	LayerProgram = "program"
)

// Scratch is the folder for temporary files of a process at L2: a file system
// of its own.
const Scratch = "/tmp"

// Error says which layer could not be put on.
type Error struct {
	// Layer is what was being done: "user namespace", "mounts" …
	Layer string
	// Path is the file or folder that it is about, or "".
	Path string
	// Missing says that Path does not exist.
	Missing bool
	Text    string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("sandbox: %s: %s: %s", e.Layer, e.Path, e.Text)
	}
	return fmt.Sprintf("sandbox: %s: %s", e.Layer, e.Text)
}
