package server

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alink-runtime/alink/engine"
)

// metricsType is the content type of Prometheus' text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// family is the metrics of one name.
type family struct {
	name, kind, help string
	label            string // "" for a family of one sample
	samples          map[string]float64
}

func single(name, kind, help string, value float64) family {
	return family{name, kind, help, "", map[string]float64{"": value}}
}

// The kinds of metrics.
const (
	gauge   = "gauge"
	counter = "counter"
)

// families are all metrics, as they are now. docs/operations.md lists them.
func (s *Server) families() []family {
	t := s.jobs.totals()
	workers := s.engine.WorkerCounts()
	artifacts, uploads := s.sessions.heldBytes()
	ended, in, out, bytes := map[string]float64{}, map[string]float64{}, map[string]float64{}, map[string]float64{}
	late, failed, seconds := int64(0), int64(0), map[string]map[string]float64{}
	for _, state := range []engine.State{engine.Succeeded, engine.Failed, engine.Cancelled} {
		ended[string(state)] = float64(t.states[state])
	}
	for name, r := range t.rows {
		in[name], out[name], bytes[name] = float64(r.in), float64(r.out), float64(r.bytesOut)
		late += r.late
		failed += r.failed
		for part, spent := range r.seconds {
			if seconds[part] == nil {
				seconds[part] = map[string]float64{}
			}
			seconds[part][name] = spent
		}
	}
	draining := 0.0
	if s.Draining() {
		draining = 1
	}
	return []family{
		{"alink_build_info", gauge, "1, with the server's version.", "version", map[string]float64{s.options.Version: 1}},
		single("alink_uptime_seconds", gauge, "Time since the server was started.", time.Since(s.began).Seconds()),
		single("alink_draining", gauge, "1 when the server takes no new jobs.", draining),
		single("alink_sessions", gauge, "Clients that are connected.", float64(s.sessions.count())),
		single("alink_jobs_running", gauge, "Jobs that run.", float64(t.states[engine.Running])),
		single("alink_jobs_started_total", counter, "Jobs that were started.", float64(t.started)),
		{"alink_jobs_ended_total", counter, "Jobs that have ended, by their state.", "state", ended},
		{"alink_rows_in_total", counter, "Rows that operators have read, by operator.", "operator", in},
		{"alink_rows_out_total", counter, "Rows that operators have written, by operator.", "operator", out},
		{"alink_bytes_out_total", counter, "Bytes of the rows that operators have written, by operator.", "operator", bytes},
		single("alink_late_rows_total", counter, "Rows that came after their window had ended.", float64(late)),
		single("alink_failed_rows_total", counter, "Rows on which functions have failed, and that gave NULL or were left out.", float64(failed)),
		{"alink_function_python_seconds_total", counter, "Time that Python functions themselves have taken, by operator.", "operator", seconds["python"]},
		{"alink_function_conversion_seconds_total", counter, "Time that the conversion of their values has taken, by operator.", "operator", seconds["conversion"]},
		{"alink_function_transfer_seconds_total", counter, "Time of batches on the way to workers and back, by operator.", "operator", seconds["transfer"]},
		{"alink_function_load_seconds_total", counter, "Time that the loading of functions has taken, by operator.", "operator", seconds["load"]},
		{"alink_function_queue_seconds_total", counter, "Time that input of Python functions waited for a worker, by operator.", "operator", seconds["queue"]},
		{"alink_lane", gauge, "1, with the lane that workers are reached by.", "lane", map[string]float64{s.options.Engine.Lane(): 1}},
		{"alink_workers", gauge, "Workers that live, by what they do.", "state", map[string]float64{
			"busy": float64(workers.Busy), "idle": float64(workers.Running - workers.Busy),
		}},
		{"alink_memory_control", gauge, "1, with what keeps the limits of workers' memory: cgroup2, cgroup1, watch or none.", "kind", map[string]float64{
			cmp.Or(s.engine.MemoryControl().Kind, "unknown"): 1,
		}},
		single("alink_worker_memory_limit_bytes", gauge, "Bytes that workers may hold together.", float64(s.engine.WorkerMemory().LimitBytes)),
		single("alink_worker_memory_bytes", gauge, "Bytes that the workers which live may hold: the sum of their limits.", float64(s.engine.WorkerMemory().Bytes)),
		single("alink_workers_waiting", gauge, "Workers that wait for memory to be started.", float64(s.engine.WorkerMemory().Waiting)),
		{"alink_sandbox", gauge, "1, with how far workers are shut in where functions do not say: L0 to L3.", "level", map[string]float64{
			cmp.Or(s.engine.Sandbox().Level, "unknown"): 1,
		}},
		single("alink_zygotes", gauge, "Processes that have imported what workers need, and that workers are forked from.", float64(workers.Zygotes)),
		single("alink_workers_started_total", counter, "Workers that were started.", float64(workers.Started)),
		single("alink_worker_deaths_total", counter, "Workers that died without being told to end.", float64(workers.Deaths)),
		single("alink_segments", gauge, "Segments of memory that the engine shares with workers.", float64(workers.Segments)),
		single("alink_arrow_bytes", gauge, "Bytes of Arrow buffers in the engine's process, garbage included.", float64(s.engine.ArrowBytes())),
		single("alink_table_bytes", gauge, "Bytes of the tables that clients have sent or keep with cache(), in memory and on disk.", float64(s.engine.TableBytes())),
		single("alink_upload_bytes", gauge, "Bytes of the tables that clients have sent.", float64(uploads)),
		single("alink_artifact_bytes", gauge, "Bytes of functions, modules and models that clients have sent.", float64(artifacts)),
	}
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// writeMetrics writes families in Prometheus' text format.
func writeMetrics(w io.Writer, families []family) error {
	var b strings.Builder
	for _, f := range families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, value := range slices.Sorted(maps.Keys(f.samples)) {
			b.WriteString(f.name)
			if f.label != "" {
				fmt.Fprintf(&b, `{%s="%s"}`, f.label, labelEscapes.Replace(value))
			}
			b.WriteString(" " + strconv.FormatFloat(f.samples[value], 'g', -1, 64) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
