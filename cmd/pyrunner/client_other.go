//go:build !linux

package main

import "context"

// watchClient does nothing: the pipe tells enough.
func watchClient(embedded, context.CancelFunc) error { return nil }
