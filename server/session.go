package server

import (
	"cmp"
	"context"
	"regexp"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

// sessionHeader names the session of a call; the client makes the name.
const sessionHeader = "alink-session"

// sessionPattern is what a session may be called: long enough that nobody
// guesses another's.
var sessionPattern = regexp.MustCompile(`^[0-9a-f]{32,64}$`)

// Limits bound what clients may hold. 0 means the default.
type Limits struct {
	// Sessions is the number of clients that are connected.
	Sessions int
	// SessionJobs is the number of jobs of one client that run.
	SessionJobs int
	// UploadBytes are those of the tables that one client has sent. All tables
	// together are kept in memory up to the engine's share for them, and on
	// disk beyond.
	UploadBytes int64
	// ArtifactBytes are those of all functions, modules and models.
	ArtifactBytes int64
}

// The defaults of Limits.
const (
	SessionsDefault      = 64
	SessionJobsDefault   = 16
	UploadBytesDefault   = 16 << 30
	ArtifactBytesDefault = 8 << 30
)

func (l Limits) withDefaults() Limits {
	l.Sessions = cmp.Or(l.Sessions, SessionsDefault)
	l.SessionJobs = cmp.Or(l.SessionJobs, SessionJobsDefault)
	l.UploadBytes = cmp.Or(l.UploadBytes, UploadBytesDefault)
	l.ArtifactBytes = cmp.Or(l.ArtifactBytes, ArtifactBytesDefault)
	return l
}

// full says which limit stands in the way.
func full(format string, args ...any) *diag.Diagnostic {
	return diag.New(diag.ServerFull, format, args...)
}

// sessions are the clients that are connected. What a client has sent is its
// own: tables by a prefix of their names; artifacts, which are named by their
// content, by counting who refers to them.
type sessions struct {
	engine *engine.Engine
	jobs   *jobs
	limits Limits
	// embedded is the session of calls that name none; nil where they must.
	embedded *session

	mu   sync.Mutex
	byID map[string]*session
	// artifacts are counted by session and by job.
	artifacts     map[string]*artifact
	artifactBytes int64
}

type artifact struct {
	references int
	bytes      int64
}

// session is one client. The sessions' mu guards it.
type session struct {
	id    string
	ended bool
	// tables are the sizes of those that it has sent.
	tables      map[string]int64
	uploadBytes int64
	artifacts   map[string]bool
	// leave is closed when the client wants to go, gone when nothing of it is
	// left.
	leave, gone chan struct{}
	leaving     sync.Once
}

func newSession(id string) *session {
	return &session{
		id: id, tables: map[string]int64{}, artifacts: map[string]bool{}, leave: make(chan struct{}), gone: make(chan struct{}),
	}
}

func newSessions(e *engine.Engine, j *jobs, limits Limits, embedded bool) *sessions {
	s := &sessions{engine: e, jobs: j, limits: limits, byID: map[string]*session{}, artifacts: map[string]*artifact{}}
	if embedded {
		s.embedded = newSession("")
	}
	return s
}

// table is a table's name within the engine.
func (s *session) table(name string) string {
	if s.id == "" {
		return name
	}
	return s.id + "/" + name
}

// attach begins a session.
func (s *sessions) attach(ctx context.Context) (*session, error) {
	id := named(ctx)
	if s.embedded != nil {
		return nil, diag.New(diag.InvalidPlan, "an embedded engine has one client, which need not attach")
	}
	if !sessionPattern.MatchString(id) {
		return nil, diag.New(diag.InvalidPlan, "%q is not the name of a connection", id).
			WithHint("a client makes it of 32 to 64 random hexadecimal digits")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] != nil {
		return nil, diag.New(diag.InvalidPlan, "there is a connection of this name already")
	}
	if len(s.byID) >= s.limits.Sessions {
		return nil, full("the server has %d connections, which is its limit", len(s.byID)).WithHint("close one, or have it started with a larger --sessions")
	}
	one := newSession(id)
	s.byID[id] = one
	return one, nil
}

// detach ends a session at its client's wish, and waits until it has ended.
func (s *sessions) detach(ctx context.Context, one *session) error {
	one.leaving.Do(func() { close(one.leave) })
	select {
	case <-one.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// of is the session of a call.
func (s *sessions) of(ctx context.Context) (*session, error) {
	if s.embedded != nil {
		return s.embedded, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.byID[named(ctx)]; one != nil {
		return one, nil
	}
	return nil, diag.New(diag.ConnectionLost, "the server does not know this connection: it has ended").
		WithHint("connect again: al.connect(…)")
}

func named(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if names := md.Get(sessionHeader); len(names) == 1 {
		return names[0]
	}
	return ""
}

// end forgets a session: the jobs that its client waits for are cancelled, its
// tables dropped, its artifacts given up. Detached jobs go on.
func (s *sessions) end(one *session) {
	s.mu.Lock()
	one.ended = true
	delete(s.byID, one.id)
	s.mu.Unlock()
	s.jobs.endSession(one)
	s.engine.DropTables(one.table(""))
	s.engine.EndDomain(one.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range one.artifacts {
		s.releaseArtifact(id)
	}
	one.artifacts = nil
	close(one.gone)
}

// count is the number of clients.
func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// heldBytes are those of artifacts, and of tables as they were sent.
func (s *sessions) heldBytes() (artifacts, uploads int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.byID {
		uploads += one.uploadBytes
	}
	if s.embedded != nil {
		uploads += s.embedded.uploadBytes
	}
	return s.artifactBytes, uploads
}

// hasArtifact reports whether an artifact is there; if so, the session refers
// to it from now on.
func (s *sessions) hasArtifact(one *session, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.artifacts[id]
	if known == nil || one.ended || !s.engine.HasArtifact(id) {
		return false
	}
	if !one.artifacts[id] {
		one.artifacts[id] = true
		known.references++
	}
	return true
}

// putArtifact keeps an artifact for a session. Putting it and dropping it
// exclude each other.
func (s *sessions) putArtifact(one *session, data []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.ended {
		return "", diag.New(diag.ConnectionLost, "the connection has ended")
	}
	size := int64(len(data))
	if s.artifactBytes+size > s.limits.ArtifactBytes {
		return "", full("functions, modules and models hold %d bytes on the server, and %d more would pass its limit of %d", s.artifactBytes, size, s.limits.ArtifactBytes).
			WithHint("close connections that are not needed, or have it started with a larger --artifact-limit")
	}
	id, err := s.engine.PutArtifact(data)
	if err != nil {
		return "", err
	}
	known := s.artifacts[id]
	if known == nil {
		known = &artifact{bytes: size}
		s.artifacts[id] = known
		s.artifactBytes += size
	}
	if !one.artifacts[id] {
		one.artifacts[id] = true
		known.references++
	}
	return id, nil
}

// useArtifacts makes a job refer to artifacts, and refuses those that the
// session does not.
func (s *sessions) useArtifacts(one *session, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if !one.artifacts[id] {
			return diag.New(diag.InvalidPlan, "artifact %.12s has not been sent", id)
		}
	}
	for _, id := range ids {
		s.artifacts[id].references++
	}
	return nil
}

// releaseArtifacts takes back what useArtifacts has given.
func (s *sessions) releaseArtifacts(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.releaseArtifact(id)
	}
}

// releaseArtifact takes one reference back; mu is held. A file that cannot be
// removed goes with the engine's folder.
func (s *sessions) releaseArtifact(id string) {
	known := s.artifacts[id]
	if known.references--; known.references > 0 {
		return
	}
	delete(s.artifacts, id)
	s.artifactBytes -= known.bytes
	_ = s.engine.DropArtifact(id)
}

// charge counts bytes of a table that a session is sending.
func (s *sessions) charge(one *session, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.embedded == nil && one.uploadBytes+bytes > s.limits.UploadBytes {
		return full("the tables of this connection would hold more than %d bytes on the server, which is its limit", s.limits.UploadBytes).
			WithHint("drop tables that are not needed, read files on the server, or have it started with a larger --upload-limit")
	}
	one.uploadBytes += bytes
	return nil
}

// sent notes the end of a table's sending.
func (s *sessions) sent(one *session, name string, bytes int64, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && one.ended {
		s.engine.DropTable(one.table(name))
		err = diag.New(diag.ConnectionLost, "the connection has ended")
	}
	if err != nil {
		one.uploadBytes -= bytes
		return err
	}
	one.tables[name] = bytes
	return nil
}

// drop forgets a table.
func (s *sessions) drop(one *session, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.uploadBytes -= one.tables[name]
	delete(one.tables, name)
	s.engine.DropTable(one.table(name))
}
