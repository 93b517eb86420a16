package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/profile"
)

// people plays what the Profile API reads and orders beside the five reads.
type people struct {
	search  profile.SearchQuery
	batch   profile.BatchQuery
	own     []event.Identifier
	ordered []*event.Command
	late    bool                        // Passed does not return before the context ends
	waited  []string                    // messages that were waited for
	hold    func(context.Context) error // instead of noting who waits
	wait    error
}

func (p *played) Search(_ context.Context, t profile.Target, q profile.SearchQuery) (*profile.SearchPage, error) {
	p.profile, p.search = t, q
	return &profile.SearchPage{Data: []profile.Found{}, Complete: true}, p.fail
}

func (p *played) Batch(_ context.Context, t profile.Target, q profile.BatchQuery) (*profile.BatchPage, error) {
	p.profile, p.batch = t, q
	return &profile.BatchPage{Data: []profile.BatchItem{}}, p.fail
}

func (p *played) Own(_ context.Context, t profile.Target, named []event.Identifier) (own, found []event.Identifier, err error) {
	if p.profile = t; p.fail != nil {
		return nil, nil, p.fail
	}
	for _, id := range named {
		if !slices.Contains(p.own, id) {
			id = event.Identifier{}
		}
		found = append(found, id)
	}
	return p.own, found, nil
}

func (p *played) Order(_ context.Context, _ uint32, c *event.Command) (commitlog.Offset, error) {
	p.ordered = append(p.ordered, c)
	return commitlog.Offset(6 + len(p.ordered)), c.Check()
}

func (p *played) Passed(ctx context.Context, _ uint32, _ commitlog.Offset) error {
	if p.late {
		return fault.Wrap(fault.Unavailable, context.DeadlineExceeded)
	}
	return nil
}

func (p *played) WaitFor(ctx context.Context, space uint32, id string) error {
	if p.hold != nil {
		return p.hold(ctx)
	}
	deadline, _ := ctx.Deadline()
	p.waited = append(p.waited, fmt.Sprintf("%d %s %v", space, id, time.Until(deadline).Round(time.Second)))
	return p.wait
}

