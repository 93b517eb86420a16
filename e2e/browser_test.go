package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"kith/client"
	"kith/script"
)

// browserAtOnce is how many of the browser's scenarios run at the same time.
const browserAtOnce = 4

// TestBrowser has a real Chromium load analytics.js from Kith and send to it. In
// every scenario the pages are of another origin than Kith, stand before a proxy
// that can get requests into trouble, and ask for nothing but what the pages and
// Kith have.
func TestBrowser(t *testing.T) {
	t.Parallel()
	needs(t, lackBrowser())
	w := newWeb(t)
	slots := make(chan struct{}, browserAtOnce)
	var running sync.WaitGroup
	for _, s := range visits() {
		slots <- struct{}{}
		running.Go(func() {
			t.Run(s.name, func(t *testing.T) {
				v := w.visit(t, s)
				defer v.staysHere()
				s.does(v)
			})
			<-slots
		})
	}
	running.Wait()
	if err := w.house.process.stop(); err != nil {
		t.Error(err)
	}
}

// scenario of a browser: what a visitor does on pages with the snippet.
type browsing struct {
	name string
	tls  bool // Kith is behind a proxy that speaks https
	does func(v *visitor)
}

// web is the server of TestBrowser, its browser, and for each scenario a source
// and a webhook.
type web struct {
	house   *sdkHouse
	browser *chromium
	client  *client.Client
}

func newWeb(t *testing.T) *web {
	t.Helper()
	w := &web{house: &sdkHouse{sink: &script.Receiver{}, sources: map[string]string{}, http: http.DefaultClient}, browser: startChromium(t)}
	t.Logf("Chromium %s", w.browser.version)
	sink := httptest.NewServer(w.house.sink)
	t.Cleanup(sink.Close)
	dir := t.TempDir()
	p, err := start(t.Context(), dir, "--data", "data", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8", "--trusted-proxies", "127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	w.house.process = p
	t.Cleanup(p.kill)

	var sources, destinations strings.Builder
	for _, s := range visits() {
		fmt.Fprintf(&sources, "  - {slug: %s, name: %s, writeKeys: [%s-write-key]}\n", s.name, s.name, s.name)
		fmt.Fprintf(&destinations, "  - {slug: %s, name: %s, metadataId: webhook, source: %s, settings: {url: %q}}\n", s.name, s.name, s.name, sink.URL+"/"+s.name)
	}
	file := filepath.Join(dir, "workspace.yaml")
	if err := os.WriteFile(file, []byte("name: Web\nslug: web\nsources:\n"+sources.String()+"destinations:\n"+destinations.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "apply", "-f", file, "--server", p.base)
	cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kith apply: %v\n%s", err, out)
	}
	if w.client, err = client.New(p.base, adminToken, nil); err != nil {
		t.Fatal(err)
	}
	list, err := w.client.Sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		w.house.sources[s.Slug] = s.ID
	}
	return w
}

// visitor is a person in a browser of their own, on the pages of a shop.
type visitor struct {
	*testing.T
	*tab
	web     *web
	slug    string
	proxy   *faulty
	shop    string // the URL of its pages
	key     string
	snippet string // as kith snippet prints it
}

// npmLibrary is analytics.js as its npm package has it.
const npmLibrary = "../collect/cdn/web/node_modules/@segment/analytics-next/dist/umd/index.js"

// visit prepares a scenario. The shop has a page /, with the snippet in its
// head, /bare without it, /wait where the snippet does not load, /csp with a
// policy that allows no more than docs/web.md says, and /npm with analytics.js in
// place of it.
func (w *web) visit(t *testing.T, s browsing) *visitor {
	t.Helper()
	v := &visitor{T: t, tab: w.browser.open(t), web: w, slug: s.name, key: s.name + "-write-key"}
	v.proxy = newFaulty(t, w.house.process.base)
	if s.tls {
		v.proxy = newFaultyTLS(t, w.house.process.base)
	}
	v.snippet = v.printed()
	loads := "  queue.load(writeKey);\n  queue.page();\n"
	if !strings.Contains(v.snippet, loads) {
		t.Fatalf("docs/web.md speaks of two lines that the snippet does not have:\n%s", v.snippet)
	}
	pages := map[string]string{
		"/":     v.snippet,
		"/bare": "",
		"/wait": strings.Replace(v.snippet, loads, "", 1),
		"/csp":  strings.Replace(v.snippet, "<script>", `<script nonce="once">`, 1),
		"/npm":  `<script src="/library.js"></script>`,
	}
	shop := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/library.js" {
			http.ServeFile(rw, r, filepath.FromSlash(npmLibrary))
			return
		}
		head, known := pages[r.URL.Path]
		if !known {
			http.NotFound(rw, r) // the favicon
			return
		}
		if r.URL.Path == "/csp" {
			rw.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-once' "+v.proxy.URL+"; connect-src "+v.proxy.URL)
		}
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(rw, "<!doctype html>\n<html><head><title>Shop</title>\n%s</head><body><form id=f action=/bare></form></body></html>\n", head)
	}))
	t.Cleanup(func() {
		shop.CloseClientConnections()
		shop.Close()
	})
	v.shop = shop.URL
	return v
}

