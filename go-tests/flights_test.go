package gotests_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// The functions of the flights job, as source text.
const (
	nearHolidaySource = `
import datetime

class near_holiday:
    def setup(self):
        import holidays, numpy
        assert numpy.__version__.startswith("2.2."), numpy.__version__
        self.calendar = holidays.country_holidays("US")
        self.day = datetime.timedelta(days=1)

    def __call__(self, date):
        return any(d in self.calendar for d in (date, date - self.day, date + self.day))
`
	crosswindSource = `
import numpy as np

def crosswind(origin, wind_dir, wind_speed):
    assert np.__version__ == "2.1.3", np.__version__
    runways = {"EWR": (26, 95), "LGA": (31, 121), "JFK": (31, 121)}
    headings = np.array([runways[airport] for airport in origin.tolist()], dtype=float)
    angles = np.radians(wind_dir[:, np.newaxis] - headings.reshape(-1, 2))
    return wind_speed * np.abs(np.sin(angles)).min(axis=1)
`
	trainSource = `
import numpy as np
import pyarrow as pa

def train(batches):
    from sklearn.ensemble import HistGradientBoostingClassifier
    table = pa.Table.from_batches(batches)
    features = np.column_stack([table.column(name).to_numpy() for name in table.column_names[1:]])
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=0)
    return model.fit(features, table.column("late").to_numpy())
`
	scoreSource = `
import numpy as np

def late_probability(*features, model):
    columns = [np.ma.filled(np.ma.asarray(f, dtype=float), np.nan) for f in features]
    return model.predict_proba(np.column_stack(columns))[:, 1]
`
)

var features = []string{"hour", "month", "distance", "near_holiday", "crosswind"}

func node(id string, op plan.Op, inputs ...string) plan.Node {
	return plan.Node{ID: id, Op: op, Inputs: inputs}
}

func named(name string, e plan.Expr) plan.NamedExpr { return plan.NamedExpr{Name: name, Expr: e} }

func source(name, text string, kind plan.FunctionKind, result, environment string) *plan.Function {
	return &plan.Function{
		Name: name, Kind: kind, Result: result, Environment: environment, Code: plan.Code{Source: text, Name: name},
	}
}

// featureNodes end with node "features": flights with weather and what the two
// functions add.
func featureNodes(data string) []plan.Node {
	parquet := func(name string) plan.ScanParquet {
		return plan.ScanParquet{Files: plan.Files{Path: filepath.Join(data, name)}}
	}
	return []plan.Node{
		node("flights", parquet("flights.parquet")),
		node("weather all", parquet("weather.parquet")),
		node("weather", plan.Project{Exprs: []plan.NamedExpr{
			named("origin", plan.Column("origin")), named("time_hour", plan.Column("time_hour")),
			named("wind_dir", plan.Column("wind_dir")), named("wind_speed", plan.Column("wind_speed")),
		}}, "weather all"),
		node("joined", plan.Join{
			On: []plan.JoinKey{{Left: "origin", Right: "origin"}, {Left: "time_hour", Right: "time_hour"}}, How: plan.Left,
		}, "flights", "weather"),
		node("dated", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("date", plan.SQL("make_date(year, month, day)"))}}, "joined"),
		node("features", plan.Project{Keep: true, Exprs: []plan.NamedExpr{
			named("near_holiday", plan.Call("near_holiday", plan.Column("date"))),
			named("crosswind", plan.Call("crosswind", plan.Column("origin"), plan.Column("wind_dir"), plan.Column("wind_speed"))),
		}}, "dated"),
	}
}

func flightsPlan(t *testing.T, nodes ...plan.Node) *plan.Plan {
	t.Helper()
	python := testPython(t)
	environment := func(requirements ...string) *plan.Environment {
		return &plan.Environment{BaseInterpreter: python, Requirements: requirements}
	}
	return &plan.Plan{
		Version: plan.Version,
		Nodes:   append(featureNodes(filepath.Join(root(t), "examples", "data")), nodes...),
		Functions: map[string]*plan.Function{
			"near_holiday": source("near_holiday", nearHolidaySource, plan.RowFunction, "boolean", "calendar"),
			"crosswind":    source("crosswind", crosswindSource, plan.NumpyFunction, "double", "wind"),
			"train":        source("train", trainSource, plan.FitFunction, "", "learning"),
			"score":        source("late_probability", scoreSource, plan.NumpyFunction, "double", "learning"),
		},
		Environments: map[string]*plan.Environment{
			"calendar": environment("holidays==0.80", "numpy==2.2.*"),
			"wind":     environment("numpy==2.1.3"),
			"learning": environment("scikit-learn==1.7.2", "numpy==2.2.*"),
		},
	}
}

func asDoubles() []plan.Expr {
	out := make([]plan.Expr, len(features))
	for i, name := range features {
		out[i] = plan.Cast(plan.Column(name), "double")
	}
	return out
}

// train runs the job that fits a model and keeps the model as an artifact.
func train(t *testing.T, e *engine.Engine) string {
	t.Helper()
	examples := []plan.NamedExpr{named("late", plan.SQL("arr_delay > 15"))}
	for i, e := range asDoubles() {
		examples = append(examples, named(features[i], e))
	}
	p := flightsPlan(t,
		node("arrived", plan.Filter{Predicate: plan.SQL("arr_delay IS NOT NULL")}, "features"),
		node("examples", plan.Project{Exprs: examples}, "arrived"),
		node("fitted", plan.Fit{Function: "train"}, "examples"),
		node("out", plan.Collect{}, "fitted"),
	)
	var model string
	run(t, e, p, func(batch arrow.RecordBatch) {
		var err error
		if model, err = e.PutArtifact(batch.Column(0).(*array.LargeBinary).Value(0)); err != nil {
			t.Fatal(err)
		}
	})
	if model == "" {
		t.Fatal("no model came back")
	}
	return model
}

