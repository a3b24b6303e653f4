package main

import (
	"github.com/spf13/cobra"

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
	return &cobra.Command{
		Use: "worker-pool", Short: "The supervisor of workers (started by the engine)", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return udfworker.ServeSupervisor() },
	}
}
