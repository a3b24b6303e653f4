//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// layersOf are the layers that a level adds, in the order in which they are
// put on.
var layersOf = map[Level][]string{
	L1: {layerLimits, layerCapabilities, layerPrivileges, layerLandlock, layerSeccomp},
	L2: {layerUser, layerProcesses, layerMounts, layerProc},
}

// Probe finds what this machine offers by starting a process in all layers,
// and once more without namespaces where that fails. It takes some
// milliseconds. Nobody else may reap children of this process meanwhile.
func Probe() Report {
	type trial struct {
		told findings
		err  error
	}
	try := func(level Level) (t trial) {
		if levelMax() < level {
			return trial{err: &Error{Layer: layersOf[level][0], Text: LevelMaxVariable + " forbids it"}}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // the trial dies with its thread
			defer runtime.UnlockOSThread()
			t.told, t.err = tryLevel(level)
		}()
		<-done
		return t
	}
	var report Report
	second := try(L2)
	first := second
	if second.err != nil {
		if first = try(L1); first.err == nil {
			report.Level = L1
		}
	} else {
		report.Level = L2
	}
	report.Layers = append(layers(L1, first.told, first.err), layers(L2, second.told, second.err)...)
	return report
}

// tryLevel starts a process that ends at once.
func tryLevel(level Level) (findings, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return findings{}, err
	}
	defer null.Close()
	process, told, err := start(confinement{Spec: Spec{Level: level, Dir: "/"}, trial: true, stdin: null.Fd(), stdout: null.Fd()}, alone)
	if err != nil || process.PID == 0 { // at L1 it ends without having become a program
		return told, err
	}
	wait := func(pid int) (status syscall.WaitStatus) {
		for {
			if _, err := syscall.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
				return status
			}
		}
	}
	status := wait(process.PID)
	if process.End != nil {
		_ = process.End.Close() // ends the namespace
		wait(process.Reaper)
	}
	if !status.Exited() || status.ExitStatus() != 0 {
		return told, &Error{Layer: LayerProgram, Text: fmt.Sprintf("a program ended with wait status %#x", status)}
	}
	return told, nil
}

// layers describes a level's layers by what a trial told.
func layers(level Level, told findings, err error) []Layer {
	failed, _ := errors.AsType[*Error](err)
	if failed == nil && err != nil {
		failed = &Error{Layer: layerHelper, Text: err.Error()}
	}
	var list []Layer
	for _, name := range layersOf[level] {
		l := Layer{Name: name, Level: level, OK: err == nil || slices.Contains(told.layers, name)}
		switch {
		case failed != nil && failed.Layer == name:
			l.Reason = strings.TrimPrefix(failed.Error(), "sandbox: "+name+": ")
		case !l.OK:
			l.Reason = "not tried, since what comes before it failed"
		}
		if i := slices.IndexFunc(told.notes, func(e Error) bool { return e.Layer == name }); i >= 0 {
			l.OK, l.Reason = false, told.notes[i].Text
		}
		if name == layerLandlock {
			if abi, err := landlockABI(); err == nil {
				l.Value = fmt.Sprintf("ABI %d", abi)
				if abi < landlockScopes && l.Reason == "" {
					l.Reason = "signals to processes of the same user are covered from ABI 6"
				}
			}
		}
		if !l.OK {
			l.Remedy = remedy(name, l.Reason)
		}
		list = append(list, l)
	}
	if failed != nil && !slices.Contains(layersOf[L1], failed.Layer) && !slices.Contains(layersOf[L2], failed.Layer) {
		list = append(list, Layer{Name: failed.Layer, Level: level, Reason: failed.Text})
	}
	return list
}

// remedy says how to get a layer that is missing.
func remedy(layer, reason string) string {
	switch {
	case strings.Contains(reason, LevelMaxVariable):
		return "unset " + LevelMaxVariable
	case layer == layerUser && strings.Contains(reason, unix.ENOSPC.Error()):
		return "raise user.max_user_namespaces (sysctl)"
	case layer == layerUser:
		return "allow user namespaces: kernel.unprivileged_userns_clone=1, or a container's seccomp profile that lets them"
	case layer == layerMounts || layer == layerProcesses:
		return "user namespaces are there but give no rights: an AppArmor profile for pyrunner, or kernel.apparmor_restrict_unprivileged_userns=0"
	case layer == layerLandlock:
		return "a kernel from 5.13 with landlock among the modules of lsm="
	}
	return ""
}
