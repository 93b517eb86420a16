package cdn_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"kith/collect/cdn"
	"kith/workspace"
)

// books hand out a snapshot that can be replaced.
type books struct {
	now atomic.Pointer[workspace.Snapshot]
}

func (b *books) Current() *workspace.Snapshot { return b.now.Load() }

func (b *books) set(s workspace.Snapshot) {
	s.Seal()
	b.now.Store(&s)
}

func newCDN(t *testing.T, s workspace.Snapshot, change func(*cdn.Config)) *cdn.CDN {
	t.Helper()
	b := &books{}
	b.set(s)
	config := cdn.Config{Workspace: b}
	if change != nil {
		change(&config)
	}
	c, err := cdn.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const key = "web-key-0123456789"

func house() workspace.Snapshot {
	return workspace.Snapshot{
		Number: 1,
		Sources: []workspace.Source{
			{ID: "s1", Slug: "web", Enabled: true, WriteKeys: []string{key, "second"}},
			{ID: "s2", Slug: "old", Enabled: false, WriteKeys: []string{"disabled-key"}},
		},
		Destinations: []workspace.Destination{
			{ID: "d1", SourceID: "s1", MetadataID: "webhook", Enabled: true}, {ID: "d2", SourceID: "s1", MetadataID: "webhook", Enabled: true},
			{ID: "d3", SourceID: "s1", MetadataID: "mail", Enabled: true}, {ID: "d4", SourceID: "s1", MetadataID: "off"}, {ID: "d5", SourceID: "s2", MetadataID: "other", Enabled: true},
		},
	}
}

// ask sends a request; header is names and values in turn.
func ask(h http.Handler, method, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestSettingsDocument pins the smallest document, byte by byte.
func TestSettingsDocument(t *testing.T) {
	c := newCDN(t, house(), func(c *cdn.Config) {
		c.PublicURL = "https://in.example.com"
		c.Integration = func(id string) string { return map[string]string{"webhook": "Webhooks"}[id] }
	})
	want := `{"integrations":{"Segment.io":{"apiKey":"web-key-0123456789","apiHost":"in.example.com/v1","unbundledIntegrations":["Webhooks","mail"],` +
		`"addBundledMetadata":true,"maybeBundledConfigIds":{},"versionSettings":{"version":"4.4.7","componentTypes":["browser"]}}},` +
		`"plan":{"track":{"__default":{"enabled":true,"integrations":{}}},"identify":{"__default":{"enabled":true}},"group":{"__default":{"enabled":true}}},` +
		`"edgeFunction":{},"middlewareSettings":{},"enabledMiddleware":{},"metrics":{"sampleRate":0},"legacyVideoPluginsEnabled":false,"remotePlugins":[]}`
	for _, path := range []string{"/v1/projects/", "/projects/"} {
		for _, end := range []string{"/settings", "/settings/"} {
			if got := string(fetch(t, c, path+key+end)); got != want {
				t.Errorf("GET %s…%s\n got %s\nwant %s", path, end, got, want)
			}
		}
	}
	if got := string(fetch(t, c, "/v1/projects/second/settings")); got != strings.Replace(want, key, "second", 1) {
		t.Errorf("the second write key is told %s", got)
	}
	if got := fetch(t, c, "/v1/projects/disabled-key/settings"); len(lint(got, "disabled-key")) > 0 {
		t.Errorf("a disabled source's page breaks: %s", got)
	}
}

func TestSettingsAnswers(t *testing.T) {
	c := newCDN(t, house(), nil).Handler()
	url := "http://in.example.com/v1/projects/" + key + "/settings"
	first := ask(c, "GET", url, "Origin", "https://shop.example.com")
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "private, max-age=60", "Access-Control-Allow-Origin": "https://shop.example.com",
		"Access-Control-Allow-Credentials": "true", "Cross-Origin-Resource-Policy": "cross-origin", "Vary": "Origin", "Location": "", "Content-Encoding": "",
	} {
		if got := first.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	tag := first.Header().Get("ETag")
	if !regexp.MustCompile(`^"[0-9a-f]{24}"$`).MatchString(tag) {
		t.Errorf("ETag: %s", tag)
	}
	for _, have := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		w := ask(c, "GET", url, "If-None-Match", have)
		if w.Code != 304 || w.Body.Len() > 0 || w.Header().Get("ETag") != tag || w.Header().Get("Cache-Control") == "" || w.Header().Get("Vary") != "Origin" {
			t.Errorf("If-None-Match %s: %d %q %v", have, w.Code, w.Body, w.Header())
		}
	}
	if w := ask(c, "GET", url, "If-None-Match", `"other"`); w.Code != 200 || w.Body.Len() == 0 {
		t.Errorf("another version: %d", w.Code)
	}
	if w := ask(c, "HEAD", url); w.Code != 200 || w.Header().Get("Content-Length") != first.Header().Get("Content-Length") || w.Header().Get("ETag") != tag {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	w := ask(c, "OPTIONS", url, "Origin", "null", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "cache-control")
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "null" || w.Header().Get("Access-Control-Allow-Headers") != "cache-control" {
		t.Errorf("OPTIONS: %d %v", w.Code, w.Header())
	}
	if w := ask(c, "POST", url); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	w = ask(c, "GET", "http://in.example.com/v1/projects/secret-of-somebody/settings", "Origin", "https://shop.example.com")
	body := w.Body.String()
	if w.Code != 404 || w.Header().Get("Access-Control-Allow-Origin") == "" || w.Header().Get("Cache-Control") != "no-store" ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || !strings.Contains(body, "secr…") || strings.Contains(body, "secret") {
		t.Errorf("an unknown write key: %d %v %s", w.Code, w.Header(), body)
	}
	if json.Valid(w.Body.Bytes()) {
		t.Errorf("an SDK could take %s for settings", body)
	}
	if w := ask(c, "GET", "http://in.example.com/v1/projects/%0Ax23456789012345/settings"); w.Code != 404 || !strings.HasPrefix(w.Body.String(), "no source has the write key …:") {
		t.Errorf("an ugly write key: %d %s", w.Code, w.Body)
	}
}

// TestSettingsFollowTheWorkspace: a change is in the next answer.
func TestSettingsFollowTheWorkspace(t *testing.T) {
	b := &books{}
	b.set(house())
	c, err := cdn.New(cdn.Config{Workspace: b})
	if err != nil {
		t.Fatal(err)
	}
	before := string(fetch(t, c, "/v1/projects/"+key+"/settings"))
	changed := house()
	changed.Number = 2
	changed.Sources[0].Schema.Track.AllowUnplannedEvents = false
	changed.TrackingPlans = []workspace.TrackingPlan{{ID: "tp", SourceIDs: []string{"s1"}, Rules: []workspace.Rule{
		{Type: "TRACK", Key: "Paid"}, {Type: "IDENTIFY"}, {Type: "PAGE", Key: "Home"}}}}
	b.set(changed)
	after := string(fetch(t, c, "/v1/projects/"+key+"/settings"))
	want := strings.Replace(before, `"__default":{"enabled":true,"integrations":{}}`, `"Paid":{"enabled":true,"integrations":{}},"__default":{"enabled":false,"integrations":{}}`, 1)
	if after != want {
		t.Errorf("got %s\nwant %s", after, want)
	}
}

func TestHTTPConfig(t *testing.T) {
	usual := `"408":"retry","410":"retry","429":"retry","460":"retry","501":"drop","505":"drop","511":"drop"`
	for declared, want := range map[string]string{
		``:                        ``,
		`{}`:                      ``,
		`nonsense`:                ``,
		`{"backoffConfig":"off"}`: ``,
		`{"rateLimitConfig":{"enabled":false,"maxRateLimitDuration":60}}`: `{"rateLimitConfig":{"enabled":false,"maxRateLimitDuration":60}}`,
		`{"backoffConfig":{}}`: `{"backoffConfig":{"enabled":true,"statusCodeOverrides":{` + usual + `}}}`,
		`{"backoffConfig":{"statusCodeOverrides":{"404":"retry","511":"retry"},"baseBackoffInterval":0.5,"unknownCodeBehavior":"drop"}}`: `{"backoffConfig":{"enabled":true,"baseBackoffInterval":0.5,"unknownCodeBehavior":"drop","statusCodeOverrides":{"404":"retry",` +
			strings.Replace(usual, `"511":"drop"`, `"511":"retry"`, 1) + `}}}`,
	} {
		s := house()
		s.Sources[0].Tracking.HTTPConfig = json.RawMessage(declared)
		text := string(fetch(t, newCDN(t, s, nil), "/v1/projects/"+key+"/settings"))
		_, got, found := strings.Cut(text, `"httpConfig":`)
		if found {
			got, _, _ = strings.Cut(got, `}},"plan"`)
		}
		if got != want {
			t.Errorf("declared %s\npublished %s\nwant %s", declared, got, want)
		}
	}
}

// TestBase is about who may say under which name the server is reached.
func TestBase(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, x := range []struct {
		name, public, host, remote string
		tls                        bool
		header                     [2]string // X-Forwarded-Proto, -Host
		want                       string
	}{
		{"as it came", "", "In.Example.com:8080", "198.51.100.1:9", false, [2]string{}, "http://in.example.com:8080"},
		{"over TLS", "", "in.example.com", "198.51.100.1:9", true, [2]string{}, "https://in.example.com"},
		{"IPv6", "", "[::1]:8080", "[::1]:9", false, [2]string{}, "http://[::1]:8080"},
		{"public URL", "https://public.example.com", "inside", "192.0.2.1:9", false, [2]string{"http", "other"}, "https://public.example.com"},
		{"of a stranger", "", "in.example.com", "198.51.100.1:9", false, [2]string{"https", "evil.example.com"}, "http://in.example.com"},
		{"of a proxy", "", "kith:8080", "192.0.2.1:9", false, [2]string{"https", "in.example.com"}, "https://in.example.com"},
		{"of a proxy behind TLS", "", "kith:8080", "192.0.2.1:9", true, [2]string{"http", ""}, "http://kith:8080"},
		{"added by a proxy", "", "kith", "[::ffff:192.0.2.1]:9", false, [2]string{"gopher, https", "evil.example.com, in.example.com"}, "https://in.example.com"},
		{"no host", "", "", "192.0.2.1:9", false, [2]string{}, ""},
		{"a quote", "", `a";alert(1)//`, "192.0.2.1:9", false, [2]string{}, ""},
		{"a path", "", `example.com/x`, "192.0.2.1:9", false, [2]string{}, ""},
		{"a user", "", `a@example.com`, "192.0.2.1:9", false, [2]string{}, ""},
		{"an ugly one of a proxy", "", "kith", "192.0.2.1:9", false, [2]string{"https", "</script>"}, ""},
	} {
		c := newCDN(t, house(), func(c *cdn.Config) { c.PublicURL, c.TrustedProxies = x.public, proxies })
		r := httptest.NewRequest("GET", "/v1/projects/"+key+"/settings", nil)
		r.Host, r.RemoteAddr, r.TLS = x.host, x.remote, nil
		if x.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for i, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host"} {
			if x.header[i] != "" {
				r.Header.Set(name, x.header[i])
			}
		}
		if got := c.Base(r); got != x.want {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, r)
		scheme, host, _ := strings.Cut(x.want, "://")
		switch {
		case x.want == "":
			if w.Code != 400 {
				t.Errorf("%s: %d %s", x.name, w.Code, w.Body)
			}
		case w.Code != 200 || !strings.Contains(w.Body.String(), `"apiHost":"`+host+`/v1"`) || strings.Contains(w.Body.String(), `"protocol":"http"`) != (scheme == "http"):
			t.Errorf("%s: %d %s", x.name, w.Code, w.Body)
		}
	}
}

// TestGzip: large documents are packed for who understands it.
func TestGzip(t *testing.T) {
	s := house()
	plan := workspace.TrackingPlan{ID: "tp", SourceIDs: []string{"s1"}}
	for i := range 200 {
		plan.Rules = append(plan.Rules, workspace.Rule{Type: "TRACK", Key: strings.Repeat("Event ", 3) + string(rune('A'+i))})
	}
	s.TrackingPlans = []workspace.TrackingPlan{plan}
	c := newCDN(t, s, nil).Handler()
	url := "http://in.example.com/v1/projects/" + key + "/settings"
	plain := ask(c, "GET", url)
	for accept, zipped := range map[string]bool{"gzip": true, "br, GZip;q=0.5, *": true, "br;q=1, gzip; q=0": false, "identity": false, "": false} {
		w := ask(c, "GET", url, "Accept-Encoding", accept)
		body := w.Body.Bytes()
		if (w.Header().Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q", accept, w.Header().Get("Content-Encoding"))
			continue
		}
		if got := w.Header().Values("Vary"); strings.Join(got, ",") != "Origin,Accept-Encoding" {
			t.Errorf("Vary: %q", got)
		}
		if zipped {
			if w.Header().Get("ETag") == plain.Header().Get("ETag") {
				t.Error("two representations have one strong tag")
			}
			body = unzip(t, body)
		}
		if !bytes.Equal(body, plain.Body.Bytes()) {
			t.Errorf("Accept-Encoding %q gets another document", accept)
		}
	}
	if w := ask(newCDN(t, house(), nil).Handler(), "GET", url, "Accept-Encoding", "gzip"); w.Header().Get("Content-Encoding") != "" {
		t.Error("a small document is packed, which makes it larger")
	}
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := newCDN(t, house(), func(c *cdn.Config) { c.Metrics = registry })
	fetch(t, c, "/v1/projects/"+key+"/settings")
	ask(c.Handler(), "GET", "http://in.example.com/v1/projects/nobody/settings")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.Counter.GetValue()
		}
	}
	if got["kith_cdn_answers_total settings 200"] != 1 || got["kith_cdn_answers_total settings 404"] != 1 {
		t.Errorf("%v", got)
	}
}

