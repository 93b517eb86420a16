package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/client"
	"kith/script"
)

// How the programs of sdk are run.
const (
	sdkTracks = 40 // events "Counted" of one program, beside one of each call
	sdkAtOnce = 3  // programs that run at the same time: most of their time is waiting
	sdkTime   = 90 * time.Second
)

// sdk is a program in folder sdk that sends with an official SDK, unmodified,
// and what there is to know of that SDK. What the program is to do comes in the
// environment: ENDPOINT (http://host:port), WRITE_KEY, PERSON, COUNT, and MODE,
// basic, tls or retry. It sends one of each call (sdkCalls), then COUNT tracks
// "Counted", flushes, and ends with status 0 if the SDK gave nothing up.
type sdk struct {
	name    string
	library string   // its context.library.name; empty if it sends none
	calls   []string // the calls it knows
	// The paths it posts to.
	paths []string
	// counts tells that its attempts after the first have X-Retry-Count.
	counts bool
	// differs are fields that it sends otherwise than sdkCalls has them, by
	// type and path; an empty one is absent, * is of its own making.
	differs map[string]string
	// https tells whether it is run over https too: "can", "must", or "no".
	https string
	// slow tells that it waits long before it tries again.
	slow bool
	// httpConfig is published in the settings of its sources (YAML).
	httpConfig string
	// settings is the path at which it asks for its settings, with WRITE_KEY
	// for the key.
	settings string
	// tool and folder are what the program runs with and its folder in sdk.
	tool, folder string
	// command is how to run it, without the environment.
	command func(t *testing.T) *exec.Cmd
}

// sdkCalls is what arrives of the calls of every program: by type and path, a
// value. PERSON stands for the person.
func sdkCalls() map[string]string {
	return map[string]string{
		"identify userId": "PERSON", "identify anonymousId": "PERSON-browser",
		"identify traits.email": "PERSON@example.com", "identify traits.plan": "gold", "identify traits.visits": "3",
		"track userId": "PERSON", "track anonymousId": "PERSON-browser", "track event": "Order Completed",
		"track properties.revenue": "12.5", "track properties.products.0.sku": "a",
		"track context.app.name": "Kiosk", "track integrations.Other": "false",
		"page userId": "PERSON", "page anonymousId": "PERSON-browser", "page name": "Home", "page category": "Docs", "page properties.path": "/",
		"screen userId": "PERSON", "screen anonymousId": "PERSON-browser", "screen name": "Menu", "screen category": "Docs", "screen properties.tab": "1",
		"group userId": "PERSON", "group anonymousId": "PERSON-browser", "group groupId": "acme", "group traits.name": "Acme", "group traits.seats": "20",
		"alias userId": "PERSON", "alias previousId": "PERSON-old",
	}
}

// TestSDKs runs the official SDKs, unmodified, against the real binary. Each
// runs in several modes. Basic, and tls with the certificate of --tls-dev:
// straight to the server; every call arrives as it was made. Retry: through a proxy that answers 429 and 503 and resets connections before
// and after passing a request on; everything arrives, and what came twice is
// counted once.
func TestSDKs(t *testing.T) {
	t.Parallel()
	var slugs []string
	tracking := map[string]string{}
	for _, s := range sdks() {
		for _, mode := range s.modes() {
			slugs = append(slugs, s.name+"-"+mode)
			if s.httpConfig != "" {
				tracking[s.name+"-"+mode] = "httpConfig: " + s.httpConfig
			}
		}
	}
	plain, secure := newSDKHouse(t, slugs, tracking), newSDKHouse(t, slugs, tracking, "--tls-dev")
	slots := make(chan struct{}, sdkAtOnce)
	var running sync.WaitGroup
	for _, s := range sdks() {
		for _, mode := range s.modes() {
			free := s.slow && mode == "retry"
			if !free {
				slots <- struct{}{}
			}
			running.Go(func() {
				t.Run(s.name+"/"+mode, func(t *testing.T) {
					needs(t, lackSDK(s.tool, s.folder))
					if mode == "tls" {
						secure.run(t, s, mode)
					} else {
						plain.run(t, s, mode)
					}
				})
				if !free {
					<-slots
				}
			})
		}
	}
	running.Wait()
	for _, h := range []*sdkHouse{plain, secure} {
		if err := h.process.stop(); err != nil {
			t.Error(err)
		}
	}
}

