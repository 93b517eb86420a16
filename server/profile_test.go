package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/client"
	"kith/fault"
	"kith/pipeline"
)

// house is a running server with a source, whose people are read.
type house struct {
	t    *testing.T
	s    *Server
	base string
	c    *client.Client
}

func newHouse(t *testing.T, change func(*Config)) *house {
	t.Helper()
	cfg := inMemory()
	if change != nil {
		change(&cfg)
	}
	s, base, _ := running(t, cfg)
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), []byte("sources: [{slug: web, writeKeys: [web-write-key]}]"), nil, false, false); err != nil {
		t.Fatal(err)
	}
	return &house{t, s, base, c}
}

// send sends a call and does not wait until it is processed.
func (h *house) send(call, body string) {
	h.t.Helper()
	if err := h.c.Send(h.t.Context(), "web-write-key", call, json.RawMessage(body)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) traits(id, waitFor string) (map[string]json.RawMessage, error) {
	traits, _, err := h.c.Traits(h.t.Context(), client.Profile{Space: "default", ID: id}, client.Page{Wait: client.Wait{For: waitFor}})
	return traits, err
}

// TestReadsSeeWhatTheyWaitFor has many write and read at once: everybody sees
// what he has written, if he asks to.
func TestReadsSeeWhatTheyWaitFor(t *testing.T) {
	h := newHouse(t, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 25 {
				id := fmt.Sprintf("m-%d-%d", i, n)
				h.send("identify", fmt.Sprintf(`{"userId":"u%d","messageId":%q,"traits":{"n":%d}}`, i, id, n))
				traits, err := h.traits(fmt.Sprint("user_id:u", i), id)
				if err != nil || string(traits["n"]) != fmt.Sprint(n) {
					t.Errorf("%s: %s, %v", id, traits["n"], err)
					return
				}
			}
		})
	}
	wg.Wait()
	if _, err := h.traits("user_id:u1", "m-1-3"); err != nil {
		t.Errorf("long processed: %v", err)
	}
	asked := time.Now()
	if _, err := h.traits("user_id:u1", "never-sent"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "never-sent") {
		t.Errorf("an id that was never sent: %v", err)
	}
	if took := time.Since(asked); took > 4*time.Second {
		t.Errorf("an id that was never sent was waited for: %v", took)
	}
}

