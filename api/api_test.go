package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kith/api"
	"kith/auth"
	"kith/clock"
	"kith/collect/cdn"
	"kith/commitlog"
	"kith/destination"
	"kith/destination/webhook"
	"kith/fault"
	"kith/fql"
	"kith/inspect"
	"kith/kv/memkv"
	"kith/profile"
	"kith/secret"
	"kith/trackingplan"
	"kith/workspace"
)

var start = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

const token = "the-admin-token"

// world is a server's API over a real workspace, tokens and feed; the rooms
// that are not about configuration are played.
type world struct {
	t          *testing.T
	url        string
	store      *workspace.Store
	keeper     *auth.Keeper
	clock      *clock.Manual
	feed       *inspect.Feed
	rejections *inspect.Rejections
	played     *played
	log        *bytes.Buffer
	server     *httptest.Server
	api        *api.API
}

// played plays the rooms that the API reads from.
type played struct {
	quarantine []trackingplan.Quarantined
	dead       []api.DeadLetter
	retried    []string
	members    []api.Member
	profile    profile.Target // the last that was asked for
	traits     profile.TraitsQuery
	events     profile.EventsQuery
	fail       error
	people
}

func (p *played) Status(_ context.Context, _ uint32, a *workspace.Audience) (api.AudienceStatus, error) {
	if !a.Enabled {
		return api.AudienceStatus{State: "Disabled"}, nil
	}
	return api.AudienceStatus{State: "Live", Size: uint64(len(p.members))}, nil
}

func (p *played) Members(_ context.Context, _ uint32, _, cursor string, limit int) ([]api.Member, string, error) {
	from, _ := strconv.Atoi(cursor)
	to := min(from+limit, len(p.members))
	next := ""
	if to < len(p.members) {
		next = strconv.Itoa(to)
	}
	return p.members[from:to], next, nil
}

func (p *played) Quarantined(_ context.Context, space uint32, source, _ string, _ int) ([]trackingplan.Quarantined, string, error) {
	var list []trackingplan.Quarantined
	for _, q := range p.quarantine {
		if q.Source == source && space == 1 {
			list = append(list, q)
		}
	}
	return list, "", nil
}

func (p *played) Body(_ context.Context, _ uint32, at commitlog.Offset) ([]byte, error) {
	if at == 7 {
		return []byte(`{"type":"track","event":"Bought"}`), nil
	}
	return nil, fault.New(fault.NotFound, "gone")
}

func (p *played) DeadLetters(_ context.Context, _, _ string, limit int) ([]api.DeadLetter, string, error) {
	return p.dead[:min(limit, len(p.dead))], "", nil
}

func (p *played) Retry(_ context.Context, _ string, ids []string) (int, error) {
	for _, id := range ids {
		if id == "nobody" {
			return 0, fault.New(fault.NotFound, "there is no dead letter %q", id)
		}
	}
	if len(ids) == 0 {
		return len(p.dead), nil
	}
	p.retried = ids
	return len(ids), nil
}

func (p *played) Traits(_ context.Context, t profile.Target, q profile.TraitsQuery) (*profile.TraitsPage, error) {
	p.profile, p.traits = t, q
	return &profile.TraitsPage{Traits: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}, Cursor: profile.Cursor{Limit: 10}}, p.fail
}

func (p *played) ExternalIDs(_ context.Context, t profile.Target, _ profile.IdentifiersQuery) (*profile.IdentifiersPage, error) {
	p.profile = t
	return &profile.IdentifiersPage{Data: []profile.ExternalID{}}, p.fail
}

func (p *played) Events(_ context.Context, t profile.Target, q profile.EventsQuery) (*profile.EventsPage, error) {
	p.profile, p.events = t, q
	return &profile.EventsPage{Data: []profile.Event{}}, p.fail
}

func (p *played) Metadata(_ context.Context, t profile.Target) (*profile.MetadataPage, error) {
	p.profile = t
	return &profile.MetadataPage{}, p.fail
}

