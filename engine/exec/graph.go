package exec

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/alink-runtime/alink/diag"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Defaults of Options.
const (
	QueueBytesDefault  = 8 << 20
	queueBytesMin      = 256 << 10
	SpoolBytesDefault  = 64 << 20
	parallelismMax     = 256
	fanOutReadersLimit = 64
)

// Options are a graph's limits.
type Options struct {
	// QueueBytes bounds each queue between two subtasks; 0 means
	// QueueBytesDefault.
	QueueBytes int64
	// QueuesBytes bounds the queues together: where there are many, each gets
	// an equal share, but queueBytesMin at least. 0 means no bound.
	QueuesBytes int64
	// SpoolBytes is what a spool keeps in memory before it goes on in files;
	// 0 means SpoolBytesDefault.
	SpoolBytes int64
	// SpillDir is the folder for those files; "" means the system's.
	SpillDir string
	// Allocator is for the batches that exchanges make; nil means Arrow's
	// default.
	Allocator memory.Allocator
}

func (o Options) withDefaults() Options {
	if o.QueueBytes == 0 {
		o.QueueBytes = QueueBytesDefault
	}
	if o.SpoolBytes == 0 {
		o.SpoolBytes = SpoolBytesDefault
	}
	return o
}

// Vertex is an operator of a graph, run by Parallelism subtasks.
type Vertex struct {
	ID   string
	Name string
	// Detail says more than Name, for progress; "" is nothing.
	Detail string
	// Parallelism is the number of subtasks; more than one makes an exchange
	// before the vertex and a merge after it. Only a vertex with one input can
	// have it.
	Parallelism int
	// Keyed makes that exchange one by hash: each subtask gets the rows of its
	// keys, the columns Keys, and the order of rows is kept within a key only.
	// Otherwise it is a rebalance, and the merge restores the order.
	Keyed bool
	Keys  []int
	// Stream is set where the output has no end or is to pass barriers: then
	// several readers get it through bounded queues instead of a spool, which
	// would grow for ever behind the slowest. None of them may wait for the end
	// of one input before it reads another.
	Stream bool
	// New makes the operator of a subtask.
	New func(subtask int) Operator
	// Inputs are the IDs of the vertices it reads, which stand before it.
	Inputs []string
	// Schema is that of the vertex's output, for a spool on its way; nil for a
	// sink.
	Schema *arrow.Schema
	// Meter counts what workers do for the vertex; nil where it has none.
	Meter *Meter
	// Coalesce, of a vertex with one input, has small batches put together
	// before it; nil leaves them as they come.
	Coalesce *Coalescing

	stats Stats
}

// Graph is a job's dataflow. A vertex that several others read is run once:
// its output goes through a spool, so that readers of different pace (the two
// sides of a join, for example) cannot block each other.
type Graph struct {
	options  Options
	vertices []*Vertex
	byID     map[string]*Vertex
}

// NewGraph makes an empty graph.
func NewGraph(options Options) *Graph {
	return &Graph{options: options.withDefaults(), byID: map[string]*Vertex{}}
}

// Add appends a vertex. Its inputs must have been added before.
func (g *Graph) Add(v *Vertex) error {
	if v.Parallelism < 1 || v.Parallelism > parallelismMax {
		return fmt.Errorf("vertex %s: parallelism %d is not within 1 and %d", v.ID, v.Parallelism, parallelismMax)
	}
	if v.Coalesce != nil && (len(v.Inputs) != 1 || v.Keyed) {
		return fmt.Errorf("vertex %s: batches are put together of one input, which is not divided by keys", v.ID)
	}
	if v.Parallelism > 1 && len(v.Inputs) != 1 {
		return fmt.Errorf("vertex %s: %d subtasks need exactly one input, not %d", v.ID, v.Parallelism, len(v.Inputs))
	}
	if _, taken := g.byID[v.ID]; taken {
		return fmt.Errorf("vertex %s is there already", v.ID)
	}
	for _, id := range v.Inputs {
		if g.byID[id] == nil {
			return fmt.Errorf("vertex %s reads %s, which is not there", v.ID, id)
		}
	}
	g.vertices = append(g.vertices, v)
	g.byID[v.ID] = v
	return nil
}

// Progress is how far each vertex is, in the order of Add. It may be called at
// any time.
func (g *Graph) Progress() []Progress {
	out := make([]Progress, len(g.vertices))
	for i, v := range g.vertices {
		out[i] = v.progress()
	}
	return out
}

// Run executes the graph once and returns when every subtask has ended: nil,
// the first failure, or the cause of ctx's end.
func (g *Graph) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := wiring{graph: g, outputs: map[string]edge{}, ports: map[string][]port{}}
	defer w.close()
	if err := w.connect(); err != nil {
		return err
	}
	var group sync.WaitGroup
	var failed atomic.Bool
	for _, s := range w.subtasks {
		working := s.working(ctx)
		group.Go(func() {
			if err := s.run(ctx, working); err != nil {
				failed.Store(true)
				cancel(err)
			}
		})
	}
	group.Wait()
	if !failed.Load() {
		return nil // also if ctx has ended since: what was to be done is done
	}
	return context.Cause(ctx)
}

