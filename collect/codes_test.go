package collect_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"kith/collect"
	"kith/workspace"
)

// codesOfTheSource reads the discard codes that the package declares.
func codesOfTheSource(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "rejection.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Code") {
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[code] = true
		}
		return true
	})
	return codes
}

// Every discard code is told with what its finder needs, and counted.
func TestEveryCode(t *testing.T) {
	const consent = `{"userId":"u","event":"Segment Consent Preference Updated","context":{"consent":`
	tests := []struct {
		code, path, body string
		headers          []string
		status           int
		n                int // events; one when zero
		warning          bool
	}{
		{code: "source_disabled", body: `{"writeKey":"key-off"}`},
		{code: "project_not_found", body: `{"writeKey":"nobody-knows-me"}`},
		{code: "empty_batch", path: "/v1/batch", body: `{"batch":[]}`},
		{code: "empty_batch_result", path: "/v1/batch", body: `{"batch":[{},{}]}`, n: 2, warning: true},
		{code: "multi_user_error", path: "/v1/batch", body: `{"batch":[{},{"type":"page","userId":"u"},{}]}`, n: 2, warning: true},
		{code: "no_user_anon_id", body: `{"event":"E"}`},
		{code: "id_required", path: "/v1/group", body: `{"userId":"u"}`},
		{code: "id_not_string", body: `{"userId":1}`},
		{code: "event_not_defined", body: `{"userId":"u"}`},
		{code: "event_not_string", body: `{"userId":"u","event":1}`},
		{code: "properties_not_object", body: `{"userId":"u","event":"E","properties":1}`},
		{code: "traits_not_object", path: "/v1/identify", body: `{"userId":"u","traits":1}`},
		{code: "name_not_string", path: "/v1/page", body: `{"userId":"u","name":1}`},
		{code: "category_not_string", path: "/v1/screen", body: `{"userId":"u","category":1}`},
		{code: "consent_categorypreferences_should_exist", body: consent + `{}}}`},
		{code: "consent_categorypreferences_fields_should_be_object", body: consent + `{"categoryPreferences":[]}}}`},
		{code: "consent_categorypreferences_fields_should_be_bool", body: consent + `{"categoryPreferences":{"ads":1}}}}`},
		{code: "consent_version_should_be_number", body: consent + `{"categoryPreferences":{},"version":"1"}}}`},
		{code: "device_advertisingid_should_be_string", body: consent + `{"categoryPreferences":{}},"device":{"advertisingId":1}}}`},

		{code: "invalid_json", body: `{`, status: 400},
		{code: "invalid_gzip", body: "\x1f\x8b", status: 400},
		{code: "body_too_large", body: strings.Repeat(" ", 2<<20), status: 400},
		{code: "event_too_large", body: `{"userId":"u","event":"` + strings.Repeat("x", 300<<10) + `"}`, status: 400},
		{code: "batch_too_large", path: "/v1/batch", body: `{"batch":[` + strings.Repeat(`{},`, 2500) + `{}]}`, n: 2501},
		{code: "event_not_object", path: "/v1/batch", body: `{"batch":[1]}`},
		{code: "unknown_type", body: `{"type":"x"}`},
		{code: "message_id_too_long", body: `{"userId":"u","event":"E","messageId":"` + strings.Repeat("x", 101) + `"}`},
		{code: "message_id_not_string", body: `{"userId":"u","event":"E","messageId":{}}`},
		{code: "context_not_object", body: `{"userId":"u","event":"E","context":1}`},
		{code: "integrations_not_object", body: `{"userId":"u","event":"E","integrations":1}`},
		{code: "invalid_object", path: "/v1/set", body: `{"collection":"rooms"}`, status: 400},
		{code: "bot_user_agent", body: `{"writeKey":"key-strict","userId":"u","event":"E","context":{"userAgent":"Googlebot/2.1"}}`, headers: []string{"Authorization: Bearer good"}},
		{code: "invalid_token", body: `{"writeKey":"key-strict"}`, headers: []string{"Authorization: Bearer bad"}, status: 401},
		{code: "token_required", body: `{"writeKey":"key-strict"}`, headers: []string{"X-None: 1"}, status: 401},
		{code: "invalid_query", path: "GET /v1/pixel/track?data=!"},
		{code: "too_many_requests", path: "full GET /v1/pixel/track?data=e30"},
		{code: "unavailable", path: "GET /v1/pixel/track?writeKey=key-lost&userId=u&event=E"},
		{code: "timestamp_unreadable", body: `{"userId":"u","event":"E","timestamp":"x"}`, warning: true},
		{code: "properties_dropped", body: `{"userId":"u","event":"E","properties":{` + manyJSON(10_001) + `}}`, warning: true},
	}
	missing := codesOfTheSource(t)
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			if !missing[tt.code] {
				t.Error("the package has no such code, or it is here twice")
			}
			delete(missing, tt.code)
			method, path := "POST", tt.path
			path, full := strings.CutPrefix(path, "full ")
			if p, ok := strings.CutPrefix(path, "GET "); ok {
				method, path = "GET", p
			}
			if path == "" {
				path = "/v1/track"
			}
			registry := prometheus.NewRegistry()
			f := newFront(t, func(c *collect.Config) {
				w := someWorkspace()
				strict := *w.s.Source("src_web")
				strict.ID, strict.WriteKeys = "src_strict", []string{"key-strict"}
				strict.Tracking.FilterBots, strict.Tracking.RequireToken = true, true
				w.s.Sources = append(w.s.Sources, strict)
				w.s.Seal()
				c.Workspace, c.Tokens, c.Metrics = w, strictTokens{}, registry
				c.Limits.EventBytes = 256 << 10
				if full {
					c.Limits.InflightBytes = 1
				}
			})
			headers := tt.headers
			if headers == nil && !strings.Contains(tt.path+tt.body, "writeKey") {
				headers = []string{basic}
			}
			w := f.do(request(method, path, tt.body, headers...))
			if want := max(tt.status, 200); w.Code != want {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
			n := max(tt.n, 1)
			found := 0
			for _, x := range f.rejected.take() {
				if x.Code != tt.code {
					continue
				}
				found++
				if x.Count != n || x.Message == "" || x.At != now || x.Warning != tt.warning {
					t.Errorf("%+v", x)
				}
			}
			if found != 1 {
				t.Errorf("told %d times", found)
			}
			metric := "kith_collect_rejected_events_total"
			if tt.warning {
				metric = "kith_collect_warned_events_total"
			}
			if got := counted(t, registry, metric, tt.code); got != float64(n) {
				t.Errorf("counted %v times, want %d", got, n)
			}
		})
	}
	for code := range missing {
		t.Errorf("nothing here is refused with %s", code)
	}
}

// strictTokens knows the token "good" for every source.
type strictTokens struct{ someTokens }

func (s strictTokens) Check(token string, source *workspace.Source) error {
	if token == "good" {
		return nil
	}
	return s.someTokens.Check("", source)
}

// counted returns what a counter with that code says.
func counted(t *testing.T, from prometheus.Gatherer, metric, code string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == metric && m.GetLabel()[0].GetValue() == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