func (p *played) Links(_ context.Context, t profile.Target, _ profile.LinksQuery) (*profile.LinksPage, error) {
	p.profile = t
	return &profile.LinksPage{Data: []profile.LinkedProfile{}}, p.fail
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, clk, random := memkv.New(), clock.NewManual(start), rand.NewChaCha8([32]byte{1})
	box, err := secret.New(bytes.Repeat([]byte("k"), 32), random)
	must(t, err)
	registry, err := destination.NewRegistry(webhook.Connector())
	must(t, err)
	store, err := workspace.Open(t.Context(), db, workspace.Options{
		Clock: clk, Random: random, Secrets: box, CheckRule: trackingplan.Check,
		Connectors: registry.ForWorkspace(func(url string) error {
			if strings.Contains(url, "10.0.0.1") {
				return fault.New(fault.Invalid, "not a public address; allow it with --egress-allow")
			}
			return nil
		}),
		CheckTrigger: func(trigger string) error { _, err := fql.ParseTrigger(trigger); return err },
		CheckFilter:  func(condition string) (int, error) { _, err := fql.Parse(condition); return 0, err },
		CheckQuery: func(_ *workspace.Snapshot, a *workspace.Audience) error {
			if strings.HasPrefix(a.Query, "!") {
				return fault.New(fault.Invalid, "position 1: want a condition")
			}
			return nil
		},
	})
	must(t, err)
	keeper, err := auth.New(db, clk, random, token)
	must(t, err)
	w := &world{t: t, store: store, keeper: keeper, clock: clk, feed: inspect.NewFeed(), played: &played{}, log: &bytes.Buffer{}}
	w.rejections, err = inspect.OpenRejections(t.Context(), db, clk, slog.New(slog.DiscardHandler))
	must(t, err)
	oauth, err := auth.OpenOAuth(t.Context(), auth.OAuthConfig{
		DB: db, Clock: clk, Random: random, Secrets: box, Logger: slog.New(slog.DiscardHandler),
		Audiences: func(*http.Request) []string { return nil }, Client: auth.Peer,
	})
	must(t, err)
	snippets, err := cdn.New(cdn.Config{Workspace: store})
	must(t, err)
	w.api = api.New(api.Config{
		Version: "test", Workspace: store, Tokens: keeper, Clients: auth.NewClientTokens(oauth), Commands: w.played, Waiter: w.played, OAuth: oauth, Connectors: registry, Audiences: w.played, Profiles: w.played,
		Epoch:      func(context.Context, uint32) (uint32, error) { return 3, nil },
		Rejections: w.rejections, Quarantine: w.played, Objects: w.played, Bodies: w.played, Past: w.played, DeadLetters: w.played, Feed: w.feed, Snippets: snippets,
		Clock: clk, Random: random, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	mux := http.NewServeMux()
	w.api.Register(mux)
	w.server = httptest.NewServer(mux)
	w.url = w.server.URL
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- w.rejections.Run(ctx) }()
	t.Cleanup(func() {
		w.feed.Close()
		w.server.Close()
		stop()
		must(t, <-ran)
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reply is an answer and where to look in it.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   string
	doc    any
}

// get returns the value at a path of names and indexes ("data.sources.0.id"),
// nil where there is none.
func (r *reply) get(path string) any {
	v := r.doc
	for _, part := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (r *reply) text(path string) string {
	r.t.Helper()
	s, ok := r.get(path).(string)
	if !ok {
		r.t.Fatalf("%s is no text in %s", path, r.body)
	}
	return s
}

// is fails the test unless the status and the values at the paths are these.
func (r *reply) is(status int, pairs ...any) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	for i := 0; i < len(pairs); i += 2 {
		path := pairs[i].(string)
		if got := fmt.Sprint(r.get(path)); got != fmt.Sprint(pairs[i+1]) {
			r.t.Fatalf("%s is %s, want %v, in %s", path, got, pairs[i+1], r.body)
		}
	}
	return r
}

// refused fails the test unless the answer is an error of that status with a
// problem at the field whose message has the text.
func (r *reply) refused(status int, field, text string) *reply {
	r.t.Helper()
	r.is(status)
	problems, _ := r.get("errors").([]any)
	for _, p := range problems {
		p := p.(map[string]any)
		for _, name := range []string{"type", "message", "field", "data", "status"} {
			if _, ok := p[name]; !ok {
				r.t.Fatalf("an error without %s: %s", name, r.body)
			}
		}
		at, _ := p["field"].(string)
		if at == field && strings.Contains(p["message"].(string), text) && p["status"] == float64(status) {
			return r
		}
	}
	r.t.Fatalf("want an error at %q with %q: %s", field, text, r.body)
	return r
}

func (w *world) do(method, path string, body any, headers ...string) *reply {
	w.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		must(w.t, err)
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, in)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.server.Client().Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(w.t, err)
	r := &reply{t: w.t, status: resp.StatusCode, header: resp.Header, body: string(text)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &r.doc); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return r
}

func (w *world) get(path string, headers ...string) *reply {
	w.t.Helper()
	return w.do("GET", path, nil, headers...)
}

func (w *world) post(path string, body any) *reply { w.t.Helper(); return w.do("POST", path, body) }

func (w *world) patch(path string, body any) *reply { w.t.Helper(); return w.do("PATCH", path, body) }

func (w *world) delete(path string) *reply { w.t.Helper(); return w.do("DELETE", path, nil) }

// source makes a source and returns its id.
func (w *world) source(slug string) string {
	w.t.Helper()
	return w.post("/api/sources", map[string]any{"slug": slug, "enabled": true, "metadataId": "IqDTy1TpoU"}).is(201).text("data.source.id")
}

type object = map[string]any

func TestEveryRouteAsksForTheToken(t *testing.T) {
	w := newWorld(t)
	doc := w.get("/api/openapi.json", "Authorization", "").is(200)
	paths := doc.get("paths").(object)
	if len(paths) < 30 {
		t.Fatalf("%d paths in the table", len(paths))
	}
	for path, operations := range paths {
		for method := range operations.(object) {
			for _, header := range []string{"", "Bearer wrong", "Basic dGhlLWFkbWluLXRva2VuOg=="} {
				r := w.do(strings.ToUpper(method), "/api"+path, nil, "Authorization", header)
				if r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s with %q: %d", method, path, header, r.status)
				}
				r.refused(401, "", "token")
				w.clock.Set(w.clock.Now().Add(time.Second)) // so that they are not too many at once
			}
		}
	}
	w.get("/api/nowhere", "Authorization", "").is(401)
	for range 101 {
		w.get("/api/sources", "Authorization", "Bearer wrong")
	}
	r := w.get("/api/sources", "Authorization", "Bearer wrong").refused(429, "", "too many wrong tokens")
	if r.header.Get("Retry-After") != "1" {
		t.Errorf("it says to wait %q", r.header.Get("Retry-After"))
	}
}

func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	doc := w.get("/api/openapi.json", "Authorization", "").is(200, "openapi", "3.1.0", "servers.0.url", "/api")
	for _, path := range []string{"/", "/echo", "/sources", "/sources/{sourceId}/writekey/{writeKey}", "/tracking-plans/{trackingPlanId}/rules",
		"/spaces/{spaceId}/audiences/{id}/destination-connections/{connectionId}/activations", "/live", "/workspace/apply"} {
		if _, ok := doc.get("paths").(object)[path]; !ok {
			t.Errorf("no path %s", path)
		}
	}
	var walk func(at string, v any)
	schemas := doc.get("components.schemas").(object)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok {
				if _, known := schemas[strings.TrimPrefix(ref, "#/components/schemas/")]; !known {
					t.Errorf("%s refers to %s, which is not there", at, ref)
				}
			}
			for k, x := range v {
				walk(at+"."+k, x)
			}
		case []any:
			for i, x := range v {
				walk(fmt.Sprintf("%s.%d", at, i), x)
			}
		}
	}
	walk("", doc.doc)
	for name := range schemas {
		if !regexp.MustCompile(`^[a-zA-Z0-9._-]+$`).MatchString(name) { // OpenAPI 3.1, section 4.8.7
			t.Errorf("a schema has the name %q", name)
		}
	}
	ids := map[string]string{}
	for path, operations := range doc.get("paths").(object) {
		for method, op := range operations.(object) {
			id := op.(object)["operationId"].(string)
			if ids[id] != "" {
				t.Errorf("%s is the name of %s and of %s %s", id, ids[id], method, path)
			}
			ids[id] = method + " " + path
		}
	}
}