func TestProfileAPI(t *testing.T) {
	w := newWorld(t)
	admin := []string{"Authorization", basic(token)}
	const at = "/v1/spaces/default/collections/users/profiles/"
	r := w.get(at+"user_id:u1/traits?class=audience&include=a,b&limit=5&verbose=true&next=c", admin...).is(200, "traits.plan", "pro", "cursor.limit", 10)
	if r.header.Get("Request-Id") == "" {
		t.Error("no Request-Id")
	}
	want := profile.Target{Space: w.store.Current().Space("default"), Epoch: 3, Path: "default", Collection: "users", ID: "user_id:u1"}
	if w.played.profile != want {
		t.Errorf("asked for %+v", w.played.profile)
	}
	if q := w.played.traits; q.Class != "audience" || len(q.Include) != 2 || q.Limit != 5 || !q.Verbose || q.Next != "c" {
		t.Errorf("asked for %+v", q)
	}
	w.get(at+"user_id:u1/traits?include=a,+b,&include=c", admin...).is(200)
	if q := w.played.traits; !slices.Equal(q.Include, []string{"a", "b", "c"}) {
		t.Errorf("asked for %q", q.Include)
	}
	w.get(at+"user_id:u1/events?start=2025-01-01&end=2025-02-01&exclude=x&sort=asc", admin...).is(200, "data", "[]")
	if q := w.played.events; q.Start != "2025-01-01" || q.End != "2025-02-01" || len(q.Exclude) != 1 || q.Sort != "asc" {
		t.Errorf("asked for %+v", q)
	}
	for _, read := range []string{"external_ids", "metadata", "links"} {
		w.get(at+"user_id:u1/"+read, admin...).is(200)
	}
	for sent, id := range map[string]string{
		"email:a%2Bb%40example.com": "email:a+b@example.com", "email:a+b@example.com": "email:a+b@example.com", "user_id:a%2Fb": "user_id:a/b",
		"user_id:a%252Fb": "user_id:a%2Fb", "user_id:%C3%A4%20%3F": "user_id:ä ?", "user_id%3Ax": "user_id:x", "user_id:a:b": "user_id:a:b", "use_123": "use_123",
	} {
		w.get(at+sent+"/traits", admin...).is(200)
		if w.played.profile.ID != id {
			t.Errorf("%s is asked for as %q", sent, w.played.profile.ID)
		}
	}
	w.get("/v1/namespaces/default/collections/users/profiles/user_id:u1/metadata?verbose=true", admin...).is(200)
	w.get(at+"user_id:u1/external_ids?verbose=true", admin...).is(200)
	space := w.store.Current().Space("default").ID
	w.get("/v1/spaces/"+space+"/collections/accounts/profiles/group_id:g/traits", admin...).is(200)
	if w.played.profile.Collection != "accounts" || w.played.profile.Path != space {
		t.Errorf("asked for %+v", w.played.profile)
	}

	w.get(at+"user_id:u1/traits", "Authorization", "").is(401, "error.code", "authentication_error")
	w.get(at+"user_id:u1/traits", "Authorization", "Bearer "+token).is(401, "error.code", "authentication_error")
	w.get("/v1/spaces/none/collections/users/profiles/user_id:u1/traits", "Authorization", basic("wrong")).is(401)
	w.get("/v1/spaces/none/collections/users/profiles/user_id:u1/traits", admin...).is(404, "error.code", "not_found")
	w.get(at+"user_id:u1/dreams", admin...).is(404, "error.code", "not_found")
	w.do("POST", at+"user_id:u1/traits", nil, admin...).is(404, "error.code", "not_found")
	w.get(at+"user_id:u1/traits?limit=x", admin...).is(400, "error.code", "invalid_request_error")
	w.played.fail = fault.New(fault.NotFound, "Profile was not found.")
	w.get(at+"user_id:u1/traits", admin...).is(404, "error.code", "not_found", "error.message", "Profile was not found.")
	w.played.fail = fault.Field("class", "no class")
	w.get(at+"user_id:u1/traits", admin...).is(400, "error.code", "invalid_request_error", "error.message", "class: no class")
	w.played.fail = fault.Field("collection", "The parameter `collection` has invalid character(s) `!`")
	w.get(at+"user_id:u1/traits", admin...).is(400, "error.code", "validation_error", "error.message", "The parameter `collection` has invalid character(s) `!`")
	w.played.fail = &fault.Error{Kind: fault.RetryAfter, Message: "slow down"}
	w.get(at+"user_id:u1/traits", admin...).is(429, "error.code", "rate_limit_error")
	w.played.fail = errors.New("a secret of ours")
	if r := w.get(at+"user_id:u1/traits", admin...).is(500, "error.code", "api_error"); strings.Contains(r.body, "secret") {
		t.Error(r.body)
	}
	w.played.fail = fault.New(fault.Unavailable, "closing")
	w.get(at+"user_id:u1/traits", admin...).is(503)
}

const users = "/v1/spaces/default/collections/users/profiles"

func TestProfileAPIBeyondSegment(t *testing.T) {
	w := newWorld(t)
	admin := []string{"Authorization", basic(token)}
	src := w.source("web")
	w.get(users+"/user_id:u1/events?types=identify,track&source=web,gone&property.plan=gold&property.a.b=1", admin...).is(200)
	if q := w.played.events; !slices.Equal(q.Types, []string{"identify", "track"}) || !slices.Equal(q.Sources, []string{src, "gone"}) ||
		!slices.Equal(q.Properties, []profile.PropertyMatch{{Path: "a.b", Value: "1"}, {Path: "plan", Value: "gold"}}) {
		t.Errorf("asked for %+v", q)
	}
	w.get(users+"?external_id=jo&type=email&trait.lastName=Smith&trait.first%20name=A%26B&match=prefix&ignore_case=true&traits=email,phone&limit=7&next=n", admin...).is(200, "complete", true)
	want := profile.SearchQuery{ExternalID: "jo", Type: "email", Prefix: true, IgnoreCase: true, Show: []string{"email", "phone"}, Limit: 7, Next: "n",
		Traits: []profile.TraitMatch{{Name: "first name", Value: "A&B"}, {Name: "lastName", Value: "Smith"}}}
	if fmt.Sprint(w.played.search) != fmt.Sprint(want) {
		t.Errorf("asked for %+v", w.played.search)
	}
	w.get(users+"?trait.a=b&match=fuzzy", admin...).is(400, "error.code", "invalid_request_error")
	w.get(users+"?trait.a=b", "Authorization", "").is(401)

	w.do("POST", users+"/batch", object{"ids": []any{"user_id:u1", "use_1"}, "read": "traits", "include": []any{"a"}, "class": "audience", "verbose": true, "limit": 3}, admin...).is(200)
	if q := w.played.batch; fmt.Sprint(q) != fmt.Sprint(profile.BatchQuery{IDs: []string{"user_id:u1", "use_1"}, Read: "traits", Include: []string{"a"}, Class: "audience", Verbose: true, Limit: 3}) {
		t.Errorf("asked for %+v", q)
	}
	for _, body := range []string{"", "[]", `{"ids":"x"}`, `{"idz":[]}`, `{"ids":[]} {}`, `{"ids":["` + strings.Repeat("x", 2<<20) + `"]}`} {
		w.do("POST", users+"/batch", body, admin...).is(400, "error.code", "invalid_request_error")
	}
	w.do("POST", users+"/batch", object{}, "Authorization", basic("wrong")).is(401)
}

