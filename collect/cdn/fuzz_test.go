package cdn

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"kith/workspace"
)

// FuzzBase sends whatever hosts and schemes: what gets into settings and
// scripts is a URL of a host, or nothing.
func FuzzBase(f *testing.F) {
	for _, seed := range [][3]string{
		{"in.example.com", "", ""}, {"[::1]:8080", "https", "a.example.com, b.example.com:99"}, {`a"b`, "https", `</script>`},
		{"a\\b", "javascript", "a\nb"}, {"..", "http", "a b"}, {"%00", "", "ä"}, {"a:99999", "", "[::1"}, {"-", "", "a@b"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := &workspace.Snapshot{Number: 1, Sources: []workspace.Source{{ID: "s1", Enabled: true, WriteKeys: []string{"web"}}}}
	s.Seal()
	c, err := New(Config{Workspace: books{s}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		f.Fatal(err)
	}
	if c.library, err = openLibrary(fstest.MapFS{"web/dist/standalone.js": {Data: []byte(`x="https://cdn.segment.com";y="api.segment.io/v1";`)}}); err != nil {
		f.Fatal(err)
	}
	h := c.Handler()
	f.Fuzz(func(t *testing.T, host, proto, forwarded string) {
		answer := func(path string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", path, nil)
			r.Host, r.RemoteAddr = host, "192.0.2.7:1234"
			r.Header.Set("X-Forwarded-Proto", proto)
			r.Header.Set("X-Forwarded-Host", forwarded)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		settings, script := answer("/v1/projects/web/settings"), answer("/analytics.js/v1/web/analytics.min.js")
		if settings.Code == 400 && script.Code == 400 {
			return
		}
		var d struct {
			Integrations map[string]struct{ APIHost, Protocol string }
		}
		if err := json.Unmarshal(settings.Body.Bytes(), &d); err != nil || settings.Code != 200 || script.Code != 200 {
			t.Fatalf("%d, %d: %v", settings.Code, script.Code, err)
		}
		base, _ := strings.CutSuffix(d.Integrations["Segment.io"].APIHost, "/v1")
		u, err := url.Parse("https://" + base)
		if err != nil || u.Host != base || base == "" || strings.ContainsAny(base, "\"'\\<>/ \n") {
			t.Errorf("the host is %q: %v", base, err)
		}
		if body := script.Body.String(); !strings.HasSuffix(body, `://`+base+`";y="`+base+`/v1";`) || strings.Count(body, `"`) != 4 {
			t.Errorf("the script is %s", body)
		}
	})
}
