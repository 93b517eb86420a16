package cdn_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"kith/collect/cdn"
	"kith/workspace"
)

// lint says what in a settings document would trip one of the SDKs (sheet
// connections_protocols §1.10 and §1.6). It knows nothing of how Kith writes
// the document.
func lint(text []byte, key string) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	var d map[string]any
	if err := json.Unmarshal(text, &d); err != nil {
		return []string{"not a JSON object: " + err.Error()}
	}
	walk("", d, func(path string, v any) {
		if v == nil {
			complain("%s is null: Kotlin's parser gives up", path)
		}
	})
	object := func(in map[string]any, name string) map[string]any {
		o, _ := in[name].(map[string]any)
		return o
	}
	// Kotlin's Settings has these as objects that are never null.
	for _, name := range []string{"integrations", "plan", "edgeFunction", "middlewareSettings", "metrics", "consentSettings", "autoInstrumentation"} {
		if v, there := d[name]; there && object(d, name) == nil {
			complain("%s is %v, no object: Kotlin's parser gives up", name, v)
		}
	}
	integrations := object(d, "integrations")
	if integrations == nil {
		return append(complaints, "integrations is missing: no SDK sends anything")
	}
	for name := range integrations {
		if name != "Segment.io" {
			complain("integrations has %q: analytics.js loads code for a destination that runs in the page, and Kith has none", name)
		}
	}
	s := object(integrations, "Segment.io")
	if s["apiKey"] != key {
		complain("apiKey is %v, want the write key: Kotlin's SegmentSettings needs it, analytics.js sends it as writeKey", s["apiKey"])
	}
	host, _ := s["apiHost"].(string)
	if host == "" || strings.Contains(host, "://") || !strings.HasSuffix(host, "/v1") || strings.Contains(host, "segment") {
		complain("apiHost is %q, want a host without scheme, with /v1", host)
	}
	if p, there := s["protocol"]; there && p != "http" && p != "https" {
		complain("protocol is %v", p)
	}
	if _, ok := s["unbundledIntegrations"].([]any); !ok {
		complain("unbundledIntegrations is no list")
	}
	if object(s, "maybeBundledConfigIds") == nil {
		complain("maybeBundledConfigIds is no object")
	}
	if h, there := s["httpConfig"]; there {
		lintHTTPConfig(h, complain)
	}
	if edge := object(d, "edgeFunction"); edge == nil || len(edge) > 0 && edge["downloadURL"] == nil {
		complain("edgeFunction is %v, want {}: the Signals plugins read it", d["edgeFunction"])
	}
	if rules, there := object(d, "middlewareSettings")["routingRules"]; there {
		if list, ok := rules.([]any); !ok || len(list) > 0 {
			complain("routingRules is %v: analytics.js loads a middleware for destinations in the page", rules)
		}
	}
	for name, on := range object(d, "enabledMiddleware") {
		complain("enabledMiddleware has %s: %v: analytics.js loads it from /next-integrations, which is not there", name, on)
	}
	if rate, there := object(d, "metrics")["sampleRate"]; !there || rate != 0.0 {
		complain("metrics.sampleRate is %v, want 0: the mobile SDKs report to Segment's host", rate)
	}
	if c, there := d["consentSettings"]; there {
		categories, _ := object(d, "consentSettings")["allCategories"].([]any)
		if len(categories) == 0 {
			complain("consentSettings is %v: without categories it blocks every upload", c)
		}
	}
	if v := d["legacyVideoPluginsEnabled"]; v != nil && v != false {
		complain("legacyVideoPluginsEnabled is %v: analytics.js loads the video plugins", v)
	}
	if list, ok := d["remotePlugins"].([]any); !ok || len(list) > 0 {
		complain("remotePlugins is %v, want []", d["remotePlugins"])
	}
	lintPlan(object(d, "plan"), complain)
	return complaints
}

func lintPlan(plan map[string]any, complain func(string, ...any)) {
	for _, kind := range []string{"track", "identify", "group"} {
		entries, _ := plan[kind].(map[string]any)
		if entries["__default"] == nil {
			complain("plan.%s has no __default", kind)
		}
		for name, v := range entries {
			e, _ := v.(map[string]any)
			if _, ok := e["enabled"].(bool); !ok {
				complain("plan.%s[%q].enabled is %v", kind, name, e["enabled"])
			}
			if _, ok := e["integrations"].(map[string]any); kind == "track" && !ok {
				complain("plan.track[%q].integrations is no object: analytics.js reads from it", name)
			}
		}
	}
}