// TestAppsDoNotTakeAllWaits has client tokens, which anybody may hold, wait as
// much as they can: servers wait all the same.
func TestAppsDoNotTakeAllWaits(t *testing.T) {
	w := newWorld(t)
	app := "Bearer " + w.clientToken(basic(token), object{"profile": "*", "reads": []any{"traits"}}).is(200).text("token")
	const places = 256
	entered, release := make(chan bool, places+1), make(chan struct{})
	w.played.hold = func(ctx context.Context) error {
		entered <- true
		select {
		case <-release:
		case <-ctx.Done():
		}
		return fault.New(fault.Unavailable, "held by the test")
	}
	ask := func(with string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+users+"/user_id:u1/traits?wait_for=m1&wait_timeout=30", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		r.Header.Set("Authorization", with)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	var asking sync.WaitGroup
	for range places {
		asking.Go(func() { ask(app) })
		<-entered // the world's chance is for one at a time
	}
	if status := ask(app); status != 429 {
		t.Errorf("one more app waits: %d", status)
	}
	asking.Go(func() {
		if status := ask(basic(token)); status != 504 {
			t.Errorf("a server does not wait: %d", status)
		}
	})
	<-entered
	close(release)
	asking.Wait()
}

func TestWaitFor(t *testing.T) {
	w := newWorld(t)
	admin := []string{"Authorization", basic(token)}
	w.get(users+"/user_id:u1/traits?wait_for=m1", admin...).is(200)
	w.get(users+"/user_id:u1/metadata?wait_for=m2&wait_timeout=30", admin...).is(200)
	w.get(users+"?external_id=x", append(admin, "Kith-Wait-For", "m3")...).is(200)
	w.get(users+"/user_id:u1/traits", admin...).is(200)
	if got := strings.Join(w.played.waited, ", "); got != "1 m1 5s, 1 m2 30s, 1 m3 5s" {
		t.Errorf("waited for %s", got)
	}
	for _, seconds := range []string{"31", "x", "-1", "0"} {
		w.get(users+"/user_id:u1/traits?wait_for=m1&wait_timeout="+seconds, admin...).is(400, "error.code", "invalid_request_error")
	}
	w.played.wait = fault.New(fault.NotFound, "no message")
	w.get(users+"/user_id:u1/traits?wait_for=m1", admin...).is(404, "error.code", "message_not_found")
	w.played.wait = fault.New(fault.Unavailable, "12 records are to be processed")
	r := w.get(users+"/user_id:u1/traits?wait_for=m1", admin...).is(504, "error.code", "wait_timeout", "error.message", "12 records are to be processed")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	n := len(w.played.waited)
	w.get(users+"/user_id:u1/traits?wait_for=m1", "Authorization", basic("wrong")).is(401)
	if len(w.played.waited) != n {
		t.Error("who has no token makes us wait")
	}
}

func TestDeleteIdentifiers(t *testing.T) {
	w := newWorld(t)
	const path = users + "/user_id:user_001/external_ids/delete"
	ids := func(pairs ...string) object {
		var list []any
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, object{"type": pairs[i], "id": pairs[i+1]})
		}
		return object{"delete_external_ids": list}
	}
	w.played.own = []event.Identifier{{Collection: "users", Type: "user_id", Value: "user_001"}, {Collection: "users", Type: "email", Value: "example@example.com"},
		{Collection: "users", Type: "anonymous_id", Value: "a1"}, {Collection: "users", Type: "user_id", Value: "user_002"}}
	admin := basic(token)
	made := w.post("/api/spaces/default/profile-tokens", object{"name": "crm", "deleteIdentifiers": true}).is(201, "data.token.deleteIdentifiers", true)
	deleter := basic(made.text("data.token.token"))
	reader := basic(w.post("/api/spaces/default/profile-tokens", object{"name": "web"}).is(201, "data.token.deleteIdentifiers", false).text("data.token.token"))

	// Segment's request, as its page has it.
	w.do("POST", path, ids("email", "example@example.com"), "Authorization", deleter).
		is(200, "code", "success", "message", "External identifier has been deleted.", "deleted.0.type", "email", "deleted.0.offset", 7)
	if c := w.played.ordered[0]; c.By != "crm" || c.DeleteIdentifier.Identifier != (event.ExternalID{Collection: "users", Type: "email", ID: "example@example.com"}) {
		t.Errorf("ordered %+v", c)
	}
	// Beyond it: several, by any identifier, with a note.
	two := ids("email", "example@example.com", "anonymous_id", "a1", "email", "example@example.com")
	two["note"] = "typed wrong"
	w.do("POST", users+"/email:x@example.com/external_ids/delete", two, "Authorization", admin).
		is(200, "message", "2 external identifiers have been deleted.", "deleted.1.id", "a1", "deleted.2", nil)
	if len(w.played.ordered) != 3 || w.played.ordered[2].Note != "typed wrong" {
		t.Errorf("ordered %d", len(w.played.ordered))
	}
	w.do("POST", strings.Replace(path, "spaces", "namespaces", 1), ids("email", "example@example.com"), "Authorization", admin).is(200)
	w.played.late = true
	w.do("POST", path, ids("email", "example@example.com"), "Authorization", admin).is(202, "code", "accepted")
	w.played.late = false

	w.played.ordered = nil
	accounts := strings.Replace(path, "users", "accounts", 1)
	many := make([]string, 0, 202)
	for i := range 101 {
		many = append(many, "email", fmt.Sprint(i))
	}
	for _, tt := range []struct {
		name, path, token string
		body              any
		status            int
		code, message     string
	}{
		{"no token", path, "", ids("email", "x"), 401, "unauthorized", "no token"},
		{"a wrong token", path, basic("wrong"), ids("email", "x"), 401, "unauthorized", "not valid"},
		{"a token that reads", path, reader, ids("email", "x"), 403, "forbidden", "deleteIdentifiers"},
		{"no body", path, admin, "", 400, "bad_request", "delete_external_ids"},
		{"nothing to delete", path, admin, object{}, 400, "bad_request", "missing"},
		{"too many", path, admin, ids(many...), 400, "bad_request", "at most 100"},
		{"no type", path, admin, ids("", "x"), 400, "bad_request", "has a type and an id"},
		{"a group id", path, admin, ids("group_id", "g1"), 400, "unsupported_eid_type", "Unsupported external id type."},
		{"an account", accounts, admin, ids("email", "x"), 400, "bad_request", "Invalid collection: `accounts`."},
		{"the lookup id", path, admin, ids("user_id", "user_001"), 400, "bad_request", "External id specification must differ from lookup id."},
		{"the last user_ids", users + "/anonymous_id:a1/external_ids/delete", admin, ids("user_id", "user_001", "user_id", "user_002"), 400, "bad_request", "at least one user_id"},
		{"somebody else's", path, admin, ids("email", "example@example.com", "email", "other@example.com"), 404, "eid_not_found", "External identifier not found."},
		{"an unknown space", strings.Replace(path, "default", "none", 1), admin, ids("email", "x"), 404, "not_found", "no space"},
		{"a long note", path, admin, object{"note": strings.Repeat("x", 2001), "delete_external_ids": []any{object{"type": "email", "id": "x"}}}, 400, "bad_request", "note"},
	} {
		r := w.do("POST", tt.path, tt.body, "Authorization", tt.token)
		if r.is(tt.status, "error.code", tt.code); !strings.Contains(r.text("error.message"), tt.message) {
			t.Errorf("%s: %s", tt.name, r.body)
		}
	}
	w.played.fail = fault.New(fault.NotFound, "Profile was not found.")
	w.do("POST", path, ids("email", "x"), "Authorization", admin).is(404, "error.code", "not_found", "error.message", "The resource was not found.")
	if w.played.fail = nil; len(w.played.ordered) != 0 {
		t.Fatalf("%d were ordered although nothing should be", len(w.played.ordered))
	}
	w.do("POST", path+"?force=true", ids("user_id", "user_001", "user_id", "user_002"), "Authorization", admin).is(200)
	w.played.own = []event.Identifier{{Collection: "accounts", Type: "group_id", Value: "g1"}}
	w.do("POST", "/v1/spaces/default/collections/accounts/profiles/group_id:g1/external_ids/delete?force=true", ids("group_id", "g1"), "Authorization", admin).is(200)
	if c := w.played.ordered[2]; c.DeleteIdentifier.Identifier.Collection != "accounts" {
		t.Errorf("ordered %+v", c)
	}
	w.get(path, "Authorization", admin).is(404, "error.code", "not_found")
}