// subtask is one goroutine that owns an operator.
type subtask struct {
	name     string
	operator Operator
	in       []*Input
	out      *Output
	stats    *Stats
	// stop ends the operator's context.
	stop context.CancelCauseFunc
}

// working makes the context in which the operator runs. It ends with the
// graph's, or with the cause ErrStopped when nobody reads the output any more:
// so work in flight ends too, such as a bundle on a worker.
func (s *subtask) working(ctx context.Context) context.Context {
	ctx, s.stop = context.WithCancelCause(ctx)
	if s.out.edge != nil {
		s.out.edge.onStop(func() { s.stop(ErrStopped) })
	}
	return ctx
}

// run runs the operator in the context working, and emits the end in the
// graph's.
func (s *subtask) run(ctx, working context.Context) (err error) {
	defer s.stop(nil)
	defer func() {
		if fault := recover(); fault != nil {
			err = diag.New(diag.Internal, "operator %s stopped by a fault", s.name).
				WithCause(fmt.Errorf("%v\n%s", fault, debug.Stack()))
		}
		for _, in := range s.in {
			in.Close()
		}
		s.stats.done.Add(1)
	}()
	s.out.clock.start()
	err = s.operator.Run(working, s.in, s.out)
	s.out.clock.rest()
	// What goes wrong once nobody wants the output, the end of the context
	// itself above all, keeps nothing from anybody.
	if err == nil || errors.Is(err, ErrStopped) || errors.Is(context.Cause(working), ErrStopped) {
		// A rebalance that stops because one of its readers has stopped still
		// has to end the others.
		err = s.out.Emit(ctx, Element{Kind: KindEnd})
	}
	if errors.Is(err, ErrStopped) {
		return nil
	}
	return err
}

// wiring makes the subtasks of a graph and what lies between them.
type wiring struct {
	graph    *Graph
	subtasks []*subtask
	// outputs and ports are, for each vertex, where its subtasks write to and
	// where its consumers read from. A vertex with one subtask that several
	// consumers read has one port for each of them.
	outputs map[string]edge
	ports   map[string][]port
	queues  []*Queue
	closers []func()
}

func (w *wiring) close() {
	for _, c := range w.closers {
		c()
	}
}

func (w *wiring) connect() error {
	consumers := map[string]int{}
	for _, v := range w.graph.vertices {
		for _, id := range v.Inputs {
			consumers[id]++
		}
	}
	for _, v := range w.graph.vertices {
		if err := w.add(v, consumers[v.ID]); err != nil {
			return err
		}
	}
	w.shareQueueBytes()
	return nil
}

// shareQueueBytes narrows the queues, which nobody uses yet, to what they may
// hold together.
func (w *wiring) shareQueueBytes() {
	total := w.graph.options.QueuesBytes
	if total == 0 || len(w.queues) == 0 {
		return
	}
	share := max(queueBytesMin, total/int64(len(w.queues)))
	for _, q := range w.queues {
		q.bytesLimit = min(q.bytesLimit, share)
	}
}

func (w *wiring) add(v *Vertex, consumers int) error {
	if consumers > fanOutReadersLimit {
		return fmt.Errorf("vertex %s is read by %d others; the limit is %d", v.ID, consumers, fanOutReadersLimit)
	}
	switch {
	case v.Parallelism > 1 && v.Keyed:
		return w.addKeyed(v, consumers)
	case v.Parallelism > 1:
		return w.addParallel(v, consumers)
	}
	in := make([]*Input, len(v.Inputs))
	for i, id := range v.Inputs {
		in[i] = &Input{port: w.before(v, w.takePort(id)), stats: &v.stats}
	}
	out, err := w.output(v, consumers)
	if err != nil {
		return err
	}
	w.start(v, v.Name, v.New(0), in, out)
	if last := w.subtasks[len(w.subtasks)-1]; out == nil {
		for _, i := range in {
			i.sink = true
		}
	} else {
		last.out.time = &v.stats
	}
	return nil
}

// before gives the port that a vertex with one subtask reads instead of the one
// of its input.
func (w *wiring) before(v *Vertex, in port) port {
	if v.Coalesce == nil {
		return in
	}
	uncounted, joined := &Stats{}, w.queue()
	w.subtasks = append(w.subtasks, &subtask{
		name: v.Name + " (coalesce)", operator: newCoalescer(v, w.graph.options.Allocator),
		in: []*Input{{port: in, stats: uncounted}}, out: &Output{edge: queuePort{joined}, stats: uncounted}, stats: uncounted,
	})
	return queuePort{joined}
}

