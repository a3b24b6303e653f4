// Package fnapi is the runner's side of Beam's Fn API: it hosts an endpoint
// for each worker (control, data, logging and provision over gRPC on a private
// unix socket), carries Arrow batches to Python functions and back, runs
// bundles again when a worker has died, and turns what user code raised into
// diagnostics. Its Runner implements exec.FunctionRunner on the workers of a
// udfworker.Pool.
//
// A path through it: Runner.Open leases a worker and starts a session; the
// session's goroutine sends bundles (session.go); the endpoint's handlers
// deliver what comes back to the session's lease (endpoint.go, lease.go); Wait
// decodes and checks the result (bundle.go, decode.go). A worker is not
// trusted: what it sends is bounded and checked before it is used. It may go on
// writing where its results lie, so all but the values of numbers is copied
// before it is checked; see decoder for why that is enough, and slots for how
// long the values stay.
//
// The package imports engine/exec, engine/plan, udfworker, envmgr and diag, and knows
// nothing of SQL or machine learning.
package fnapi

import (
	"time"
)

// The names on the wire that the harness shares.
const (
	functionURN = "alink:fn:arrow:v1"
	coderURN    = "alink:coder:arrow:v1"

	sourceTransform   = "source"
	functionTransform = "fn"
	sinkTransform     = "sink"

	protocolKey     = "alink:protocol"
	protocolVersion = "1"

	// loggedKey, among a bundle's monitoring data, is the decimal number of log
	// entries that the worker has sent since it started.
	loggedKey = "alink:logged"
	// spentKey are nanoseconds, 8 bytes each: of loading functions, then, for
	// each function of the stage, of itself and of the conversion of its values.
	// importsKey is a JSON object of nanoseconds by package.
	spentKey   = "alink:spent"
	importsKey = "alink:imports"
	// profileKey is a JSON object of microseconds by stack; see exec.Profile.
	profileKey = "alink:profile"
)

// Bounds.
const (
	// bundlesInFlightMax bounds what a worker has to do: a bundle in its hands,
	// one that waits behind it, one on its way. Their bytes are bounded by the
	// stage's credit, in each direction.
	bundlesInFlightMax = 3
	// messageBytesMax is the largest gRPC message; pieces of data are far
	// smaller.
	messageBytesMax = 64<<20 + 1<<20
	// resultBytesMax bounds what one bundle may return; a fitted model comes
	// back as one row.
	resultBytesMax = 2 << 30
	// failureBytesMax bounds the JSON that tells of a failure.
	failureBytesMax = 1 << 20
	// streamWindowBytes and connectionWindowBytes are what a worker may send
	// ahead of being read.
	streamWindowBytes     = 4 << 20
	connectionWindowBytes = 16 << 20

	// connectTime is how long a worker that has said hello may take to open
	// its data stream.
	connectTime = 60 * time.Second
	// logTime is how long a bundle's log entries may come after its answer.
	logTime = time.Second
	// drainTime is how long what a dead worker had sent may take to be read.
	drainTime = time.Second
	// stopTime is how long a worker may be at bundles that nobody wants any more
	// until it is interrupted; what waits for the session's end waits with it.
	stopTime = 100 * time.Millisecond
	// deathTime is how long a worker's death is waited for after it has hung
	// up; it is interrupted in the middle of it.
	deathTime = 5 * time.Second
	hangUp    = 500 * time.Millisecond
)
