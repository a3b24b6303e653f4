package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/python"
	"github.com/alink-runtime/alink/udfworker"
)

// engineCommand and workerPoolCommand are what programs of ours start; run
// handles them without this tree when they have no arguments.
func (c *cli) engineCommand() *cobra.Command {
	return &cobra.Command{
		Use: "engine", Short: "The engine of one Python client (started by the client)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			if status := runEngine(c.stdin, c.stdout, c.stderr); status != exitDone {
				return exitError{status}
			}
			return nil
		},
	}
}

func (c *cli) workerPoolCommand() *cobra.Command {
	var listen, interpreter string
	command := &cobra.Command{
		Use: "worker-pool", Short: "The supervisor of workers, for an engine or for a runner of Beam", Args: cobra.NoArgs,
		Long: "Without --listen it is what an engine starts. With --listen it serves Beam's external worker pool:\n" +
			"a runner of Beam (environment beam:env:external:v1) starts workers through it that run Alink's functions.\n" +
			"Whoever reaches it can run programs as this user, so it listens on a unix socket or on loopback only.",
		RunE: func(command *cobra.Command, _ []string) error {
			if listen == "" {
				return udfworker.ServeSupervisor()
			}
			return c.servePool(command.Context(), listen, interpreter)
		},
	}
	command.Flags().StringVar(&listen, "listen", "", "serve Beam's external worker pool at unix:PATH or localhost:PORT")
	command.Flags().StringVar(&interpreter, "python", "", "the Python of its workers, with pyarrow and grpcio (default: the active environment's)")
	return command
}

// servePool serves Beam's external worker pool until the context ends.
func (c *cli) servePool(ctx context.Context, listen, interpreter string) error {
	path, err := findPython(interpreter)
	if err != nil {
		return err
	}
	harness, err := os.MkdirTemp("", "alink-harness-")
	if err != nil {
		return fmt.Errorf("make a folder for the worker's program: %w", err)
	}
	defer func() { _ = os.RemoveAll(harness) }()
	if err := python.WriteHarness(harness); err != nil {
		return err
	}
	return udfworker.ServeExternal(ctx, udfworker.ExternalOptions{
		Listen: listen, Interpreter: path, Harness: harness, Log: c.stderr,
		Listening: func(address string) { fmt.Fprintln(c.stdout, "listening on", address) },
	})
}