// addParallel puts a rebalance before the subtasks of v and a merge after
// them. Both run in a goroutine of their own, which owns the exchange's state.
func (w *wiring) addParallel(v *Vertex, consumers int) error {
	way := newRoute()
	spread := &rebalance{route: way}
	join := &merge{route: way}
	uncounted := &Stats{}
	source := &Input{port: w.takePort(v.Inputs[0]), stats: uncounted}
	var pass Operator = forward{}
	if v.Coalesce != nil {
		pass = newCoalescer(v, w.graph.options.Allocator)
	}
	w.subtasks = append(w.subtasks, &subtask{
		name: v.Name + " (rebalance)", operator: pass,
		in: []*Input{source}, out: &Output{edge: spread, stats: uncounted}, stats: uncounted,
	})
	for i := range v.Parallelism {
		before, after := w.queue(), w.queue()
		spread.queues = append(spread.queues, before)
		join.ports = append(join.ports, queuePort{after})
		w.start(v, fmt.Sprintf("%s (%d)", v.Name, i), v.New(i),
			[]*Input{{port: queuePort{before}, stats: &v.stats, numbered: true}}, queuePort{after})
	}
	out, err := w.output(v, consumers)
	if err != nil {
		return err
	}
	w.subtasks = append(w.subtasks, &subtask{
		name: v.Name + " (merge)", operator: Handle(PassThrough{}),
		in: []*Input{{port: join, stats: uncounted}}, out: &Output{edge: out, stats: uncounted, time: &v.stats}, stats: uncounted,
	})
	return nil
}

// addKeyed puts a hash exchange before the subtasks of v and gathers what they
// give.
func (w *wiring) addKeyed(v *Vertex, consumers int) error {
	spread := newHashExchange(v.Keys, w.graph.options.Allocator)
	uncounted := &Stats{}
	source := &Input{port: w.takePort(v.Inputs[0]), stats: uncounted}
	w.subtasks = append(w.subtasks, &subtask{
		name: v.Name + " (exchange)", operator: Handle(PassThrough{}),
		in: []*Input{source}, out: &Output{edge: spread, stats: uncounted}, stats: uncounted,
	})
	ports := make([]pollable, v.Parallelism)
	for i := range v.Parallelism {
		before, after := w.queue(), w.queue()
		spread.queues = append(spread.queues, before)
		ports[i] = queuePort{after}
		w.start(v, fmt.Sprintf("%s (%d)", v.Name, i), v.New(i),
			[]*Input{{port: queuePort{before}, stats: &v.stats}}, queuePort{after})
	}
	out, err := w.output(v, consumers)
	if err != nil {
		return err
	}
	w.subtasks = append(w.subtasks, &subtask{
		name: v.Name + " (gather)", operator: Handle(PassThrough{}),
		in: []*Input{{port: newGather(ports, true), stats: uncounted}}, out: &Output{edge: out, stats: uncounted, time: &v.stats}, stats: uncounted,
	})
	return nil
}

// forward passes elements on as they are, with what says which batches belong
// together.
type forward struct{}

// Run implements Operator.
func (forward) Run(ctx context.Context, in []*Input, out *Output) error {
	for {
		e, err := in[0].Next(ctx)
		if err != nil || e.Kind == KindEnd {
			return err
		}
		if err := out.Emit(ctx, e); err != nil {
			return err
		}
	}
}

func (w *wiring) start(v *Vertex, name string, operator Operator, in []*Input, out edge) {
	s := &subtask{
		name: name, operator: operator, in: in,
		out: &Output{edge: out, stats: &v.stats}, stats: &v.stats,
	}
	if _, own := operator.(OwnTime); !own {
		s.out.clock = &clock{stats: &v.stats}
		for _, i := range in {
			i.clock = s.out.clock
		}
	}
	w.subtasks = append(w.subtasks, s)
}

// output makes the edge that v writes to, and the ports its consumers take.
func (w *wiring) output(v *Vertex, consumers int) (edge, error) {
	switch consumers {
	case 0:
		return nil, nil
	case 1:
		q := queuePort{w.queue()}
		w.ports[v.ID] = []port{q}
		return q, nil
	}
	if v.Stream {
		spread := &broadcast{}
		for range consumers {
			q := w.queue()
			spread.queues = append(spread.queues, q)
			w.ports[v.ID] = append(w.ports[v.ID], queuePort{q})
		}
		return spread, nil
	}
	spool, err := NewSpool(v.Schema, SpoolOptions{
		MemoryBytes: w.graph.options.SpoolBytes, Dir: w.graph.options.SpillDir, Readers: consumers,
	})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, spool.Close)
	for i := range consumers {
		w.ports[v.ID] = append(w.ports[v.ID], spool.reader(i))
	}
	return spool, nil
}

func (w *wiring) takePort(id string) port {
	p := w.ports[id][0]
	w.ports[id] = w.ports[id][1:]
	return p
}

func (w *wiring) queue() *Queue {
	q := NewQueue(w.graph.options.QueueBytes)
	w.queues = append(w.queues, q)
	w.closers = append(w.closers, q.Close)
	return q
}
