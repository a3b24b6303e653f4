package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

// web is the HTTP service of a test's server.
type web struct {
	t    *testing.T
	base string
}

func (s *served) web(t *testing.T) *web {
	t.Helper()
	listener, err := ListenTCP(t.Context(), "127.0.0.1:0", Security{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeWeb(ctx, listener, token, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return &web{t, "http://" + listener.Addr().String()}
}

// answered is what a response says besides its body.
type answered struct {
	StatusCode int
	Header     http.Header
}

// call sends a request with the token, or with headers instead of it.
func (w *web) call(method, path string, headers ...string) (answered, string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(headers) == 0 {
		headers = []string{"Authorization", "Bearer " + token}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header}, string(body)
}

func TestHTTPAsksForTheToken(t *testing.T) {
	w := serveWith(t, Options{Token: token}, engine.Options{}).web(t)
	for _, path := range []string{"/", "/metrics", "/api/jobs", "/api/jobs/j1", "/api/workers", "/dashboard.js", "/style.css", "/nothing", "/healthz/x"} {
		for _, header := range []string{"", "Bearer wrong", token, "Basic d3Jvbmc6d3Jvbmc="} {
			response, body := w.call(http.MethodGet, path, "Authorization", header)
			if response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, string(diag.NotAuthorized)) || len(response.Header.Values("WWW-Authenticate")) != 2 {
				t.Errorf("%s with %q: %d %s", path, header, response.StatusCode, body)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if response, _ := w.call(http.MethodGet, path, "Authorization", ""); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/", nil)
	request.SetBasicAuth("whoever", token) // what a browser sends
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("a browser: %d", response.StatusCode)
	}
}

// TestDashboard: nothing comes from elsewhere, nothing is run that is not a
// file of its own, and no text becomes markup.
func TestDashboard(t *testing.T) {
	w := serveWith(t, Options{Token: token}, engine.Options{}).web(t)
	_, html := w.call(http.MethodGet, "/")
	_, script := w.call(http.MethodGet, "/dashboard.js")
	for path, kind := range map[string]string{"/": "text/html", "/dashboard.js": "text/javascript", "/style.css": "text/css"} {
		response, _ := w.call(http.MethodGet, path)
		h := response.Header
		if response.StatusCode != http.StatusOK || !strings.HasPrefix(h.Get("Content-Type"), kind) || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != pagePolicy {
			t.Errorf("%s: %d %v", path, response.StatusCode, h)
		}
	}
	if outside := regexp.MustCompile(`https?:|//[a-z]|<script>|style=| on[a-z]+=`).FindString(html); outside != "" {
		t.Errorf("the page has %q", outside)
	}
	if markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|eval\(`).FindString(script); markup != "" {
		t.Errorf("the script uses %s", markup)
	}
	for column, value := range map[string]string{"Sandbox": "cell(row, worker.sandbox)", "Lane": "cell(row, list.lane)"} {
		if !strings.Contains(html, "<th>"+column+"</th>") || !strings.Contains(script, value) {
			t.Errorf("workers are shown without %s", column)
		}
	}
	for _, id := range regexp.MustCompile(`getElementById\("([a-z]+)"\)`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(html, `id="`+id[1]+`"`) {
			t.Errorf("the page has no element %s", id[1])
		}
	}
}

func TestJobsOverHTTP(t *testing.T) {
	s := serveWith(t, Options{Token: token, Version: "1.2.3"}, engine.Options{})
	w, a := s.web(t), s.attach(t, 1)
	const name = `<script>alert(1)</script>`
	quoted, err := json.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	job := a.submit(t, generated(0, 100, collected), `,"name":`+string(quoted))
	failed := a.submit(t, `{"version":1,"nodes":[{"id":"g","op":"read_generator","args":{"columns":[{"name":"x","kind":"sequence","step":1}],"rows":5}},`+
		`{"id":"f","op":"select","inputs":["g"],"args":{"exprs":[{"name":"y","expr":{"sql":"('a' || x)::int"}}]}},{"id":"out","op":"collect","inputs":["f"]}]}`, "")
	waitFor(t, "the failure", func() bool { j, _ := s.engine.Job(failed); return j.State() == engine.Failed })
	var list struct {
		Jobs     []JobInfo
		Version  string
		Sessions int
	}
	response, body := w.call(http.MethodGet, "/api/jobs")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Jobs) != 2 || list.Jobs[0].Name != name || list.Version != "1.2.3" || list.Sessions != 1 {
		t.Errorf("%v: %s", err, body)
	}
	if strings.Contains(body, "<script>") || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("markup in an answer: %s", body)
	}
	waitFor(t, "rows", func() bool {
		var detail JobInfo
		_, body := w.call(http.MethodGet, "/api/jobs/"+job)
		return json.Unmarshal([]byte(body), &detail) == nil && len(detail.Operators) == 2 && detail.Operators[0].RowsOut > 0 && detail.State == engine.Running
	})
	if _, body := w.call(http.MethodGet, "/api/jobs/"+failed); !strings.Contains(body, `"error_text":"ALK1007`) {
		t.Errorf("a failed job: %s", body)
	}
	for _, c := range []struct{ method, path string }{{"GET", "/api/jobs/j7"}, {"POST", "/api/jobs/j7/cancel"}} {
		if response, body := w.call(c.method, c.path); response.StatusCode != http.StatusNotFound || !strings.Contains(body, "did you mean "+job) {
			t.Errorf("%s: %d %s", c.path, response.StatusCode, body)
		}
	}
	if response, _ := w.call(http.MethodGet, "/api/jobs/"+job+"/cancel"); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of cancel: %d", response.StatusCode)
	}
	// A page of another site that makes a browser send what it knows.
	if response, _ := w.call(http.MethodPost, "/api/jobs/"+job+"/cancel", "Authorization", "Bearer "+token, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); response.StatusCode != http.StatusForbidden {
		t.Errorf("another site cancels: %d", response.StatusCode)
	}
	if response, body := w.call(http.MethodPost, "/api/jobs/"+job+"/cancel"); response.StatusCode != http.StatusOK {
		t.Errorf("cancel: %d %s", response.StatusCode, body)
	}
	waitFor(t, "the cancelled job's end", func() bool { j, _ := s.engine.Job(job); return j.State() == engine.Cancelled })
}

var sample = regexp.MustCompile(`^([a-z_]+)(?:\{([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"\})? (-?[0-9.e+-]+)$`)

// metrics reads /metrics, and checks that it is of Prometheus' format.
func (w *web) metrics() map[string]string {
	w.t.Helper()
	response, body := w.call(http.MethodGet, "/metrics")
	if response.Header.Get("Content-Type") != metricsType || !strings.HasSuffix(body, "\n") {
		w.t.Errorf("the content type is %s", response.Header.Get("Content-Type"))
	}
	kinds, values := map[string]string{}, map[string]string{}
	for line := range strings.Lines(strings.TrimSuffix(body, "\n")) {
		line = strings.TrimSuffix(line, "\n")
		if kind, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, of, _ := strings.Cut(kind, " ")
			if kinds[name] != "" || of != gauge && of != counter || (of == counter) != strings.HasSuffix(name, "_total") {
				w.t.Errorf("a wrong type: %s", line)
			}
			kinds[name] = of
			continue
		}
		if strings.HasPrefix(line, "# HELP ") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || kinds[m[1]] == "" {
			w.t.Errorf("no sample: %q", line)
			continue
		}
		key := m[1]
		if m[2] != "" {
			key += " " + m[3]
		}
		values[key] = m[4]
	}
	return values
}

func TestMetrics(t *testing.T) {
	s := serveWith(t, Options{Token: token, Version: `a "b\c"`}, engine.Options{})
	w, a := s.web(t), s.attach(t, 1)
	if err := putAs(a.ctx, t, a.Client, 1000, "table", "numbers"); err != nil {
		t.Fatal(err)
	}
	first := a.submit(t, plans, "")
	if n, err := a.rows(t, first); n != 990 || err != nil {
		t.Fatal(n, err)
	}
	waitFor(t, "the job's end", func() bool { j, _ := s.engine.Job(first); return j.State() == engine.Succeeded })
	endless := a.submit(t, generated(0, 1000, collected), "")
	waitFor(t, "rows", func() bool { return w.metrics()["alink_rows_out_total read_generator"] > "0" })
	got := w.metrics()
	for name, want := range map[string]string{
		`alink_build_info a \"b\\c\"`: "1", "alink_draining": "0", "alink_sessions": "1", "alink_jobs_running": "1", "alink_jobs_started_total": "2",
		"alink_jobs_ended_total succeeded": "1", "alink_jobs_ended_total failed": "0", "alink_rows_out_total table": "1000",
		"alink_rows_in_total filter": "1000", "alink_artifact_bytes": "0", "alink_rows_out_total filter": "990", "alink_workers busy": "0", "alink_lane local": "1", "alink_worker_deaths_total": "0",
	} {
		if got[name] != want {
			t.Errorf("%s is %s, not %s", name, got[name], want)
		}
	}
	for _, name := range []string{"alink_upload_bytes", "alink_table_bytes"} { // 1,000 numbers of 8 bytes
		if bytes, err := strconv.ParseFloat(got[name], 64); err != nil || bytes < 8000 || bytes > 100_000_000 {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	if bytes, err := strconv.ParseFloat(got["alink_arrow_bytes"], 64); err != nil || bytes <= 0 { // of the rows on their way
		t.Errorf("alink_arrow_bytes is %q", got["alink_arrow_bytes"])
	}
	a.act(t, "cancel", `{"job":"`+endless+`"}`)
	waitFor(t, "the cancelled job's end", func() bool { return w.metrics()["alink_jobs_ended_total cancelled"] == "1" })
	// Counters stay when the engine has forgotten the jobs.
	for range 70 {
		job := a.submit(t, plans, "")
		if _, err := a.rows(t, job); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the job's end", func() bool { j, err := s.engine.Job(job); return err == nil && j.State() == engine.Succeeded })
	}
	if got := w.metrics(); got["alink_rows_out_total filter"] != "70290" || got["alink_jobs_ended_total succeeded"] != "71" || len(s.jobs.byID) > 70 {
		t.Errorf("after many jobs: %s rows, %s jobs, %d known", got["alink_rows_out_total filter"], got["alink_jobs_ended_total succeeded"], len(s.jobs.byID))
	}
}

func TestReadiness(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	w := s.web(t)
	s.Drain(t.Context(), time.Second)
	if response, body := w.call(http.MethodGet, "/readyz"); response.StatusCode != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("readyz: %d %q", response.StatusCode, body)
	}
	if response, _ := w.call(http.MethodGet, "/healthz"); response.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", response.StatusCode)
	}
	if got := w.metrics(); got["alink_draining"] != "1" {
		t.Errorf("alink_draining is %s", got["alink_draining"])
	}
}