// run runs a plan whose output is "out" and gives each batch to f.
func run(t *testing.T, e *engine.Engine, p *plan.Plan, f func(arrow.RecordBatch)) {
	t.Helper()
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := read(job, f); err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func read(job *engine.Job, f func(arrow.RecordBatch)) error {
	reader, err := job.Result("out")
	if err != nil {
		return err
	}
	defer reader.Release()
	for reader.Next() {
		f(reader.RecordBatch())
	}
	return reader.Err()
}

// TestFlights runs the flights job from Go and checks every row against what
// Go computes itself.
func TestFlights(t *testing.T) {
	e := openEngine(t)
	model := train(t, e)
	scored := filepath.Join(t.TempDir(), "scored.parquet")
	p := flightsPlan(t,
		node("scored", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("late_probability", plan.Call("score", asDoubles()...))}}, "features"),
		node("written", plan.WriteParquet{Output: plan.Output{Path: scored, Mode: plan.ErrorIfExists}}, "scored"),
	)
	p.Functions["score"].Models = map[string]string{"model": model}
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkScored(t, e, scored)
}

func checkScored(t *testing.T, e *engine.Engine, path string) {
	t.Helper()
	var rows, late, arrived int64
	var foreseen float64
	run(t, e, &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
		node("scored", plan.ScanParquet{Files: plan.Files{Path: path}}), node("out", plan.Collect{}, "scored"),
	}}, func(batch arrow.RecordBatch) {
		c := columnsOf(batch)
		for i := range int(batch.NumRows()) {
			if problem := c.checkRow(i); problem != "" {
				t.Fatalf("row %d: %s", rows+int64(i), problem)
			}
			if c.delay.IsValid(i) {
				arrived++
				foreseen += c.probability.Value(i)
				if c.delay.Value(i) > 15 {
					late++
				}
			}
		}
		rows += batch.NumRows()
	})
	if rows != 336_776 {
		t.Errorf("%d flights of 336,776", rows)
	}
	if share, mean := float64(late)/float64(arrived), foreseen/float64(arrived); math.Abs(share-mean) > 0.01 {
		t.Errorf("%.3f of the flights were late; the model says %.3f", share, mean)
	}
}

type flightColumns struct {
	date        *array.Date32
	origin      *array.String
	holiday     *array.Boolean
	direction   arrow.Array
	speed, wind *array.Float64
	delay       *array.Int32
	probability *array.Float64
}

func columnsOf(batch arrow.RecordBatch) flightColumns {
	column := func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) }
	return flightColumns{
		date: column("date").(*array.Date32), origin: column("origin").(*array.String),
		holiday: column("near_holiday").(*array.Boolean), direction: column("wind_dir"),
		speed: column("wind_speed").(*array.Float64), wind: column("crosswind").(*array.Float64),
		delay: column("arr_delay").(*array.Int32), probability: column("late_probability").(*array.Float64),
	}
}

// holidays2013 are the days off in the United States that the package knows
// for the year, written down from the calendar.
var holidays2013 = strings.Fields("01-01 01-21 02-18 05-27 07-04 09-02 10-14 11-11 11-28 12-25")

func nearHoliday(day time.Time) bool {
	for _, h := range append(holidays2013, "13-01") { // and the next New Year's Day
		text := "2013-" + h
		if h == "13-01" {
			text = "2014-01-01"
		}
		holiday, err := time.Parse(time.DateOnly, text)
		if err != nil {
			panic(err)
		}
		if math.Abs(day.Sub(holiday).Hours()) <= 24 {
			return true
		}
	}
	return false
}

func (c flightColumns) checkRow(i int) string {
	day := c.date.Value(i).ToTime()
	if got, want := c.holiday.Value(i), nearHoliday(day); c.holiday.IsNull(i) || got != want {
		return fmt.Sprintf("near_holiday of %s is %v", day.Format(time.DateOnly), got)
	}
	if c.direction.IsNull(i) || c.speed.IsNull(i) {
		if c.wind.IsValid(i) {
			return "crosswind is known where the wind is not"
		}
	} else if want := crosswind(c.origin.Value(i), number(c.direction, i), c.speed.Value(i)); math.Abs(c.wind.Value(i)-want) > 1e-9 {
		return fmt.Sprintf("crosswind is %v, want %v", c.wind.Value(i), want)
	}
	if p := c.probability.Value(i); c.probability.IsNull(i) || p < 0 || p > 1 {
		return fmt.Sprintf("the probability is %v", p)
	}
	return ""
}

func number(column arrow.Array, i int) float64 {
	switch column := column.(type) {
	case *array.Int32:
		return float64(column.Value(i))
	case *array.Float64:
		return column.Value(i)
	}
	return math.NaN()
}

func crosswind(origin string, direction, speed float64) float64 {
	headings := map[string][2]float64{"EWR": {26, 95}, "LGA": {31, 121}, "JFK": {31, 121}}[origin]
	least := math.Inf(1)
	for _, heading := range headings {
		least = min(least, math.Abs(math.Sin((direction-heading)*math.Pi/180)))
	}
	return speed * least
}