// built skips a test where analytics.js is not in the binary.
func built(t *testing.T, c *cdn.CDN) {
	t.Helper()
	w := ask(c.Handler(), "GET", "http://in.example.com/analytics.js/v1/"+key+"/analytics.min.js")
	if w.Code == http.StatusServiceUnavailable {
		if os.Getenv("KITH_TEST_NEED") == "all" {
			t.Fatal("analytics.js is not here: run make build")
		}
		t.Skip("needs analytics.js (make build)")
	}
}

// TestSharedCachesKeepWhatNobodyNamed: files that name a host which a request
// named are nothing for a cache in front; see also TestScript.
func TestSharedCachesKeepWhatNobodyNamed(t *testing.T) {
	public := newCDN(t, house(), func(c *cdn.Config) { c.PublicURL = "https://in.example.com" }).Handler()
	asked := newCDN(t, house(), func(c *cdn.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }).Handler()
	path := "http://in.example.com/v1/projects/" + key + "/settings"
	w := ask(public, "GET", path, "X-Forwarded-Host", "evil.example.com")
	if got := w.Header().Get("Cache-Control"); got != "public, max-age=60" || strings.Contains(w.Body.String(), "evil") {
		t.Errorf("with a public URL: %s, %s", got, w.Body)
	}
	w = ask(asked, "GET", path, "X-Forwarded-Host", "evil.example.com")
	if got := w.Header().Get("Cache-Control"); got != "private, max-age=60" || !strings.Contains(w.Body.String(), "evil") {
		t.Errorf("without one: %s, %s", got, w.Body)
	}
}

