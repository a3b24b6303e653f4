package envmgr

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
)

// twoEnvironments are in a cache that nobody uses; the second was used last.
func twoEnvironments(t *testing.T) (cache string, first, second string) {
	t.Helper()
	newIndex(t)
	cache = t.TempDir()
	s := open(t, Options{CacheDir: cache})
	first = resolve(t, s, Spec{Requirements: []string{"colour"}, AskedBy: "f  (job.py)"}).ID
	second = resolve(t, s, Spec{Requirements: []string{"harness-lib"}, AskedBy: "g (job.py)"}).ID
	must(t, s.Close())
	setLastUse(t, s, first, 48*time.Hour)
	setLastUse(t, s, second, time.Hour)
	return cache, first, second
}

func setLastUse(t *testing.T, s *Store, id string, ago time.Duration) {
	t.Helper()
	at := time.Now().Add(-ago)
	must(t, os.Chtimes(filepath.Join(s.envs, id, marker), at, at))
}

func ids(list []Entry) []string {
	out := []string{}
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}

func TestList(t *testing.T) {
	cache, first, second := twoEnvironments(t)
	s := open(t, Options{CacheDir: cache})
	must(t, os.Mkdir(filepath.Join(s.envs, "not-whole"), 0o700))
	list, err := s.List()
	must(t, err)
	if !slices.Equal(ids(list), []string{second, first}) {
		t.Fatalf("%+v", list)
	}
	e := list[1]
	if e.Packages != 1 || !slices.Equal(e.Requirements, []string{"colour"}) || !slices.Equal(e.AskedBy, []string{"f (job.py)"}) ||
		e.SizeBytes < 4096 || e.InUse || !e.InterpreterOK || e.Python == "" || e.Created.IsZero() || time.Since(e.LastUsed) < 47*time.Hour {
		t.Errorf("%+v", e)
	}

	// Somebody else asks for it: the latest stands first, each once.
	user := open(t, Options{CacheDir: cache})
	for _, who := range []string{"h (a.py)", "f (job.py)", "", "h (a.py)"} {
		resolve(t, user, Spec{Requirements: []string{"colour"}, AskedBy: who})
	}
	e, err = s.Get(first[:12])
	must(t, err)
	if !slices.Equal(e.AskedBy, []string{"h (a.py)", "f (job.py)"}) || !e.InUse {
		t.Errorf("%+v", e)
	}
	must(t, user.Close())
	if e, err = s.Get(first); err != nil || e.InUse {
		t.Errorf("%+v %v", e, err)
	}
}

func TestGetWhatIsNotThere(t *testing.T) {
	s := open(t, Options{})
	_, err := s.Get("beef")
	wantDiagnostic(t, err, diag.BadOption, `there is no environment "beef"`, "pyrunner env ls")
	_, err = s.Get("")
	wantDiagnostic(t, err, diag.BadOption, `there is no environment ""`)
}

func TestRemoveOnlyWhatNobodyUses(t *testing.T) {
	cache, first, _ := twoEnvironments(t)
	user := open(t, Options{CacheDir: cache})
	env := resolve(t, user, Spec{Requirements: []string{"colour"}})
	s := open(t, Options{CacheDir: cache})
	wantDiagnostic(t, s.Remove(first), diag.EnvironmentBusy, "is in use")
	if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
		t.Errorf("the environment says %q", got)
	}
	must(t, user.Close())
	must(t, s.Remove(first))
	if _, err := os.Stat(filepath.Join(s.envs, first)); !os.IsNotExist(err) {
		t.Error(err)
	}
	// It is made again when it is asked for, by a store that has had it too.
	again := resolve(t, user, Spec{Requirements: []string{"colour"}})
	if got := python(t, again, "import colour; print(colour.version)"); got != "2.0" || again.ID != first {
		t.Errorf("the environment %s says %q", again.ID, got)
	}
}

func TestCollect(t *testing.T) {
	cache, first, second := twoEnvironments(t)
	s := open(t, Options{CacheDir: cache})
	list, err := s.List()
	must(t, err)
	size := list[0].SizeBytes // of the second; it alone fits

	for name, c := range map[string]struct {
		collection Collection
		gone       []string
	}{
		"all fit":      {Collection{BytesMax: 1 << 40, DryRun: true}, []string{}},
		"no bound":     {Collection{BytesMax: -1, DryRun: true}, []string{}},
		"one fits":     {Collection{BytesMax: size, DryRun: true}, []string{first}},
		"nothing fits": {Collection{BytesMax: 0, DryRun: true}, []string{first, second}},
		"the old one":  {Collection{BytesMax: -1, UnusedFor: 24 * time.Hour, DryRun: true}, []string{first}},
	} {
		gone, stay, err := s.Collect(t.Context(), c.collection)
		if err != nil || !slices.Equal(ids(gone), c.gone) || len(gone)+len(stay) != 2 {
			t.Errorf("%s: %v %v", name, ids(gone), err)
		}
	}

	user := open(t, Options{CacheDir: cache})
	resolve(t, user, Spec{Requirements: []string{"colour"}})
	setLastUse(t, s, first, 48*time.Hour)
	gone, stay, err := s.Collect(t.Context(), Collection{BytesMax: 0})
	must(t, err)
	if !slices.Equal(ids(gone), []string{second}) || !slices.Equal(ids(stay), []string{first}) {
		t.Errorf("gone %v, staying %v: the first is in use", ids(gone), ids(stay))
	}
	must(t, user.Close())
	if gone, _, err = s.Collect(t.Context(), Collection{BytesMax: 0}); err != nil || !slices.Equal(ids(gone), []string{first}) {
		t.Errorf("gone %v, %v", ids(gone), err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

func TestPythons(t *testing.T) {
	list := open(t, Options{}).Pythons(t.Context())
	if len(list) == 0 || list[0].Version == "" || !filepath.IsAbs(list[0].Path) {
		t.Errorf("%+v", list)
	}
}
