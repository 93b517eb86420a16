package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/client"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// insightCounts returns how many insights there are by kind and reason.
func insightCounts(t *testing.T, c *client.Client, query string) map[string]uint64 {
	t.Helper()
	var found struct {
		Counts []struct {
			Kind, Reason, Type, Source string
			Count                      uint64
		}
	}
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/insights/counts?"+query, nil, &found); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, n := range found.Counts {
		counts[strings.TrimSpace(n.Kind+" "+n.Reason)] += n.Count
	}
	return counts
}

// TestNothingIsSilent has the row refuse everything that it can refuse, and
// holds insights to it: to what was sent, to what identity keeps of refusals,
// and to all that left the row.
func TestNothingIsSilent(t *testing.T) {
	s, base, _ := running(t, inMemory())
	key := source(t, s, "web")
	if _, err := s.workspace.Update(t.Context(), func(d *workspace.Draft) error {
		sp := d.Space(workspace.DefaultSpace)
		sp.Identifiers = []workspace.IdentifierRule{
			{Type: "user_id", Limit: 1, Blocked: []string{"null"}}, {Type: "email", Limit: 1, Window: "weekly"}, {Type: "anonymous_id"}, {Type: "group_id"},
			{Type: "card", Keys: []string{"card"}}, {Type: "phone", Keys: []string{"phone"}, Normalize: workspace.NormalizePhone},
		}
		sp.Filters = []workspace.EventFilter{{ID: "flt_1", Name: "No tests", Enabled: true, If: `event = "Test"`}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{}
	expect := func(n uint64, what string) { want[what] += n }
	post := func(call string, body map[string]any) {
		t.Helper()
		if err := c.Send(t.Context(), key, call, body); err != nil {
			t.Fatal(err)
		}
	}
	track := func(more map[string]any) {
		body := map[string]any{"event": "Seen"}
		for k, v := range more {
			body[k] = v
		}
		post("track", body)
	}
	external := func(kind, id string) map[string]any {
		return map[string]any{"externalIds": []any{map[string]any{"type": kind, "id": id, "collection": "users", "encoding": "none"}}}
	}

	post("identify", map[string]any{"userId": "u1", "anonymousId": "a1", "traits": map[string]any{"email": "a@example.com"}})
	expect(1, "profile")
	expect(3, "mapping")
	track(map[string]any{"userId": "u2", "anonymousId": "a1"})
	expect(1, "profile")
	expect(1, "mapping")
	expect(1, "violation "+identity.LimitExceeded)
	post("identify", map[string]any{"userId": "u1", "traits": map[string]any{"email": "b@example.com"}})
	expect(1, "violation "+identity.TimeLimitExceeded)
	track(map[string]any{"userId": "null", "anonymousId": "a2"})
	expect(1, "profile")
	expect(1, "mapping")
	expect(1, "violation "+identity.ValueBlocked)
	track(map[string]any{"userId": "null"})
	expect(1, "violation "+identity.ValueBlocked)
	expect(1, "drop "+identity.NoIdentifiers)
	track(map[string]any{"userId": "u1", "integrations": map[string]any{"Personas": false}})
	expect(1, "drop "+identity.OptedOut)
	post("track", map[string]any{"userId": "u1", "event": "Test"})
	expect(1, "drop Event filter")
	track(map[string]any{"userId": "u1", "properties": map[string]any{"card": strings.Repeat("9", 501)}})
	expect(1, "violation "+identity.ValueTooLong)
	post("group", map[string]any{"userId": "u1", "groupId": strings.Repeat("g", 501)})
	expect(1, "violation "+identity.ValueTooLong)
	track(map[string]any{"userId": "u1", "properties": map[string]any{"phone": "not at all"}})
	expect(1, "violation "+identity.NotAPhone)
	entry := func(id, kind, collection, encoding string) map[string]any {
		return map[string]any{"id": id, "type": kind, "collection": collection, "encoding": encoding}
	}
	track(map[string]any{"userId": "u1", "context": map[string]any{"externalIds": []any{
		entry("", "card", "users", "none"), entry("7", "Card", "users", "none"), entry("7", "card", "pets", "none"), entry("7", "card", "users", "hex"), "card",
	}}})
	expect(5, "violation "+identity.NotWhole)
	track(map[string]any{"userId": "u1", "context": map[string]any{"externalIds": map[string]any{"card": "7"}}})
	expect(1, "violation "+identity.NotWhole)
	track(map[string]any{"userId": "u1", "context": map[string]any{"externalIds": []any{entry(strings.Repeat("7", 501), "card", "users", "none")}}})
	expect(1, "violation "+identity.ValueTooLong)
	track(map[string]any{"userId": "u1", "context": map[string]any{"traits": map[string]any{"email": strings.Repeat("\"", 501)}}})
	expect(1, "violation "+identity.ValueTooLong)
	// Types of the standard places that no rule names are told by type.
	post("track", map[string]any{"event": "Seen", "messageId": "unused", "userId": "u1", "context": map[string]any{
		"integrations": map[string]any{"Google Analytics": map[string]any{"clientId": "ga"}}, "device": map[string]any{"type": "ios", "id": "phone"},
	}})
	var many []any
	for i := range 52 { // and the user id
		many = append(many, entry(fmt.Sprint("card", i), "card", "users", "none"))
	}
	track(map[string]any{"userId": "u1", "context": map[string]any{"externalIds": many}})
	expect(3, "violation "+identity.TooManyOnEvent)
	expect(5, "mapping")
	expect(44, "violation "+identity.LimitExceeded)
	traits := map[string]any{strings.Repeat("n", 501): 1}
	for i := range 303 {
		traits[fmt.Sprint("t", i)] = i
	}
	post("identify", map[string]any{"userId": "u1", "traits": traits})
	expect(2, "trait") // too many, and a name that is too long
	for i := range identity.MaxRegisteredTypes + 2 {
		track(map[string]any{"userId": "u1", "context": external(fmt.Sprint("type", i), "x")})
	}
	expect(identity.MaxRegisteredTypes, "mapping")
	expect(2, "violation "+identity.TooManyTypes)
	track(map[string]any{"anonymousId": "a2", "userId": "u2"})
	expect(1, "merge")
	post("group", map[string]any{"userId": "u1", "groupId": "g1"})
	expect(1, "profile")
	expect(1, "mapping")
	expect(1, "account")

	number := s.workspace.Current().Space(workspace.DefaultSpace).Number
	sp := s.space(number)
	if err := sp.loop().Passed(t.Context(), sp.raw.End()-1); err != nil {
		t.Fatal(err)
	}
	got := insightCounts(t, c, "grain=hour")
	for kind, n := range got {
		if strings.HasPrefix(kind, "trait ") {
			got["trait"] += n
			delete(got, kind)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("insights (-want +got):\n%s", diff)
	}

	var types struct{ Types []identity.TypeInfo }
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/types", nil, &types); err != nil {
		t.Fatal(err)
	}
	if n := len(types.Types); n != 6+identity.MaxRegisteredTypes+2 {
		t.Fatalf("there are %d types", n)
	}
	for _, x := range types.Types[6+identity.MaxRegisteredTypes:] {
		if x.Origin != identity.TypeNoRule || x.Unused.Count != 1 || x.Unused.First[0].MessageID != "unused" || x.Type != "ga_client_id" && x.Type != "ios.id" {
			t.Errorf("of the types that no rule names one is %+v", x)
		}
	}
	if x := types.Types[0]; x.Type != "user_id" || x.Origin != identity.TypeDeclared || x.Limit != 1 || x.Unused != nil {
		t.Errorf("the first type is %+v", x)
	}

	// What identity keeps of refusals is the same.
	kept := map[string]uint64{}
	err = s.db.View(t.Context(), func(r kv.Reader) error {
		read := identity.NewReader(r, number, sp.epoch())
		profiles := []event.ProfileID{{}}
		people, err := read.People(event.ProfileID{}, 1000)
		if err != nil {
			return err
		}
		for _, p := range append(profiles, people...) {
			list, err := read.RefusalsOn(p)
			if err != nil {
				return err
			}
			for _, x := range list {
				kept[x.Violation] += x.Count
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]uint64{}
	for kind, n := range got {
		if name, ok := strings.CutPrefix(kind, "violation "); ok {
			told[name] += n
		}
		if name, ok := strings.CutPrefix(kind, "drop "); ok {
			told[strings.Replace(name, "Event filter", identity.Filtered, 1)] += n
		}
	}
	if diff := cmp.Diff(kept, told); diff != "" {
		t.Errorf("what identity keeps of refusals, and insights:\n%s", diff)
	}

	// And so is all that left the row: a change that insights do not know is one
	// of traits or audiences.
	log, err := s.resolved(number)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := log.Read(t.Context(), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	changes := uint64(0)
	for _, b := range blocks {
		outputs, err := pipeline.DecodeOutputs(b.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outputs {
			if o.Change != nil && o.Change.Kind != pipeline.TraitChanged && o.Change.Kind != pipeline.AudienceEntered && o.Change.Kind != pipeline.AudienceExited {
				changes++
			}
		}
	}
	sum := uint64(0)
	for _, n := range got {
		sum += n
	}
	if sum != changes {
		t.Errorf("%d insights of %d changes", sum, changes)
	}

	// Searched, a violation leads to its message.
	var page struct {
		Insights []struct {
			Kind, Reason, ProfileID string
			Identifier              struct{ Type, ID string }
			Message                 struct{ MessageID, Source string }
			Links                   map[string]string
		}
		Next string
	}
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/insights?kind=violation&type=anonymous_id&value=a1&source=web", nil, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Insights) != 1 || page.Insights[0].Reason != identity.LimitExceeded || page.Insights[0].Message.Source != "web" || page.Next != "" {
		t.Fatalf("the search for a1: %+v", page)
	}
	trace := strings.TrimPrefix(page.Insights[0].Links["trace"], "/api/messages/")
	record, _, _ := strings.Cut(trace, "?")
	if m := traced(t, c, record, "space=default").Message; m == nil || m.MessageID != page.Insights[0].Message.MessageID {
		t.Errorf("the trace of %s: %+v", trace, m)
	}
	for query, field := range map[string]string{
		"kind=nothing": "kind", "profile=x": "profile", "from=yesterday": "from", "next=%25": "next", "limit=0": "limit", "from=1h&to=2h": "from",
	} {
		err := c.Call(t.Context(), "GET", "/spaces/default/identity/insights?"+query, nil, nil)
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/insights?source=none", nil, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a source that is not there: %v", err)
	}
}

// TestExplainOverHTTP asks for a profile, for two identifiers, and wrongly.
func TestExplainOverHTTP(t *testing.T) {
	_, c, _ := onTestClock(t)
	post := func(body map[string]any) {
		t.Helper()
		if err := c.Send(t.Context(), "line-write-key", "identify", body); err != nil {
			t.Fatal(err)
		}
	}
	post(map[string]any{"userId": "u1", "anonymousId": "a1", "messageId": "first"})
	post(map[string]any{"userId": "u2", "anonymousId": "a1", "messageId": "second"})
	advance(t, c, "1m")
	ask := func(query string) (*identity.Explanation, error) {
		x := &identity.Explanation{}
		return x, c.Call(t.Context(), "GET", "/spaces/default/identity/explain?"+query, nil, x)
	}
	x, err := ask("id=" + url.QueryEscape("user_id:u1"))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Identifiers) != 2 || x.Identifiers[0].Attached.MessageID != "first" || len(x.Graph.Nodes) != 4 || !strings.Contains(x.Sentences[0], "message first (at") ||
		!strings.Contains(x.Sentences[0], "source web") {
		t.Errorf("u1: %+v", x)
	}
	by, err := ask("id=" + x.ProfileID)
	if err != nil || by.ProfileID != x.ProfileID || by.Asked != nil {
		t.Errorf("by its id: %+v, %v", by, err)
	}
	x, err = ask("id=user_id:u1&with=user_id:u2")
	if err != nil || x.With == nil || x.With.Same || len(x.With.Between) != 1 || x.With.Between[0].On.MessageID != "second" || x.With.Between[0].Limit.Type != "user_id" {
		t.Errorf("u1 and u2: %+v, %v", x.With, err)
	}
	for query, says := range map[string]string{
		"id=u1": "no identifier", "id=user_id:u1&with=u2": "with", "id=use_nothing": "id", "": "id", "id=" + event.ProfileID{5}.String() + "&with=user_id:u1": "with",
	} {
		if _, err := ask(query); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", query, err)
		}
	}
	if _, err := ask("id=" + event.ProfileID{5}.String()); !fault.Is(err, fault.NotFound) {
		t.Errorf("a profile that is not there: %v", err)
	}
	if x, err := ask("id=user_id:nobody"); err != nil || x.ProfileID != "" || !strings.Contains(x.Sentences[0], "nobody's") {
		t.Errorf("nobody: %+v, %v", x, err)
	}
	profileToken, err := client.New(c.Base(), "wrong", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := profileToken.Call(t.Context(), "GET", "/spaces/default/identity/explain?id=user_id:u1", nil, nil); !fault.Is(err, fault.Denied) {
		t.Errorf("with another token: %v", err)
	}
}

// TestSuspicious asks for clusters over HTTP.
func TestSuspicious(t *testing.T) {
	_, c, _ := onTestClock(t)
	for i := range 12 {
		if err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": fmt.Sprint("guest", i), "anonymousId": "tablet", "event": "Seen"}); err != nil {
			t.Fatal(err)
		}
	}
	advance(t, c, "1m")
	var found struct {
		Suspicious []struct {
			Reason, Words string
			Figure        int
			Identifier    event.ExternalID
		}
		Complete bool
	}
	ask := func(query string) error {
		return c.Call(t.Context(), "GET", "/spaces/default/identity/suspicious?"+query, nil, &found)
	}
	if err := ask(""); err != nil {
		t.Fatal(err)
	}
	if len(found.Suspicious) != 1 || !found.Complete || found.Suspicious[0].Reason != "shared" || found.Suspicious[0].Figure != 11 || found.Suspicious[0].Identifier.ID != "tablet" {
		t.Errorf("%+v", found)
	}
	setTo := func(n int) {
		if err := c.Call(t.Context(), "PATCH", "/spaces/default", map[string]any{"suspicious": map[string]any{"shared": n}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	setTo(12)
	if err := ask(""); err != nil || len(found.Suspicious) != 0 {
		t.Errorf("in a space that says from 12 on: %+v, %v", found, err)
	}
	if err := ask("shared=11"); err != nil || len(found.Suspicious) != 1 {
		t.Errorf("whoever asks wants it from 11 on: %+v, %v", found, err)
	}
	setTo(0)
	if err := ask("shared=12"); err != nil || len(found.Suspicious) != 0 {
		t.Errorf("from 12 on: %+v, %v", found, err)
	}
	if err := ask("shared=0"); err != nil || len(found.Suspicious) != 0 {
		t.Errorf("without shared ones: %+v, %v", found, err)
	}
	for query, field := range map[string]string{"shared=2": "shared", "limit=0": "limit", "merges=-1": "merges"} {
		if err := ask(query); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", query, err)
		}
	}
}