func lintHTTPConfig(v any, complain func(string, ...any)) {
	h, ok := v.(map[string]any)
	if !ok {
		complain("httpConfig is %v, no object", v)
		return
	}
	for section, fields := range h {
		f, ok := fields.(map[string]any)
		if !ok || section != "rateLimitConfig" && section != "backoffConfig" {
			complain("httpConfig.%s is %v", section, fields)
			continue
		}
		if _, ok := f["enabled"].(bool); !ok {
			complain("httpConfig.%s.enabled is %v: the SDKs' defaults differ", section, f["enabled"])
		}
		for name, v := range f {
			if n, ok := v.(float64); ok && n != float64(int64(n)) && name != "baseBackoffInterval" {
				complain("httpConfig.%s.%s is %v: Kotlin reads whole numbers and forgets all over one that is not", section, name, n)
			}
			if strings.HasSuffix(name, "Behavior") && v != "retry" && v != "drop" {
				complain("httpConfig.%s.%s is %v, want retry or drop", section, name, v)
			}
		}
		if section != "backoffConfig" {
			continue
		}
		overrides, _ := f["statusCodeOverrides"].(map[string]any)
		for _, status := range []string{"408", "410", "429", "460", "501", "505"} {
			if overrides[status] == nil {
				complain("statusCodeOverrides has no %s: in the mobile SDKs the map replaces the usual one", status)
			}
		}
		for status, does := range overrides {
			if does != "retry" && does != "drop" || len(status) != 3 {
				complain("statusCodeOverrides has %q: %v", status, does)
			}
		}
	}
}

// walk calls fn for every value of a document.
func walk(path string, v any, fn func(path string, v any)) {
	fn(path, v)
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			walk(path+"."+k, x, fn)
		}
	case []any:
		for i, x := range v {
			walk(fmt.Sprintf("%s.%d", path, i), x, fn)
		}
	}
}

// TestLinter breaks a document that is right, in every way that an SDK would
// not survive, and wants to hear about it.
func TestLinter(t *testing.T) {
	source := workspace.Source{ID: "s1", WriteKeys: []string{"web-key-0123456789"}, Enabled: true}
	source.Tracking.HTTPConfig = json.RawMessage(`{"rateLimitConfig":{"maxRetryCount":5},"backoffConfig":{"maxRetryCount":7}}`)
	right := fetch(t, newCDN(t, workspace.Snapshot{Sources: []workspace.Source{source}}, nil), "/v1/projects/web-key-0123456789/settings")
	if complaints := lint(right, "web-key-0123456789"); len(complaints) > 0 {
		t.Fatalf("the document to break is broken: %q\n%s", complaints, right)
	}
	for name, change := range map[string]func(d map[string]any){
		"no integrations":    func(d map[string]any) { delete(d, "integrations") },
		"integrations null":  func(d map[string]any) { d["integrations"] = nil },
		"no Segment.io":      func(d map[string]any) { delete(at(d, "integrations"), "Segment.io") },
		"second integration": func(d map[string]any) { at(d, "integrations")["Webhooks"] = map[string]any{} },
		"no apiKey":          func(d map[string]any) { delete(at(d, "integrations", "Segment.io"), "apiKey") },
		"apiKey of another":  func(d map[string]any) { at(d, "integrations", "Segment.io")["apiKey"] = "other" },
		"no apiHost":         func(d map[string]any) { delete(at(d, "integrations", "Segment.io"), "apiHost") },
		"apiHost with scheme": func(d map[string]any) {
			at(d, "integrations", "Segment.io")["apiHost"] = "https://in.example.com/v1"
		},
		"apiHost without v1":       func(d map[string]any) { at(d, "integrations", "Segment.io")["apiHost"] = "in.example.com" },
		"protocol":                 func(d map[string]any) { at(d, "integrations", "Segment.io")["protocol"] = "https://" },
		"unbundled null":           func(d map[string]any) { at(d, "integrations", "Segment.io")["unbundledIntegrations"] = nil },
		"httpConfig null":          func(d map[string]any) { at(d, "integrations", "Segment.io")["httpConfig"] = nil },
		"overrides not whole":      func(d map[string]any) { delete(overrides(d), "429") },
		"override misspelt":        func(d map[string]any) { overrides(d)["429"] = "Retry" },
		"a broken whole number":    func(d map[string]any) { backoff(d)["maxRetryCount"] = 1.5 },
		"a behaviour misspelt":     func(d map[string]any) { backoff(d)["default4xxBehavior"] = "ignore" },
		"enabled left open":        func(d map[string]any) { delete(backoff(d), "enabled") },
		"plan null":                func(d map[string]any) { d["plan"] = nil },
		"plan without track":       func(d map[string]any) { delete(at(d, "plan"), "track") },
		"event without lists":      func(d map[string]any) { at(d, "plan", "track")["Paid"] = map[string]any{"enabled": true} },
		"edgeFunction null":        func(d map[string]any) { d["edgeFunction"] = nil },
		"no edgeFunction":          func(d map[string]any) { delete(d, "edgeFunction") },
		"middlewareSettings null":  func(d map[string]any) { d["middlewareSettings"] = nil },
		"routing rules":            func(d map[string]any) { at(d, "middlewareSettings")["routingRules"] = []any{map[string]any{}} },
		"routing rules null":       func(d map[string]any) { at(d, "middlewareSettings")["routingRules"] = nil },
		"middleware":               func(d map[string]any) { at(d, "enabledMiddleware")["@segment/x"] = true },
		"metrics null":             func(d map[string]any) { d["metrics"] = nil },
		"metrics on":               func(d map[string]any) { at(d, "metrics")["sampleRate"] = 0.1 },
		"no metrics":               func(d map[string]any) { delete(d, "metrics") },
		"consentSettings empty":    func(d map[string]any) { d["consentSettings"] = map[string]any{} },
		"consentSettings null":     func(d map[string]any) { d["consentSettings"] = nil },
		"autoInstrumentation null": func(d map[string]any) { d["autoInstrumentation"] = nil },
		"video plugins":            func(d map[string]any) { d["legacyVideoPluginsEnabled"] = true },
		"remotePlugins null":       func(d map[string]any) { d["remotePlugins"] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			var d map[string]any
			if err := json.Unmarshal(right, &d); err != nil {
				t.Fatal(err)
			}
			change(d)
			broken, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if len(lint(broken, "web-key-0123456789")) == 0 {
				t.Errorf("nobody complains about %s", broken)
			}
		})
	}
}