func TestErrorsHaveOneForm(t *testing.T) {
	w := newWorld(t)
	w.get("/api/nowhere").refused(404, "", "openapi.json")
	w.get("/api/sources/none/").refused(404, "", "there is no GET")
	r := w.do("PUT", "/api/sources", nil).refused(405, "", "possible: GET, POST")
	if r.header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %q", r.header.Get("Allow"))
	}
	w.get("/api/sources/none").refused(404, "", `no source "none"`)
	w.post("/api/sources", `{"slug":`).refused(400, "", "unexpected end")
	w.post("/api/sources", `[]`).refused(422, "", "object")
	w.post("/api/sources", ``).refused(400, "", "body")
	w.post("/api/sources", object{"slug": 1, "metadataId": "x"}).refused(422, "slug", "string")
	w.post("/api/sources", object{"slug": "a"}).refused(422, "metadataId", "missing")
	w.post("/api/sources", object{"slug": "a", "metadataId": "x", "color": "red"}).refused(422, "color", "no such field")
	w.post("/api/sources", object{"slug": "no good", "metadataId": "x"}).refused(422, "slug", "not a slug")
	w.do("POST", "/api/sources", "slug=a", "Content-Type", "application/x-www-form-urlencoded").refused(415, "", "content type")
	w.post("/api/sources", `{"slug":"`+strings.Repeat("x", 1<<20)+`"}`).refused(413, "", "too large")
	w.get("/api/sources?pagination[count]=x").refused(422, "pagination.count", "")
	w.get("/api/echo?triggerError=true").refused(422, "triggerError", "asked")
	w.source("taken")
	w.post("/api/sources", object{"slug": "taken", "metadataId": "x"}).refused(422, "slug", "in use")
	if leak := w.post("/api/sources", `{"slug": "secret-in-here", }`); strings.Contains(leak.body, "secret-in-here") {
		t.Errorf("an error repeats the request: %s", leak.body)
	}
}

