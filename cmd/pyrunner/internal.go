package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/grant"
	"github.com/alink-runtime/alink/python"
	"github.com/alink-runtime/alink/server"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
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
	var listen, interpreter, clientCA string
	var memory sizeValue
	var mounts []string
	var network bool
	command := &cobra.Command{
		Use: "worker-pool", Short: "The supervisor of workers, for an engine or for a runner of Beam", Args: cobra.NoArgs,
		Long: "Without --listen it is what an engine starts. With --listen it serves Beam's external worker pool:\n" +
			"a runner of Beam (environment beam:env:external:v1) starts workers through it that run Alink's functions.\n" +
			"Whoever reaches it can run programs as this user: on a unix socket that is this user alone, on\n" +
			"loopback any user of the machine, on other addresses whoever shows a certificate that --client-ca\n" +
			"has signed.",
		RunE: func(command *cobra.Command, _ []string) error {
			if listen == "" {
				return udfworker.ServeSupervisor()
			}
			s, err := settings(command)
			if err != nil {
				return err
			}
			mutual, err := mutualTLS(s.Text("tls_cert"), s.Text("tls_key"), clientCA)
			if err != nil {
				return err
			}
			policy, err := poolPolicy(s.Text("sandbox"), network, mounts)
			if err != nil {
				return err
			}
			return c.servePool(command.Context(), udfworker.ExternalOptions{
				Listen: listen, TLS: mutual, MemoryBytes: int64(memory), Policy: policy,
			}, interpreter)
		},
	}
	settingFlags(command, "tls_cert", "tls_key", "sandbox")
	command.Flags().StringArrayVar(&mounts, "mount", nil, "file or folder that its workers see: PATH, or PATH=rw to write there; may be given several times")
	command.Flags().BoolVar(&network, "network", false, "leave its workers the machine's network")
	command.Flags().StringVar(&clientCA, "client-ca", "", "certificates (PEM) that those of runners are checked with; demands --tls-cert and --tls-key")
	command.Flags().Var(&memory, "memory", "most that a worker may hold, with all its processes (default: no limit)")
	command.Flags().StringVar(&listen, "listen", "", "serve Beam's external worker pool at unix:PATH, localhost:PORT or, with --client-ca, HOST:PORT")
	command.Flags().StringVar(&interpreter, "python", "", "the Python of its workers, with pyarrow and grpcio (default: the active environment's)")
	return command
}

// poolPolicy is what the workers of a pool may do.
func poolPolicy(mode string, network bool, mounts []string) (sandbox.Policy, error) {
	policy := sandbox.Policy{Mode: sandbox.Mode(mode), Network: network}
	for _, mount := range mounts {
		path, write := strings.CutSuffix(mount, "=rw")
		absolute, err := filepath.Abs(path)
		if err != nil || path == "" {
			return policy, usageError{badUsage("--mount must be PATH or PATH=rw, not %q", mount)}
		}
		policy.Mounts = append(policy.Mounts, grant.Mount{Path: absolute, Write: write})
	}
	slices.SortFunc(policy.Mounts, func(a, b grant.Mount) int { return strings.Compare(a.Path, b.Path) })
	return policy, nil
}

// servePool serves Beam's external worker pool until the context ends.
func (c *cli) servePool(ctx context.Context, options udfworker.ExternalOptions, interpreter string) error {
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
	options.Interpreter, options.Harness, options.Log = path, harness, c.stderr
	options.Listening = func(address string) { fmt.Fprintln(c.stdout, "listening on", address) }
	return udfworker.ServeExternal(ctx, options)
}

// mutualTLS is TLS that demands certificates of those who come; nil where no
// certificate is given.
func mutualTLS(certificate, key, clientCA string) (*tls.Config, error) {
	config, err := server.LoadTLS(certificate, key)
	if err != nil {
		return nil, err
	}
	if (config == nil) != (clientCA == "") {
		return nil, diag.New(diag.BadOption, "a pool with TLS needs a certificate, its key, and the certificates that runners are checked with").
			WithHint("give --tls-cert, --tls-key and --client-ca")
	}
	if config == nil {
		return nil, nil
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, diag.New(diag.BadOption, "the certificates %s cannot be read", clientCA).WithCause(err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, diag.New(diag.BadOption, "%s holds no certificates", clientCA).WithHint("it is a PEM file, of what has signed the runners' certificates")
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