// at returns an object within a document.
func at(d map[string]any, path ...string) map[string]any {
	for _, name := range path {
		d, _ = d[name].(map[string]any)
	}
	return d
}

func backoff(d map[string]any) map[string]any {
	return at(d, "integrations", "Segment.io", "httpConfig", "backoffConfig")
}

func overrides(d map[string]any) map[string]any { return at(backoff(d), "statusCodeOverrides") }

// TestDocumentsOfManyWorkspaces holds the documents of workspaces of all kinds
// to the linter.
func TestDocumentsOfManyWorkspaces(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	names := []string{"Paid", "Order Completed", "__default", "", `quo"te`, "line\nfeed", "größe", "\u2028", "<script>", "a.b", "null"}
	configs := []string{"", "{}", `{"rateLimitConfig":{}}`, `{"backoffConfig":{}}`, `{"backoffConfig":{"enabled":false,"statusCodeOverrides":{"404":"retry","429":"drop"}}}`,
		`{"rateLimitConfig":{"enabled":true,"maxRetryCount":3,"maxRetryInterval":30},"backoffConfig":{"baseBackoffInterval":0.25,"jitterPercent":20,"default5xxBehavior":"drop"}}`,
		`{"backoffConfig":null}`, `{"other":1}`, `[]`, `{"backoffConfig":{"maxRetryCount":1.5}}`}
	listed, published := 0, 0
	for i := range 400 {
		s := workspace.Snapshot{Number: uint64(i + 1)}
		source := workspace.Source{ID: "s1", Slug: "web", WriteKeys: []string{"first-key-0123456789", "K"}, Enabled: random.IntN(5) > 0}
		source.Schema.Track.AllowUnplannedEvents = random.IntN(2) == 0
		if c := pick(configs...); c != "" {
			source.Tracking.HTTPConfig = json.RawMessage(c)
		}
		s.Sources = []workspace.Source{source, {ID: "s2", WriteKeys: []string{"other"}, Enabled: true}}
		for j := range random.IntN(6) {
			s.Destinations = append(s.Destinations, workspace.Destination{
				ID: fmt.Sprint("d", j), Name: pick(names...), MetadataID: pick("webhook", "actions-webhook", "64f"), Enabled: random.IntN(3) > 0, SourceID: pick("s1", "s2", ""),
			})
		}
		if random.IntN(3) > 0 {
			p := workspace.TrackingPlan{ID: "tp", SourceIDs: []string{"s1"}}
			for range random.IntN(len(names)) {
				p.Rules = append(p.Rules, workspace.Rule{Type: pick("TRACK", "TRACK", "IDENTIFY", "PAGE", "COMMON"), Key: pick(names...)})
			}
			s.TrackingPlans = []workspace.TrackingPlan{p}
		}
		c := newCDN(t, s, func(c *cdn.Config) {
			c.PublicURL = pick("", "https://in.example.com", "http://in.example.com:8080")
		})
		for _, key := range source.WriteKeys {
			text := fetch(t, c, pick("/v1", "")+"/projects/"+key+"/settings")
			if complaints := lint(text, key); len(complaints) > 0 {
				t.Fatalf("workspace %d: %s\n%s", i, strings.Join(complaints, "\n"), text)
			}
			var d struct {
				Plan struct {
					Track map[string]struct{ Enabled bool }
				}
			}
			if err := json.Unmarshal(text, &d); err != nil {
				t.Fatal(err)
			}
			if enabled := d.Plan.Track["__default"].Enabled; !enabled {
				listed++
			} else if got := slices.Collect(maps.Keys(d.Plan.Track)); len(got) != 1 {
				t.Fatalf("events are listed that are like all others: %q", got)
			}
			if strings.Contains(string(text), "httpConfig") {
				published++
			}
		}
	}
	if listed == 0 || published == 0 {
		t.Errorf("of the documents %d list events and %d have an httpConfig: the test tests less than it should", listed, published)
	}
}

// fetch returns what the CDN answers, which must be 200.
func fetch(t *testing.T, c *cdn.CDN, path string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://in.example.com"+path, nil))
	if w.Code != 200 {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}
