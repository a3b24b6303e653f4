//go:build !linux

package main

// signalKeysOff does nothing: the line editor does it, shortly after the prompt
// can be seen.
func signalKeysOff() (restore func()) { return func() {} }
