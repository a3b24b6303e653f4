//go:build unix && !linux

package cgroup

import "syscall"

const (
	errBusy = syscall.EBUSY
	errGone = syscall.ESRCH
)

// system has no control groups here.
func system() tree { return nil }

// Fork calls fork; no Group is ever made here.
func (g *Group) Fork(_ *syscall.SysProcAttr, fork func() error) error { return fork() }

// OnLimit does nothing here.
func (g *Group) OnLimit(func()) error { return nil }

func uniqueName() string { return "" }