func TestOwnFailuresStayInTheLog(t *testing.T) {
	w := newWorld(t)
	w.played.fail = errors.New("disk on fire")
	r := w.get("/v1/spaces/default/collections/users/profiles/user_id:u1/traits", "Authorization", basic(token))
	if r.status != 500 || strings.Contains(r.body, "fire") || !strings.Contains(w.log.String(), "disk on fire") {
		t.Errorf("%d %s; log %s", r.status, r.body, w.log)
	}
}

func TestMediaTypes(t *testing.T) {
	w := newWorld(t)
	for i, media := range []string{"application/json", "application/json; charset=utf-8", "application/vnd.segment.v1+json", "application/vnd.segment.v1beta+json", "application/vnd.segment.v1alpha+json"} {
		r := w.do("POST", "/api/sources", object{"slug": fmt.Sprintf("s%d", i), "metadataId": "x"}, "Content-Type", media)
		if r.is(201); r.header.Get("Content-Type") != "application/json" {
			t.Errorf("answer to %s without Accept: %s", media, r.header.Get("Content-Type"))
		}
	}
	for accept, want := range map[string]string{
		"application/json": "application/json", "*/*": "application/json", "text/html": "application/json",
		"application/vnd.segment.v1alpha+json":                    "application/vnd.segment.v1alpha+json",
		"application/vnd.segment.v1+json, application/json;q=0.5": "application/vnd.segment.v1+json",
	} {
		if got := w.get("/api/sources", "Accept", accept).is(200).header.Get("Content-Type"); got != want {
			t.Errorf("Accept %s: %s", accept, got)
		}
		if got := w.get("/api/sources/none", "Accept", accept).is(404).header.Get("Content-Type"); got != want {
			t.Errorf("error with Accept %s: %s", accept, got)
		}
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	w.get("/api/sources").is(200, "data.sources", "[]", "data.pagination.totalEntries", 0, "data.pagination.current", "MA==", "data.pagination.next", nil, "data.pagination.previous", nil)
	want := map[string]bool{}
	for i := range 7 {
		want[w.source(fmt.Sprintf("s%d", i))] = true
	}
	for _, form := range []string{"pagination[count]=3&pagination[cursor]=%s", "pagination.count=3&pagination.cursor=%s", "pagination%%5Bcount%%5D=3&pagination%%5Bcursor%%5D=%s"} {
		seen := map[string]bool{}
		cursor, previous := "MA==", []string{"<nil>"}
		for range 3 {
			r := w.get("/api/sources?"+fmt.Sprintf(form, cursor)).is(200, "data.pagination.current", cursor, "data.pagination.totalEntries", 7)
			for _, s := range r.get("data.sources").([]any) {
				seen[s.(object)["id"].(string)] = true
			}
			if got := fmt.Sprint(r.get("data.pagination.previous")); got != previous[len(previous)-1] {
				t.Errorf("%s: previous of %s is %s, want %s", form, cursor, got, previous[len(previous)-1])
			}
			previous = append(previous, cursor)
			next, _ := r.get("data.pagination.next").(string)
			cursor = next
		}
		if cursor != "" || len(seen) != 7 {
			t.Errorf("%s: %d sources seen, then %q", form, len(seen), cursor)
		}
	}
	w.get("/api/sources?pagination[count]=1001").refused(422, "pagination.count", "1000")
	w.get("/api/sources?pagination[count]=-1").refused(422, "pagination.count", "1000")
	w.get("/api/sources?pagination[cursor]=xx").refused(422, "pagination.cursor", "no cursor")
}

func basic(user string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, "")
	return r.Header.Get("Authorization")
}

