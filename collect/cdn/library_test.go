package cdn

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus"

	"kith/workspace"
)

// books hold one snapshot.
type books struct{ snapshot *workspace.Snapshot }

func (b books) Current() *workspace.Snapshot { return b.snapshot }

func onBooks(t *testing.T, files fstest.MapFS) *CDN {
	t.Helper()
	s := &workspace.Snapshot{Number: 1, Sources: []workspace.Source{{ID: "s1", Enabled: true, WriteKeys: []string{"web"}}}}
	s.Seal()
	c, err := New(Config{Workspace: books{s}})
	if err != nil {
		t.Fatal(err)
	}
	if c.library, err = openLibrary(files); err != nil {
		t.Fatal(err)
	}
	return c
}

func get(c *CDN, host, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://"+host+path, nil))
	return w
}

// TestWithoutLibrary: a binary that was built without Node says how to build it.
func TestWithoutLibrary(t *testing.T) {
	c := onBooks(t, fstest.MapFS{"web/dist/README": {Data: []byte("nothing here")}})
	for _, path := range []string{"/analytics.js/v1/web/analytics.min.js", "/analytics-next/bundles/1.bundle.0.js"} {
		if w := get(c, "in.example.com", path); w.Code != 503 || !strings.Contains(w.Body.String(), "make build") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := get(c, "in.example.com", "/v1/projects/web/settings"); w.Code != 200 {
		t.Errorf("settings: %d", w.Code)
	}
}

func library1() fstest.MapFS {
	return fstest.MapFS{
		"web/dist/standalone.js":      {Data: []byte("k=\"__WRITE_KEY__\";c=\"https://cdn.segment.com\";a=\"api.segment.io/v1\";" + strings.Repeat("x", 1000) + "\n//# sourceMappingURL=standalone.js.map")},
		"web/dist/1.bundle.00.js":     {Data: []byte("one")},
		"web/dist/1.bundle.00.js.map": {Data: []byte("map")},
		"web/dist/README":             {Data: []byte("about")},
		"web/dist/LICENSE":            {Data: []byte("MIT")},
	}
}

func TestScriptIsSet(t *testing.T) {
	c := onBooks(t, library1())
	want := "k=\"web\";c=\"http://in.example.com\";a=\"in.example.com/v1\";" + strings.Repeat("x", 1000) + "\n"
	if got := get(c, "in.example.com", "/analytics.js/v1/web/analytics.min.js").Body.String(); !strings.HasSuffix(got, "*/\n"+want) {
		t.Errorf("got %s", got)
	}
	// Who comes while another script is being packed gets it unpacked, at once.
	c.library.packing.Lock()
	defer c.library.packing.Unlock()
	r := httptest.NewRequest("GET", "http://other.example.com/analytics.js/v1/web/analytics.min.js", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Encoding") != "" || !strings.Contains(w.Body.String(), `c="http://other.example.com"`) {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	// One without a packed twin is packed when its name asks for it.
	if w := get(c, "in.example.com", "/analytics-next/bundles/1.bundle.00.js.gz"); w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// TestCacheIsBounded: made-up hosts cannot fill the memory, and get what is
// theirs, from many sides at once.
func TestCacheIsBounded(t *testing.T) {
	c := onBooks(t, library1())
	emptied := prometheus.NewCounter(prometheus.CounterOpts{Name: "emptied"})
	c.scripts = newCache(10<<10, emptied)
	c.documents = newCache(10<<10, emptied)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 200 {
				host := fmt.Sprintf("h%d-%d.example.com", n, i)
				for _, path := range []string{"/analytics.js/v1/web/analytics.min.js", "/v1/projects/web/settings"} {
					if w := get(c, host, path); w.Code != 200 || !strings.Contains(w.Body.String(), host) {
						t.Errorf("%s%s: %d %s", host, path, w.Code, w.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, cache := range []*cache{c.scripts, c.documents} {
		size := 0
		for _, f := range cache.files {
			size += f.size()
		}
		if size != cache.held || size > cache.limit || size == 0 {
			t.Errorf("%d bytes are held, counted as %d, with a limit of %d", size, cache.held, cache.limit)
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(emptied)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].Metric[0].Counter.GetValue() == 0 {
		t.Errorf("nothing was emptied, or not counted: %v %v", families, err)
	}
}

func TestCacheVersions(t *testing.T) {
	c := newCache(1000, prometheus.NewCounter(prometheus.CounterOpts{Name: "emptied"}))
	one, two := newFile(typeText, keepShortly, []byte("one"), nil), newFile(typeText, keepShortly, []byte("two"), nil)
	c.put(2, "a", two)
	c.put(1, "a", one) // late
	if c.get(2, "a") != two || c.get(1, "a") != nil || c.get(3, "a") != nil {
		t.Error("a file of another version")
	}
	c.put(3, "b", one)
	if c.get(3, "a") != nil || c.held != 3 {
		t.Error("a file of an older version is kept")
	}
	c.put(3, "c", newFile(typeText, keepShortly, make([]byte, 1001), nil))
	if c.get(3, "c") != nil || c.get(3, "b") != one {
		t.Error("a file that is too large drove the others out")
	}
}

// BenchmarkSettings is what a page costs here before its first event.
func BenchmarkSettings(b *testing.B) {
	s := &workspace.Snapshot{Number: 1, Sources: []workspace.Source{{ID: "s1", Enabled: true, WriteKeys: []string{"web"}}}}
	s.Seal()
	c, err := New(Config{Workspace: books{s}})
	if err != nil {
		b.Fatal(err)
	}
	h := c.Handler()
	r := httptest.NewRequest("GET", "http://in.example.com/v1/projects/web/settings", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