// modes are those in which an SDK is run.
func (s sdk) modes() []string {
	switch s.https {
	case "must":
		return []string{"retry", "tls"}
	case "can":
		return []string{"retry", "basic", "tls"}
	}
	return []string{"retry", "basic"}
}

// needs skips a test for something that the machine lacks. Under
// KITH_TEST_NEED=all the test fails instead.
func needs(t *testing.T, lack error) {
	t.Helper()
	switch {
	case lack == nil:
	case os.Getenv("KITH_TEST_NEED") == "all":
		t.Fatalf("needs %v", lack)
	default:
		t.Skipf("needs %v", lack)
	}
}

// lackSDK says what a program of folder sdk/folder lacks: what it runs with, or
// its packages.
func lackSDK(tool, folder string) error {
	if _, err := exec.LookPath(tool); err != nil {
		return fmt.Errorf("%s in the PATH", tool)
	}
	if _, err := os.Stat(filepath.FromSlash("sdk/" + folder + "/build/installed")); err != nil {
		return fmt.Errorf("the packages of e2e/sdk/%s (run e2e/sdk/install)", folder)
	}
	return nil
}

// sdkHouse is a server with a source and a webhook for each of some slugs. The
// write key of a source is its slug and "-key"; tracking says more of some (YAML).
type sdkHouse struct {
	process   *process
	sink      *script.Receiver
	sources   map[string]string // by slug, the id
	authority string            // with --tls-dev, the file of its certificate authority
	http      *http.Client      // that trusts it
}