func TestWorkspaceAndEcho(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/api", "/api/"} {
		w.get(path).is(200, "data.workspace.slug", "kith", "data.workspace.id", w.store.Current().ID)
	}
	r := w.get("/api/echo?message=hello").is(200, "data.message", "hello", "data.method", "GET")
	if strings.Contains(r.body, token) {
		t.Error("echo repeats the token")
	}
	if r.header.Get("Request-Id") == "" {
		t.Error("no Request-Id")
	}
}

func TestSpacesAndTokens(t *testing.T) {
	w := newWorld(t)
	w.get("/api/spaces").is(200, "data.spaces.0.slug", "default", "data.pagination.totalEntries", 1)
	id := w.post("/api/spaces", object{"slug": "staff", "identifiers": []any{object{"type": "badge", "limit": 1}, object{"type": "user_id"}}}).is(201, "data.space.name", "staff").text("data.space.id")
	w.get("/api/spaces/staff").is(200, "data.space.id", id, "data.space.identifiers.0.type", "badge")
	w.get("/api/spaces/"+id).is(200, "data.space.slug", "staff")
	w.get("/api/spaces/none").refused(404, "", "no space")
	w.post("/api/spaces", object{"slug": "staff"}).refused(422, "slug", "in use")
	w.patch("/api/spaces/staff", object{"name": "Staff", "identifiers": []any{object{"type": "Bad"}}}).refused(422, "identifiers.0.type", "lower-case")
	w.patch("/api/spaces/staff", object{"name": "Staff"}).is(200, "data.space.name", "Staff", "data.space.identifiers.0.type", "badge")

	made := w.post("/api/spaces/staff/profile-tokens", object{"name": "reader"}).is(201, "data.token.name", "reader")
	secret := made.text("data.token.token")
	list := w.get("/api/spaces/staff/profile-tokens").is(200, "data.tokens.0.id", made.text("data.token.id"))
	if strings.Contains(list.body, secret) {
		t.Error("a token is shown again")
	}
	const read = "/collections/users/profiles/user_id:u1/traits"
	w.get("/v1/spaces/staff"+read, "Authorization", basic(secret)).is(200)
	w.get("/v1/spaces/default"+read, "Authorization", basic(secret)).is(401, "error.code", "authentication_error")
	w.get("/api/sources", "Authorization", "Bearer "+secret).is(401)
	w.delete("/api/spaces/default/profile-tokens/"+made.text("data.token.id")).refused(404, "", "no profile token")
	w.delete("/api/spaces/staff/profile-tokens/"+made.text("data.token.id")).is(200, "data.status", "SUCCESS")
	w.get("/v1/spaces/staff"+read, "Authorization", basic(secret)).is(401)
	w.post("/api/spaces/staff/profile-tokens", object{"name": ""}).refused(422, "name", "")
}