// printed returns the snippet as the API gives it to who comes through the
// proxy: with the proxy's URL.
func (v *visitor) printed() string {
	v.Helper()
	c := v.web.client
	if !strings.HasPrefix(v.proxy.URL, "https:") { // whose certificate a client of Go does not trust
		var err error
		if c, err = client.New(v.proxy.URL, adminToken, nil); err != nil {
			v.Fatal(err)
		}
	}
	s, err := c.Snippet(v.Context(), v.web.house.sources[v.slug])
	if err != nil {
		v.Fatal(err)
	}
	if c != v.web.client && s.Server != v.proxy.URL || s.WriteKey != v.key {
		v.Fatalf("the snippet is for %s and %s", s.Server, s.WriteKey)
	}
	return strings.ReplaceAll(s.HTML, s.Server, v.proxy.URL)
}

// goTo goes to a page of the shop.
func (v *visitor) goTo(path string) {
	v.Helper()
	v.visit(v.shop + path)
}

// ready is the JavaScript that waits for analytics.js.
const ready = "await new Promise(done => analytics.ready(done));\n"

// arrived waits until nothing is under way, wants each of so many messages once,
// and returns them. What the server was given more than once it must have
// dropped.
func (v *visitor) arrived(messages int) []json.RawMessage {
	v.Helper()
	// What was not answered, the page sends again.
	answered := map[string]bool{}
	err := v.until(func() error {
		for _, p := range v.proxy.requests() {
			if p.status == http.StatusOK {
				for _, id := range p.messageIDs() {
					answered[id] = true
				}
			}
		}
		if len(answered) < messages {
			return fmt.Errorf("%d messages were answered, want %d", len(answered), messages)
		}
		return nil
	})
	if err != nil {
		v.Fatalf("%v\n%s", err, v.story())
	}
	copies := 0
	for _, p := range v.proxy.requests() {
		if p.status == http.StatusOK || p.did.resetAfter {
			copies += len(p.messageIDs())
		}
	}
	list := v.web.house.settled(v.T, v.slug, messages, copies)
	ids := map[string]int{}
	for _, e := range list {
		ids[gjson.GetBytes(e, "messageId").String()]++
	}
	if len(ids) != messages {
		v.Errorf("%d messages have %d ids", messages, len(ids))
	}
	return list
}

// until waits for fn to return nil, and returns its last error where it does not
// for long.
func (v *visitor) until(fn func() error) error {
	ctx, cancel := context.WithTimeout(v.Context(), patience)
	defer cancel()
	return until(ctx, fn)
}

// inTrouble waits until n requests have been in trouble.
func (v *visitor) inTrouble(n int) {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.Context(), patience)
	defer cancel()
	if err := v.proxy.took(ctx, n); err != nil {
		v.Fatalf("%v\n%s", err, v.story())
	}
}

// story tells what the proxy saw and the console said.
func (v *visitor) story() string {
	var b strings.Builder
	for _, p := range v.proxy.all() {
		fmt.Fprintf(&b, "%s %s: %s, %d %s\n", p.method, p.path, p.did, p.status, p.messageIDs())
	}
	return fmt.Sprintf("%sconsole: %q", b.String(), v.console())
}

// staysHere wants every request of the pages to have gone to the shop or to
// Kith.
func (v *visitor) staysHere() {
	v.Helper()
	here := map[string]bool{}
	for _, u := range []string{v.shop, v.proxy.URL} {
		here[u[strings.Index(u, "//")+2:]] = true
	}
	all := v.requests()
	if len(all) == 0 {
		v.Error("no request was seen")
	}
	for _, r := range all {
		u, err := url.Parse(r.URL)
		if err != nil || !here[u.Host] {
			v.Errorf("the page asks %s %s", r.Method, r.URL)
		}
	}
}

// one returns the only message of a type and, unless empty, an event.
func (v *visitor) one(list []json.RawMessage, kind, event string) gjson.Result {
	v.Helper()
	var found []gjson.Result
	for _, e := range list {
		if r := gjson.ParseBytes(e); r.Get("type").String() == kind && (event == "" || r.Get("event").String() == event) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		v.Fatalf("%d messages are %s %s, want 1, in %s", len(found), kind, event, list)
	}
	return found[0]
}

// want compares fields of a message: path and value in turn.
func (v *visitor) want(e gjson.Result, fields ...string) {
	v.Helper()
	for i := 0; i+1 < len(fields); i += 2 {
		if got := e.Get(fields[i]).String(); got != fields[i+1] {
			v.Errorf("%s of the %s %s is %q, want %q, in %s", fields[i], e.Get("type"), e.Get("event"), got, fields[i+1], e)
		}
	}
}

// sent returns the requests with events to a path.
func (v *visitor) sent(path string) (list []passed) {
	for _, p := range v.proxy.requests() {
		if p.path == path {
			list = append(list, p)
		}
	}
	return list
}

// loaded reports whether a GET with that in its path was answered with 200.
func (v *visitor) loaded(part string) bool {
	return slices.ContainsFunc(v.proxy.all(), func(p passed) bool {
		return p.method == http.MethodGet && strings.Contains(p.path, part) && p.status == http.StatusOK
	})
}