func newSDKHouse(t *testing.T, slugs []string, tracking map[string]string, args ...string) *sdkHouse {
	t.Helper()
	h := &sdkHouse{sink: &script.Receiver{}, sources: map[string]string{}, http: http.DefaultClient}
	web := httptest.NewServer(h.sink)
	t.Cleanup(web.Close)
	dir := t.TempDir()
	args = append([]string{"--data", "data", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"}, args...)
	p, err := start(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	h.process = p
	t.Cleanup(p.kill)
	environment := append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken)
	if slices.Contains(args, "--tls-dev") {
		h.authority = filepath.Join(dir, "data", "tls-dev", "ca.pem")
		environment = append(environment, "SSL_CERT_FILE="+h.authority)
		text, err := os.ReadFile(h.authority)
		if err != nil {
			t.Fatal(err)
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(text)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
		t.Cleanup(transport.CloseIdleConnections)
		h.http = &http.Client{Transport: transport}
	}

	var sources, destinations strings.Builder
	for _, slug := range slugs {
		fmt.Fprintf(&sources, "  - {slug: %s, name: %s, writeKeys: [%s-key], tracking: {%s}}\n", slug, slug, slug, tracking[slug])
		fmt.Fprintf(&destinations, "  - {slug: %s, name: %s, metadataId: webhook, source: %s, settings: {url: %q}}\n", slug, slug, slug, web.URL+"/"+slug)
	}
	file := filepath.Join(dir, "workspace.yaml")
	if err := os.WriteFile(file, []byte("name: SDKs\nslug: sdks\nsources:\n"+sources.String()+"destinations:\n"+destinations.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "apply", "-f", file, "--server", p.base)
	cmd.Env = environment
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kith apply: %v\n%s", err, out)
	}
	c, err := client.New(p.base, adminToken, h.http)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Sources []struct{ ID, Slug string } `json:"sources"`
	}
	if err := c.Call(t.Context(), "GET", "/sources?pagination.count=200", nil, &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Sources {
		h.sources[s.Slug] = s.ID
	}
	return h
}

// run runs one program in one mode and looks at what arrived.
func (h *sdkHouse) run(t *testing.T, s sdk, mode string) {
	slug := s.name + "-" + mode
	endpoint, authority := h.process.base, h.authority
	var proxy *faulty
	switch {
	case mode != "retry":
	case s.https == "must":
		proxy = newFaultyTLS(t, h.process.base)
		endpoint, authority = proxy.URL, certificateOf(t, proxy.URL)
	default:
		proxy = newFaulty(t, h.process.base)
		endpoint = proxy.URL
	}
	troubles := []trouble{refuse(429, "Retry-After", "1"), refuse(503), {resetBefore: true}, {resetAfter: true}}
	if mode == "retry" {
		for _, does := range troubles {
			proxy.next(1, does)
		}
	}

	began := time.Now()
	s.send(t, endpoint, authority, slug+"-key", mode, proxy)
	t.Logf("the program took %.1f s", time.Since(began).Seconds())

	if s.settings != "" && proxy != nil {
		wantSettings(t, proxy, strings.Replace(s.settings, "WRITE_KEY", slug+"-key", 1))
	}
	messages, copies := len(s.calls)+sdkTracks, -1
	if mode == "retry" {
		copies = wantRetries(t, s, proxy, len(troubles))
	}
	if t.Failed() {
		return // what is wrong already will not settle
	}
	delivered := h.settled(t, slug, messages, copies)
	wantOnce(t, delivered, messages)
	for _, kind := range s.calls {
		wantCall(t, s, kind, slug, delivered, began)
	}
}

// send runs the program to its end. Authority is the file of who is to be
// trusted with https, if any.
func (s sdk) send(t *testing.T, endpoint, authority, key, mode string, proxy *faulty) {
	t.Helper()
	cmd := s.command(t)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	if authority != "" {
		// As Go, Python's requests, and Node have it.
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+authority, "REQUESTS_CA_BUNDLE="+authority, "NODE_EXTRA_CA_CERTS="+authority)
		if s.tool == "java" {
			cmd.Env = append(cmd.Env, "JDK_JAVA_OPTIONS=-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStore="+trustStore(t, authority))
		}
	}
	cmd.Env = append(cmd.Env, "ENDPOINT="+endpoint, "WRITE_KEY="+key, "MODE="+mode, "PERSON="+strings.TrimSuffix(key, "-key"),
		"COUNT="+strconv.Itoa(sdkTracks), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	said := &output{wrote: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = said, said
	timeout := time.AfterFunc(sdkTime, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	if err := cmd.Run(); err != nil {
		text := said.String()
		if proxy != nil {
			for _, p := range proxy.all() {
				text += fmt.Sprintf("\n%s %s: %s, %d", p.method, p.path, p.did, p.status)
			}
		}
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	if text := said.String(); testing.Verbose() && text != "" {
		t.Log(text)
	}
}

// certificateOf writes the certificate of a server at an https address to a
// file, and returns its name.
func certificateOf(t *testing.T, endpoint string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name := filepath.Join(t.TempDir(), "certificate.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// trustStore makes a Java trust store of a certificate, and returns its name.
func trustStore(t *testing.T, certificate string) string {
	t.Helper()
	store := filepath.Join(t.TempDir(), "trusted.p12")
	if out, err := exec.Command("keytool", "-importcert", "-noprompt", "-alias", "kith", "-file", certificate, "-keystore", store, "-storetype", "PKCS12",
		"-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	return store
}

// wantSettings wants the settings to have been asked for, and answered.
func wantSettings(t *testing.T, proxy *faulty, path string) {
	t.Helper()
	for _, p := range proxy.all() {
		if p.method == http.MethodGet && p.path == path && p.status == http.StatusOK {
			return
		}
	}
	t.Errorf("nobody got %s", path)
}

// wantRetries wants every trouble to have been met and overcome. It returns how
// many copies of events the server was given.
func wantRetries(t *testing.T, s sdk, proxy *faulty, troubles int) (copies int) {
	t.Helper()
	given := map[string]int{}
	met := 0
	for i, p := range proxy.requests() {
		if path, _, _ := strings.Cut(p.path, "?"); !slices.Contains(s.paths, path) {
			t.Errorf("posts to %s, want %v", path, s.paths)
		}
		ids := p.messageIDs()
		if len(ids) != events(p) || slices.Contains(ids, "") {
			t.Errorf("request %d has events without a messageId: %s", i, p.body)
		}
		switch {
		case p.did.status != 0, p.did.resetBefore:
			met++
		case p.did.resetAfter:
			met++
			copies += events(p)
		case p.status != http.StatusOK:
			t.Errorf("request %d was answered with %d", i, p.status)
		default:
			copies += events(p)
		}
		if p.did.resetAfter || p.status == http.StatusOK {
			for _, id := range ids {
				given[id]++
			}
		}
		if counted := p.header.Get("X-Retry-Count"); counted != "" && !s.counts {
			t.Errorf("request %d has X-Retry-Count %s, which this SDK does not send", i, counted)
		}
	}
	if met != troubles {
		t.Errorf("%d troubles were met, want %d", met, troubles)
	}
	if s.counts && !slices.ContainsFunc(proxy.requests(), func(p passed) bool { return p.header.Get("X-Retry-Count") != "" }) {
		t.Error("no request has X-Retry-Count")
	}
	if len(given) != len(s.calls)+sdkTracks {
		t.Errorf("the server was given %d messages, want %d", len(given), len(s.calls)+sdkTracks)
	}
	if copies <= len(given) {
		t.Errorf("nothing was given to the server twice: %d copies of %d messages", copies, len(given))
	}
	return copies
}

// events is how many events a request has.
func events(p passed) int {
	if batch := gjson.GetBytes(p.body, "batch"); batch.IsArray() {
		return len(batch.Array())
	}
	return 1
}

// settled is account for copies of messages that were all accepted; -1 is as
// many copies as messages.
func (h *sdkHouse) settled(t *testing.T, slug string, messages, copies int) []json.RawMessage {
	t.Helper()
	if copies < 0 {
		copies = messages
	}
	return h.account(t, slug, map[string]int{"accepted": copies, "admitted": messages, "duplicate": copies - messages})
}

// account waits until a source has nothing under way, and holds what was
// counted of it to account: by stage, how many copies of events were accepted
// and rejected, how many of them were admitted or dropped as duplicates. What
// was admitted was delivered once; that is returned.
func (h *sdkHouse) account(t *testing.T, slug string, want map[string]int) []json.RawMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := until(ctx, func() error {
		var ready struct{ Backlog, Deliveries map[string]uint64 }
		if err := h.get("/readyz", func(b *bufio.Scanner) error {
			if b.Scan() {
				return json.Unmarshal(b.Bytes(), &ready)
			}
			return b.Err()
		}); err != nil {
			return err
		}
		if n, known := ready.Deliveries[slug]; ready.Backlog["default"] != 0 || n != 0 || !known {
			return fmt.Errorf("under way: %+v", ready)
		}
		seen, err := h.seen(h.sources[slug])
		if err != nil {
			return err
		}
		for _, stage := range []string{"accepted", "rejected", "admitted", "duplicate", "blocked"} {
			if seen[stage] != want[stage] {
				return fmt.Errorf("counted at its stages %v, want %v", seen, want)
			}
		}
		if n := len(h.sink.Delivered(slug)); n != want["admitted"] {
			return fmt.Errorf("%d messages were delivered, want %d", n, want["admitted"])
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, h.process.log)
	}
	return h.sink.Delivered(slug)
}

func (h *sdkHouse) get(path string, read func(*bufio.Scanner) error) error {
	response, err := h.http.Get(h.process.base + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return read(lines)
}

// seen returns what the server has counted of a source, by stage.
func (h *sdkHouse) seen(source string) (map[string]int, error) {
	seen := map[string]int{}
	return seen, h.get("/metrics", func(lines *bufio.Scanner) error {
		for lines.Scan() {
			labels, value, _ := strings.Cut(lines.Text(), "} ")
			if !strings.HasPrefix(labels, "kith_seen_total{") || !strings.Contains(labels, `source="`+source+`"`) {
				continue
			}
			_, stage, _ := strings.Cut(labels, `stage="`)
			stage, _, _ = strings.Cut(stage, `"`)
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			seen[stage] += int(n)
		}
		return lines.Err()
	})
}

// wantOnce wants every message once, and every number of "Counted".
func wantOnce(t *testing.T, delivered []json.RawMessage, messages int) {
	t.Helper()
	ids, numbers := map[string]int{}, map[int64]int{}
	for _, e := range delivered {
		ids[gjson.GetBytes(e, "messageId").String()]++
		if gjson.GetBytes(e, "event").String() == "Counted" {
			numbers[gjson.GetBytes(e, "properties.n").Int()]++
		}
	}
	if len(ids) != messages || ids[""] > 0 {
		t.Errorf("%d message ids, want %d", len(ids), messages)
	}
	for n := range int64(sdkTracks) {
		if numbers[n] != 1 {
			t.Errorf("track %d arrived %d times", n, numbers[n])
		}
	}
}

// wantCall wants a call to have arrived as it was made.
func wantCall(t *testing.T, s sdk, kind, person string, delivered []json.RawMessage, began time.Time) {
	t.Helper()
	var e json.RawMessage
	for _, d := range delivered {
		if gjson.GetBytes(d, "type").String() == kind && gjson.GetBytes(d, "event").String() != "Counted" {
			e = d
		}
	}
	if e == nil {
		t.Errorf("no %s arrived", kind)
		return
	}
	for at, want := range sdkCalls() {
		call, path, _ := strings.Cut(at, " ")
		if call != kind {
			continue
		}
		if other, differs := s.differs[at]; differs {
			want = other
		}
		want = strings.ReplaceAll(want, "PERSON", person)
		if want == "*" && gjson.GetBytes(e, path).String() != "" {
			continue
		}
		if got := gjson.GetBytes(e, path); got.String() != want {
			t.Errorf("%s of the %s is %q, want %q, in %s", path, kind, got.String(), want, e)
		}
	}
	if got := gjson.GetBytes(e, "context.library.name").String(); got != s.library {
		t.Errorf("the %s says it is from %q, want %q, in %s", kind, got, s.library, e)
	}
	if s.library != "" && gjson.GetBytes(e, "context.library.version").String() == "" {
		t.Errorf("the %s has no version of the library: %s", kind, e)
	}
	for _, path := range []string{"messageId", "timestamp", "receivedAt"} {
		if gjson.GetBytes(e, path).String() == "" {
			t.Errorf("the %s has no %s: %s", kind, path, e)
		}
	}
	at, err := time.Parse(time.RFC3339Nano, gjson.GetBytes(e, "timestamp").String())
	if err != nil {
		t.Errorf("the %s: %v", kind, err)
		return
	}
	from, to := began.Add(-2*time.Second), time.Now().Add(2*time.Second)
	if kind == "track" && s.differs["track timestamp"] == "" { // an hour before
		from, to = from.Add(-time.Hour), to.Add(-time.Hour)
	}
	if at.Before(from) || at.After(to) {
		t.Errorf("the %s is of %s, want one from %s to %s, in %s", kind, at, from, to, e)
	}
}