// clientToken makes a client token of the space default.
func (w *world) clientToken(with string, body object) *reply {
	w.t.Helper()
	return w.do("POST", "/v1/spaces/default/client-tokens", body, "Authorization", with)
}

func TestClientTokensOverHTTP(t *testing.T) {
	w := newWorld(t)
	const app, evil = "https://app.example.com", "https://evil.example.com"
	server := w.post("/api/spaces/default/profile-tokens", object{"name": "app server"}).is(201)
	profileToken := basic(server.text("data.token.token"))
	made := w.clientToken(profileToken, object{"profile": "user_id:u1", "reads": []any{"traits", "metadata"}, "include": []any{"plan", "name"}, "expires_in": 600, "origins": []any{app}}).
		is(200, "expires_at", "2025-03-01T12:10:00.000Z")
	client := made.text("token")
	bearer := []string{"Authorization", "Bearer " + client}
	allowed := func(r *reply) string { return r.header.Get("Access-Control-Allow-Origin") }

	// What it is for, from a page, from another, and from no page.
	r := w.get(users+"/user_id:u1/traits", append(bearer, "Origin", app)...).is(200)
	if allowed(r) != app || r.header.Get("Vary") != "Origin" || r.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("headers: %v", r.header)
	}
	if w.played.profile.Only != "user_id:u1" || !slices.Equal(w.played.traits.Include, []string{"plan", "name"}) {
		t.Errorf("asked for %+v %+v", w.played.profile, w.played.traits)
	}
	if r := w.get(users+"/user_id:u1/traits", append(bearer, "Origin", evil)...).is(403, "error.code", "forbidden"); allowed(r) != "" {
		t.Errorf("another page may read: %v", r.header)
	}
	w.get(users+"/user_id:u1/traits", bearer...).is(200)
	w.get(users+"/user_id:u1/metadata", "Authorization", basic(client)).is(200)
	w.get("/v1/namespaces/default/collections/users/profiles/user_id:u1/traits", bearer...).is(200)
	w.get(users+"/user_id:u1/traits?include=plan,card", bearer...).is(200)
	if !slices.Equal(w.played.traits.Include, []string{"plan"}) {
		t.Errorf("asked for %v", w.played.traits.Include)
	}
	w.get(users+"/user_id:u1/traits?include=card", bearer...).is(403)
	w.get(users+"/user_id:u1/traits?class=audience", bearer...).is(200)
	if !slices.Equal(w.played.traits.Include, []string{"plan", "name"}) {
		t.Errorf("asked for %v", w.played.traits.Include)
	}
	// What it is not for.
	w.get(users+"/user_id:u1/events", bearer...).is(403)
	w.get(users+"?external_id=u", bearer...).is(403)
	w.do("POST", users+"/batch", object{}, bearer...).is(403)
	w.do("POST", users+"/user_id:u1/external_ids/delete", object{}, bearer...).is(403)
	w.do("POST", "/v1/spaces/default/client-tokens", object{}, bearer...).is(403)
	w.do("DELETE", "/v1/spaces/default/client-tokens", nil, bearer...).is(403)
	w.get("/v1/spaces/default/collections/accounts/profiles/group_id:g1/traits", bearer...).is(403)
	w.get("/v1/spaces/none/collections/users/profiles/user_id:u1/traits", bearer...).is(401)
	w.get("/api/spaces", bearer...).is(401)
	w.get(users+"/user_id:u1/traits", "Authorization", "Basic "+strings.TrimPrefix(basic(client+":x"), "Basic ")).is(401)
	w.played.fail = fault.New(fault.Denied, "the token is not for this profile")
	w.get(users+"/user_id:u2/traits", bearer...).is(403, "error.code", "forbidden")
	w.played.fail = nil
	// Other tokens have no pages.
	for _, other := range []string{basic(token), profileToken} {
		if r := w.get(users+"/user_id:u1/traits", "Authorization", other, "Origin", app).is(200); allowed(r) != "" {
			t.Errorf("a page may read with a server's token: %v", r.header)
		}
	}
	// Tampered with, and too long.
	for _, bad := range []string{client[:len(client)-1], client + "A", client[:30] + "A" + client[31:], "kith_client_" + strings.Repeat("A", 20_000)} {
		if r := w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+bad, "Origin", app).is(401, "error.code", "authentication_error"); allowed(r) != "" {
			t.Errorf("a page may read why: %v", r.header)
		}
	}
	// Over: the page is told why.
	w.clock.Set(start.Add(10 * time.Minute))
	if r := w.get(users+"/user_id:u1/traits", append(bearer, "Origin", app)...).is(401); allowed(r) != app || !strings.Contains(r.text("error.message"), "expired") {
		t.Errorf("%v %s", r.header, r.body)
	}

	revoke := func(path string) {
		t.Helper()
		w.do("DELETE", "/v1/spaces/default/client-tokens"+path, nil, "Authorization", profileToken).is(200, "revoked", true)
	}
	body := object{"profile": "*", "reads": []any{"traits"}}
	one, two := w.clientToken(profileToken, body).is(200), w.clientToken(profileToken, body).is(200)
	w.get(users+"/user_id:anybody/traits", "Authorization", "Bearer "+one.text("token")).is(200)
	if w.played.profile.Only != "" {
		t.Errorf("asked for %+v", w.played.profile)
	}
	revoke("/" + one.text("id"))
	w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+one.text("token")).is(401)
	w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+two.text("token")).is(200)
	revoke("")
	w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+two.text("token")).is(401)
	three := w.clientToken(profileToken, body).is(200)
	w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+three.text("token")).is(200)
	w.delete("/api/spaces/default/profile-tokens/" + server.text("data.token.id")).is(200)
	w.get(users+"/user_id:u1/traits", "Authorization", "Bearer "+three.text("token")).is(401)

	for _, body := range []object{{}, {"profile": "user_id:u1"}, {"profile": "user_id:u1", "reads": []any{"traits"}, "expires_in": 86401}, {"profile": "user_id:u1", "reads": []any{"traits"}, "expires_in": -1},
		{"profile": "user_id:u1", "reads": []any{"traits"}, "origins": []any{"*"}}, {"profile": "user_id:u1", "reads": []any{"search"}}} {
		w.clientToken(basic(token), body).is(400, "error.code", "invalid_request_error")
	}
	w.clientToken(basic("wrong"), object{}).is(401)
	w.do("DELETE", "/v1/spaces/default/client-tokens/what", nil, "Authorization", basic(token)).is(404)
}

