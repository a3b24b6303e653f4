package server

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"mime"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/alink-runtime/alink/diag"
)

// Limits of the HTTP service.
const (
	httpHeaderTime   = 10 * time.Second
	httpAnswerTime   = time.Minute
	httpIdleTime     = 2 * time.Minute
	httpHeaderBytes  = 64 << 10
	httpBodyBytesMax = 64 << 10
	// jobLogLines is the number of lines of a job's log that it tells.
	jobLogLines = 200
)

// page is the dashboard: no resource comes from elsewhere.
//
//go:embed dashboard
var page embed.FS

// pagePolicy lets the dashboard's own files run and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeWeb answers health, metrics, the API of jobs and the dashboard on a
// listener until the context ends. token must be borne by every request but
// those of health.
func (s *Server) ServeWeb(ctx context.Context, listener net.Listener, token string, secure *tls.Config) error {
	if token == "" {
		return errors.New("the HTTP service needs a token")
	}
	h := &http.Server{
		Handler: s.handler(token), ReadHeaderTimeout: httpHeaderTime, ReadTimeout: httpAnswerTime, WriteTimeout: httpAnswerTime,
		IdleTimeout: httpIdleTime, MaxHeaderBytes: httpHeaderBytes, TLSConfig: secure,
		ErrorLog: log.New(discard{}, "", 0), // who speaks no HTTP is told so; nobody else cares
	}
	ended := make(chan error, 1)
	go func() {
		if secure != nil {
			ended <- h.ServeTLS(listener, "", "")
			return
		}
		ended <- h.Serve(listener)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	err := h.Close()
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (s *Server) handler(token string) http.Handler {
	open, closed := http.NewServeMux(), http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	open.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.Draining() {
			plain(w, http.StatusServiceUnavailable, "draining")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	open.Handle("/", bearing(token, http.NewCrossOriginProtection().Handler(closed)))
	closed.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", metricsType)
		_ = writeMetrics(w, s.families()) // whoever asked has gone
	})
	closed.HandleFunc("GET /api/jobs", s.getJobs)
	closed.HandleFunc("GET /api/jobs/{id}", s.getJob)
	closed.HandleFunc("GET /api/workers", s.getWorkers)
	closed.HandleFunc("POST /api/jobs/{id}/cancel", s.cancelJob)
	closed.HandleFunc("GET /{$}", pageFile("index.html"))
	for _, name := range []string{"dashboard.js", "style.css"} {
		closed.HandleFunc("GET /"+name, pageFile(name))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", pagePolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, httpBodyBytesMax)
		open.ServeHTTP(w, r)
	})
}

// bearing refuses requests without the token: as a bearer's, or as the
// password of a browser, which asks for it.
func bearing(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			_, given, _ = r.BasicAuth()
		}
		if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			w.Header().Add("WWW-Authenticate", "Bearer")
			w.Header().Add("WWW-Authenticate", `Basic realm="alink: the token is the password"`)
			fault(w, http.StatusUnauthorized, diag.New(diag.NotAuthorized, "the token is missing or wrong").
				WithHint("send it as \"Authorization: Bearer …\"; a browser takes it as the password"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // whoever asked has gone
}

func reply(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // whoever asked has gone
}

func fault(w http.ResponseWriter, code int, d *diag.Diagnostic) {
	reply(w, code, map[string]any{"error": d})
}

func pageFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		data, err := page.ReadFile("dashboard/" + name)
		if err != nil {
			fault(w, http.StatusInternalServerError, diag.From(err))
			return
		}
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		_, _ = w.Write(data) // whoever asked has gone
	}
}

// getJobs lists the jobs, the oldest first.
func (s *Server) getJobs(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"jobs": infos(s.jobs.list(nil)), "draining": s.Draining(), "version": s.options.Version, "sessions": s.sessions.count(),
	})
}

// getWorkers lists the workers that run, and tells how they are reached.
func (s *Server) getWorkers(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"workers": s.engine.Status().Workers, "lane": s.engine.Lane()})
}

// getJob tells all of a job, with the last lines of its log.
func (s *Server) getJob(w http.ResponseWriter, r *http.Request) {
	one, err := s.jobs.find(r.PathValue("id"))
	if err != nil {
		fault(w, http.StatusNotFound, diag.From(err))
		return
	}
	lines, _ := one.job.Log(0)
	logs := make([]logEvent, 0, jobLogLines)
	for _, line := range lines[max(0, len(lines)-jobLogLines):] {
		logs = append(logs, logEvent{line.Function, line.Level, line.Text})
	}
	told := struct {
		JobInfo
		// ErrorText is the error as a user reads it.
		ErrorText string     `json:"error_text,omitempty"`
		Logs      []logEvent `json:"logs"`
	}{JobInfo: one.details(), Logs: logs}
	if told.Error != nil {
		told.ErrorText = told.Error.Render()
	}
	reply(w, http.StatusOK, told)
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) {
	one, err := s.jobs.find(r.PathValue("id"))
	if err != nil {
		fault(w, http.StatusNotFound, diag.From(err))
		return
	}
	one.job.Cancel()
	reply(w, http.StatusOK, one.info())
}