// TestWaitBehindAStandingLoop holds the loop up: what is accepted is waited
// for until the wait is over, then the answer says how far the loop is; what
// was never accepted is known at once when it can be.
func TestWaitBehindAStandingLoop(t *testing.T) {
	h := newHouse(t, nil)
	loop, err := h.s.loop(1)
	if err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- loop.Do(context.Background(), func(*pipeline.Batch, func(*pipeline.Record) error) error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	batch := make([]json.RawMessage, 0, 250)
	for i := range 3000 { // more than are waited for without looking
		batch = append(batch, json.RawMessage(fmt.Sprintf(`{"type":"track","event":"E","userId":"u%d","messageId":"m%d"}`, i, i)))
		if len(batch) == 250 {
			if err := h.c.SendBatch(t.Context(), "web-write-key", batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	ask := func(id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return waiter{h.s}.WaitFor(ctx, 1, id)
	}
	if err := ask("m2999"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "3000 records") {
		t.Errorf("accepted: %v", err)
	}
	if err := ask("nobody"); !fault.Is(err, fault.NotFound) {
		t.Errorf("never accepted: %v", err)
	}
	if err := (waiter{h.s}).WaitFor(t.Context(), 99, "m1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no space: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- waiter{h.s}.WaitFor(context.Background(), 1, "m7") }()
	close(release)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := h.traits("user_id:u7", ""); err != nil {
		t.Errorf("waited for and not there: %v", err)
	}
}

// TestWaitWithoutDedup cannot know which messages there were, and waits for all
// that were accepted.
func TestWaitWithoutDedup(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.DedupWindow = -1 })
	h.send("identify", `{"userId":"u1","messageId":"m1","traits":{"n":1}}`)
	if traits, err := h.traits("user_id:u1", "m1"); err != nil || string(traits["n"]) != "1" {
		t.Errorf("%s, %v", traits["n"], err)
	}
}

func (h *house) ids(id string) (list []string) {
	h.t.Helper()
	ids, _, err := h.c.ExternalIDs(h.t.Context(), client.Profile{Space: "default", ID: id}, client.Page{Limit: 200})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, x := range ids {
		list = append(list, x.Type+":"+x.ID)
	}
	slices.Sort(list)
	return list
}

// TestDeletedIdentifiersAreGone goes by Segment's endpoint through the loop.
func TestDeletedIdentifiersAreGone(t *testing.T) {
	h := newHouse(t, nil)
	h.send("identify", `{"userId":"u1","anonymousId":"a1","messageId":"m1","traits":{"email":"wrong@example.com","city":"Rome"}}`)
	if _, err := h.traits("user_id:u1", "m1"); err != nil {
		t.Fatal(err)
	}
	of := client.Profile{Space: "default", ID: "user_id:u1"}
	remove := func(force bool, ids ...string) (client.Deleted, error) {
		var list []client.ExternalID
		for _, id := range ids {
			name, value, _ := strings.Cut(id, ":")
			list = append(list, client.ExternalID{Type: name, ID: value})
		}
		return h.c.DeleteIdentifiers(t.Context(), of, list, "", force)
	}
	if done, err := remove(false, "email:wrong@example.com", "anonymous_id:a1"); err != nil || done.Code != "success" || len(done.Deleted) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := h.ids("user_id:u1"); !slices.Equal(got, []string{"user_id:u1"}) {
		t.Errorf("left are %v", got)
	}
	for _, id := range []string{"email:wrong@example.com", "anonymous_id:a1"} {
		if _, err := h.traits(id, ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if traits, err := h.traits("user_id:u1", ""); err != nil || string(traits["city"]) != `"Rome"` {
		t.Errorf("the profile has lost its traits: %v, %v", traits, err)
	}
	if _, err := remove(false, "email:wrong@example.com"); !fault.Is(err, fault.NotFound) {
		t.Errorf("again: %v", err)
	}
	// It may be somebody else's now.
	h.send("identify", `{"userId":"u2","messageId":"m2","traits":{"email":"wrong@example.com"}}`)
	if traits, err := h.traits("email:wrong@example.com", "m2"); err != nil || traits["city"] != nil {
		t.Errorf("%v, %v", traits, err)
	}
	if _, err := remove(false, "user_id:u1"); !fault.Is(err, fault.Invalid) {
		t.Errorf("the last user id: %v", err)
	}
	if done, err := remove(true, "user_id:u1"); err != nil || done.Code != "success" {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := h.traits("user_id:u1", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("the last user id is still there: %v", err)
	}
}

// TestClientTokensFollowTheirIdentifier binds a token to an identifier, which
// two people become one by, and which then becomes another's.
func TestClientTokensFollowTheirIdentifier(t *testing.T) {
	h := newHouse(t, nil)
	h.send("identify", `{"anonymousId":"phone","messageId":"m1","traits":{"seat":"A1","note":"private"}}`)
	h.send("identify", `{"userId":"u1","messageId":"m2","traits":{"plan":"gold","note":"private"}}`)
	h.send("identify", `{"userId":"u2","messageId":"m3","traits":{"plan":"none"}}`)
	if _, err := h.traits("user_id:u2", "m3"); err != nil {
		t.Fatal(err)
	}
	made, err := h.c.NewClientToken(t.Context(), "default", client.ClientToken{Profile: "anonymous_id:phone", Reads: []string{"traits"}, Include: []string{"plan", "seat"}})
	if err != nil {
		t.Fatal(err)
	}
	get := func(id string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.base+"/v1/spaces/default/collections/users/profiles/"+id+"/traits", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+made.Token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var page struct {
			Traits json.RawMessage `json:"traits"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(page.Traits)
	}
	is := func(id string, status int, body string) {
		t.Helper()
		if gotStatus, got := get(id); gotStatus != status || got != body {
			t.Errorf("%s: %d %s, want %d %s", id, gotStatus, got, status, body)
		}
	}
	is("anonymous_id:phone", 200, `{"seat":"A1"}`)
	is("user_id:u1", 403, "")
	is("user_id:nobody", 403, "")

	h.send("track", `{"userId":"u1","anonymousId":"phone","event":"Login","messageId":"m4"}`)
	if _, err := h.traits("user_id:u1", "m4"); err != nil {
		t.Fatal(err)
	}
	is("anonymous_id:phone", 200, `{"plan":"gold","seat":"A1"}`) // they are one
	is("user_id:u1", 403, "")
	is("user_id:u2", 403, "")

	if _, err := h.c.DeleteIdentifiers(t.Context(), client.Profile{Space: "default", ID: "user_id:u1"}, []client.ExternalID{{Type: "anonymous_id", ID: "phone"}}, "", false); err != nil {
		t.Fatal(err)
	}
	is("anonymous_id:phone", 404, "") // u1 is out of reach
	h.send("track", `{"userId":"u2","anonymousId":"phone","event":"Login","messageId":"m5"}`)
	if _, err := h.traits("user_id:u2", "m5"); err != nil {
		t.Fatal(err)
	}
	is("anonymous_id:phone", 200, `{"plan":"none"}`)
	is("user_id:u1", 403, "")
}

// TestSearchTraitsOfASpace lists another trait while the server runs: those
// that were there are found too, once they have been gone through.
func TestSearchTraitsOfASpace(t *testing.T) {
	h := newHouse(t, nil)
	for i := range 700 {
		h.send("identify", fmt.Sprintf(`{"userId":"u%d","messageId":"m%d","traits":{"lastName":"Smith%d","tier":"t%d"}}`, i, i, i, i%2))
	}
	by := func(name, value string) (client.Results, error) {
		return h.c.Search(t.Context(), client.Search{Space: "default", Traits: map[string]string{name: value}, Show: "lastName", Limit: 200, Wait: client.Wait{For: "m699"}})
	}
	found, err := by("lastName", "Smith42")
	if err != nil || len(found.Data) != 1 || string(found.Data[0].Traits["lastName"]) != `"Smith42"` || !found.Complete {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := by("tier", "t1"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "searchTraits") {
		t.Fatalf("not listed: %v", err)
	}
	if err := h.c.Call(t.Context(), "PATCH", "/spaces/default", map[string]any{"searchTraits": []string{"tier"}}, nil); err != nil {
		t.Fatal(err)
	}
	for {
		found, err = by("tier", "t1")
		if err == nil && found.Complete {
			break
		}
		if err != nil && !fault.Is(err, fault.Invalid) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if len(found.Data) != 200 || !found.Cursor.HasMore {
		t.Errorf("%d found, %+v", len(found.Data), found.Cursor)
	}
	for {
		if _, err = by("lastName", "Smith42"); fault.Is(err, fault.Invalid) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientTokensAfterAnUndo binds tokens to identifiers and to profiles'
// ids, makes two people one, and parts them again: nobody reads the other, and
// the search finds both as they are.
func TestClientTokensAfterAnUndo(t *testing.T) {
	h := newHouse(t, nil)
	h.send("identify", `{"anonymousId":"phone","messageId":"m1","traits":{"firstName":"Phone"}}`)
	h.send("identify", `{"userId":"ann","messageId":"m2","traits":{"lastName":"Smith","note":"private"}}`)
	if _, err := h.traits("user_id:ann", "m2"); err != nil {
		t.Fatal(err)
	}
	idOf := func(id string) string {
		t.Helper()
		items, err := h.c.Batch(t.Context(), client.Batch{Space: "default", IDs: []string{id}, Read: "traits"})
		if err != nil || items[0].ProfileID == "" {
			t.Fatalf("%+v, %v", items, err)
		}
		return items[0].ProfileID
	}
	phone, ann := idOf("anonymous_id:phone"), idOf("user_id:ann")
	type holder struct{ of, token string }
	var holders []holder
	for _, of := range []string{"anonymous_id:phone", phone, "user_id:ann", ann} {
		made, err := h.c.NewClientToken(t.Context(), "default", client.ClientToken{Profile: of, Reads: []string{"traits"}})
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, holder{of, made.Token})
	}
	// reads says what the bearer of a token sees under each name, the names of
	// traits or a status.
	reads := func(x holder) (list []string) {
		t.Helper()
		app, err := client.New(h.base, x.token, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"anonymous_id:phone", phone, "user_id:ann", ann} {
			traits, _, err := app.Traits(t.Context(), client.Profile{Space: "default", ID: id}, client.Page{})
			switch {
			case fault.Is(err, fault.Denied):
				list = append(list, "no")
			case err != nil:
				t.Fatal(err)
			default:
				list = append(list, strings.Join(slices.Sorted(maps.Keys(traits)), "+"))
			}
		}
		return list
	}
	is := func(when string, want ...string) {
		t.Helper()
		for i, x := range holders {
			if got := strings.Join(reads(x), " "); got != want[i] {
				t.Errorf("%s, %s reads %q, want %q", when, x.of, got, want[i])
			}
		}
	}
	apart := []string{"firstName firstName no no", "no firstName no no", "no no lastName+note lastName+note", "no no no lastName+note"}
	is("before", apart...)
	h.send("track", `{"userId":"ann","anonymousId":"phone","event":"Login","messageId":"m3"}`)
	if _, err := h.traits("user_id:ann", "m3"); err != nil {
		t.Fatal(err)
	}
	const all = "firstName+lastName+note"
	is("as one", all+" "+all+" no "+all, "no "+all+" no "+all, "no "+all+" "+all+" "+all, "no "+all+" no "+all)

	var done struct{ Command struct{ State string } }
	err := h.c.Call(t.Context(), "POST", "/spaces/default/identity/separate?wait=true", map[string]any{"profile": "user_id:ann", "identifiers": []map[string]string{{"type": "anonymous_id", "id": "phone"}}}, &done)
	if err != nil || done.Command.State != "done" {
		t.Fatalf("%+v, %v", done, err)
	}
	is("parted", apart...)
	for name, want := range map[string]string{"firstName=Phone": phone, "lastName=Smith": ann} {
		trait, value, _ := strings.Cut(name, "=")
		found, err := h.c.Search(t.Context(), client.Search{Space: "default", Traits: map[string]string{trait: value}})
		if err != nil || len(found.Data) != 1 || found.Data[0].ID != want {
			t.Errorf("%s finds %+v, %v; want %s", name, found.Data, err, want)
		}
	}
}