func TestPreflight(t *testing.T) {
	w := newWorld(t)
	const app = "https://app.example.com"
	w.clientToken(basic(token), object{"profile": "user_id:u1", "reads": []any{"traits"}, "origins": []any{app}}).is(200)
	ask := func(path, origin, method string) *reply {
		t.Helper()
		return w.do("OPTIONS", path, nil, "Authorization", "", "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization")
	}
	r := ask(users+"/user_id:u1/traits", app, "GET").is(204)
	for name, want := range map[string]string{"Access-Control-Allow-Origin": app, "Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "Authorization, Kith-Wait-For", "Access-Control-Allow-Credentials": ""} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, refused := range [][3]string{
		{users + "/user_id:u1/traits", "https://evil.example.com", "GET"},
		{users + "/user_id:u1/traits", "null", "GET"},
		{users + "/user_id:u1/traits", "", "GET"},
		{users + "/user_id:u1/traits", app, "POST"},
		{"/v1/spaces/none/collections/users/profiles/user_id:u1/traits", app, "GET"},
		{users + "/batch", app, "POST"},
		{users, app, "GET"},
		{"/v1/spaces/default/client-tokens", app, "POST"},
	} {
		if r := ask(refused[0], refused[1], refused[2]); r.status < 400 || r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v: %d %v", refused, r.status, r.header)
		}
	}
	w.clock.Set(start.Add(48 * time.Hour))
	if r := ask(users+"/user_id:u1/traits", app, "GET"); r.status != http.StatusForbidden {
		t.Errorf("after the last token: %d", r.status)
	}
}
