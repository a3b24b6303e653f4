package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/alink-runtime/alink/go-tests/fixture"
)

// TestPoolOnANetwork: whoever comes shows a certificate that is known, or
// starts nothing.
func TestPoolOnANetwork(t *testing.T) {
	python := os.Getenv("ALINK_TEST_PYTHON")
	if python == "" {
		t.Skip("ALINK_TEST_PYTHON names no Python")
	}
	cert, key := fixture.Certificate(t)
	runner, runnerKey := fixture.Certificate(t)
	other, otherKey := fixture.Certificate(t)
	command := exec.Command(os.Args[0], "worker-pool", "--listen", "0.0.0.0:0", "--python", python, "--memory", "256MiB",
		"--tls-cert", cert, "--tls-key", key, "--client-ca", runner)
	command.Env = append(os.Environ(), "PYRUNNER_TEST_MAIN=1")
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	_, port, portErr := net.SplitHostPort(strings.TrimPrefix(strings.TrimSpace(line), "listening on "))
	if err != nil || portErr != nil {
		t.Fatalf("it printed %q: %v", line, err)
	}
	known := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !known.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	stop := func(transport credentials.TransportCredentials) error {
		conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(transport))
		if err != nil {
			return err
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = fnpb.NewBeamFnExternalWorkerPoolClient(conn).StopWorker(ctx, &fnpb.StopWorkerRequest{WorkerId: "none"})
		return err
	}
	with := func(cert, key string) credentials.TransportCredentials {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return credentials.NewTLS(&tls.Config{RootCAs: known, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	if err := stop(with(runner, runnerKey)); err != nil {
		t.Errorf("a runner that is known: %v", err)
	}
	for who, transport := range map[string]credentials.TransportCredentials{
		"without TLS":           insecure.NewCredentials(),
		"without a certificate": credentials.NewTLS(&tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}),
		"with another's":        with(other, otherKey),
	} {
		if err := stop(transport); err == nil {
			t.Errorf("a runner %s is let in", who)
		}
	}
}

func TestPoolRefuses(t *testing.T) {
	cert, key := fixture.Certificate(t)
	for args, says := range map[string]string{
		"--listen 0.0.0.0:0":   "without mutual TLS",
		"--listen some.host:0": "without mutual TLS",
		"--listen nowhere":     "cannot listen",
		"--listen 0.0.0.0:0 --tls-cert " + cert + " --tls-key " + key:                           "give --tls-cert, --tls-key and --client-ca",
		"--listen 0.0.0.0:0 --client-ca " + cert:                                                "give --tls-cert, --tls-key and --client-ca",
		"--listen 0.0.0.0:0 --tls-cert " + cert:                                                 "needs a certificate and its private key",
		"--listen localhost:0 --tls-cert " + cert + " --tls-key " + key + " --client-ca " + key: "holds no certificates",
		"--listen localhost:0 --memory much":                                                    "it must be a number of bytes",
	} {
		code, stdout, stderr := run1(t, append([]string{"worker-pool", "--python", "/bin/sh"}, strings.Fields(args)...)...)
		if code == exitDone || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("worker-pool %s: %d\n%s\n%s", args, code, stdout, stderr)
		}
	}
}