// TestScript looks at the real analytics.js.
func TestScript(t *testing.T) {
	c := newCDN(t, house(), nil)
	built(t, c)
	h := c.Handler()
	var script string
	for _, name := range []string{"analytics.min.js", "platform/analytics.min.js", "analytics.classic.js", "analytics.min.js.gz"} {
		w := ask(h, "GET", "http://in.example.com:8080/analytics.js/v1/"+key+"/"+name, "Origin", "https://shop.example.com")
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || w.Header().Get("Access-Control-Allow-Origin") == "" ||
			w.Header().Get("ETag") == "" || w.Header().Get("Cache-Control") != "private, max-age=300" {
			t.Fatalf("%s: %d %v", name, w.Code, w.Header())
		}
		body := w.Body.Bytes()
		if packed := strings.HasSuffix(name, ".gz"); packed != (w.Header().Get("Content-Encoding") == "gzip") {
			t.Errorf("%s: Content-Encoding %q", name, w.Header().Get("Content-Encoding"))
		} else if packed {
			body = unzip(t, body)
		}
		if script != "" && script != string(body) {
			t.Errorf("%s is another script", name)
		}
		script = string(body)
	}
	w := ask(h, "GET", "http://in.example.com:8080/analytics.js/v1/"+key+"/analytics.min.js", "Accept-Encoding", "gzip, br")
	if w.Header().Get("Content-Encoding") != "gzip" || string(unzip(t, w.Body.Bytes())) != script {
		t.Errorf("packed: %v", w.Header())
	}
	for _, want := range []string{`window.analyticsWriteKey="` + key + `"`, `"in.example.com:8080/v1"`, `"http://in.example.com:8080"`,
		`"http://in.example.com:8080/analytics-next/bundles/"`, `"http://in.example.com:8080/analytics-next/polyfill.min.js"`} {
		if !strings.Contains(script, want) {
			t.Errorf("the script has no %s", want)
		}
	}
	// What may stay: a link for people, the pattern of addresses that it replaces
	// by its own CDN, and the name of the integration.
	allowed := []string{"https://segment.com/docs/", "https://cdn.segment.(com|build)"}
	rest := strings.NewReplacer(allowed[0], "", allowed[1], "", ".includes(\"cdn.segment\")", "", "Segment.io", "").Replace(script)
	for _, host := range []string{"segment.com", "segment.io", "segment.build", "segmentapis", "cdnjs", "cloudflare", "unpkg", "jsdelivr"} {
		if i := strings.Index(rest, host); i >= 0 {
			t.Errorf("the script can reach %s: …%s…", host, rest[max(0, i-60):min(len(rest), i+60)])
		}
	}
	if strings.Contains(script, "sourceMappingURL") {
		t.Error("the script names a source map that is not its own")
	}
	for path, status := range map[string]int{
		"/analytics.js/v1/nobody/analytics.min.js": 404, "/analytics.js/v1/" + key + "/other.js": 404, "/analytics-next/bundles/standalone.js": 404,
		"/analytics-next/bundles/README": 404, "/analytics-next/bundles/1.bundle.0.js": 404, "/analytics-next/polyfill.min.js": 200,
		"/analytics-next/polyfill.min.js.gz": 200, "/analytics-next/LICENSE": 200,
	} {
		if w := ask(h, "GET", "http://in.example.com"+path); w.Code != status {
			t.Errorf("GET %s: %d, want %d", path, w.Code, status)
		}
	}
	// Every chunk that the script can ask for is there.
	names, hashes, found := strings.Cut(script, `}[t]||t)+".bundle."+{`)
	if !found {
		t.Fatal("the script's table of chunks was not found")
	}
	name := map[string]string{}
	for _, m := range regexp.MustCompile(`([0-9]+):"([A-Za-z-]+)"`).FindAllStringSubmatch(names[strings.LastIndexByte(names, '{'):], -1) {
		name[m[1]] = m[2]
	}
	hashes, _, _ = strings.Cut(hashes, "}")
	chunks := regexp.MustCompile(`([0-9]+):"([0-9a-f]{20})"`).FindAllStringSubmatch(hashes, -1)
	if len(chunks) < 5 {
		t.Fatalf("few chunks: %q", hashes)
	}
	for _, m := range chunks {
		file := cmp.Or(name[m[1]], m[1]) + ".bundle." + m[2] + ".js"
		plain := ask(h, "GET", "http://in.example.com/analytics-next/bundles/"+file)
		if plain.Code != 200 || plain.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || plain.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("%s: %d %v", file, plain.Code, plain.Header())
			continue
		}
		packed := ask(h, "GET", "http://in.example.com/analytics-next/bundles/"+file+".gz")
		if packed.Header().Get("Content-Encoding") != "gzip" || !bytes.Equal(unzip(t, packed.Body.Bytes()), plain.Body.Bytes()) {
			t.Errorf("%s.gz: %d %v", file, packed.Code, packed.Header())
		}
		if strings.Contains(plain.Body.String(), "segment.com") || strings.Contains(plain.Body.String(), "segment.io") {
			t.Errorf("%s can reach Segment", file)
		}
	}
}

func TestSnippet(t *testing.T) {
	text, err := cdn.Snippet("https://in.example.com/", key)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "<script>\n") || !strings.HasSuffix(text, "</script>\n") || strings.Contains(text, "segment.com") ||
		!strings.Contains(text, `("analytics", "web-key-0123456789", "https://in.example.com");`) || strings.Contains(text, "KEY") || strings.Contains(text, `"CDN"`) {
		t.Errorf("%s", text)
	}
	text, err = cdn.Snippet("https://in.example.com", `</script><script>alert("1")`)
	if err != nil || strings.Count(text, "script>") != 2 {
		t.Errorf("a write key can end the script: %v %s", err, text)
	}
}
