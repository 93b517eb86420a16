package trackingplan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

const (
	order = `{"type":"object","properties":{"properties":{"type":"object",
		"properties":{"revenue":{"type":"number"},"coupon":{"type":"string","pattern":"^[A-Z]+$"},
			"products":{"type":"array","items":{"properties":{"sku":{"type":"string"}}}}},
		"required":["revenue"]}}}`
	order2 = `{"properties":{"properties":{"properties":{"revenue":{"type":"number"},"currency":{"type":"string"}},"required":["revenue","currency"]}}}`
	person = `{"properties":{"traits":{"properties":{"email":{"type":"string","format":"email"},"age":{"type":"integer"}}}}}`
	common = `{"required":["userId"],"properties":{"properties":{"properties":{"brand":{"enum":["north","south"]}}}}}`
)

func aRule(kind, key string, version int, schema string) workspace.Rule {
	return workspace.Rule{Type: kind, Key: key, Version: version, JSONSchema: json.RawMessage(schema)}
}

// allowAll lets everything pass, flagged.
func allowAll() workspace.SchemaSettings {
	traits := workspace.TraitsSettings{AllowUnplannedTraits: true, AllowTraitsOnViolations: true, CommonEventOnViolations: workspace.Allow}
	return workspace.SchemaSettings{
		Track: workspace.TrackSettings{AllowUnplannedEvents: true, AllowUnplannedEventProperties: true, AllowEventOnViolations: true,
			AllowPropertiesOnViolations: true, CommonEventOnViolations: workspace.Allow},
		Identify: traits, Group: traits,
	}
}

// line is a row of one stage over a memory store.
type line struct {
	t        testing.TB
	db       kv.DB
	stage    *Stage
	snapshot *workspace.Snapshot
	next     commitlog.Offset
}

func newLine(t testing.TB, schema workspace.SchemaSettings, rules ...workspace.Rule) *line {
	t.Helper()
	for _, r := range rules {
		if err := Check(r); err != nil {
			t.Fatalf("Check: %v", err)
		}
	}
	s := &workspace.Snapshot{
		Number:        1,
		Sources:       []workspace.Source{{ID: "shop", Slug: "shop", Schema: schema}, {ID: "free", Slug: "free"}},
		TrackingPlans: []workspace.TrackingPlan{{ID: "tp_1", Rules: rules, SourceIDs: []string{"shop"}}},
	}
	s.Seal()
	db := memkv.New()
	t.Cleanup(func() { _ = db.Close() })
	return &line{t: t, db: db, stage: New(&pipeline.Layout{}, slog.New(slog.NewTextHandler(io.Discard, nil))), snapshot: s}
}

// record makes a record of an event, one second after the one before.
func (l *line) record(source, body string) *pipeline.Record {
	l.t.Helper()
	e, err := event.Parse([]byte(body))
	if err != nil {
		l.t.Fatalf("%s: %v", body, err)
	}
	at := time.UnixMilli(1_700_000_000_000).Add(time.Duration(l.next) * time.Second)
	id, err := event.NewRecordID(at, bytes.NewReader(make([]byte, 10)))
	if err != nil {
		l.t.Fatal(err)
	}
	r := &pipeline.Record{Offset: l.next, Event: e, Snapshot: l.snapshot, Source: l.snapshot.Source(source)}
	r.Head = event.Head{Kind: event.KindEvent, ID: id, At: at.UnixMilli(), Time: at.UnixMilli(), Type: e.Type, Name: e.Event, Source: source, MessageID: e.MessageID}
	l.next++
	return r
}

// send leads one event through the stage.
func (l *line) send(source, body string) *pipeline.Record {
	l.t.Helper()
	r := l.record(source, body)
	l.stage.Prepare(r)
	err := l.db.Update(context.Background(), pipeline.Fence(1, 1), kv.Durable, func(tx kv.Tx) error {
		pass, err := l.stage.Begin(&pipeline.Batch{Tx: tx, Space: 1, Epoch: 1, Live: true})
		if err != nil {
			return err
		}
		if err := pass.Handle(r); err != nil {
			return err
		}
		return pass.Finish()
	})
	if err != nil {
		l.t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestWhatBecomesOfAnEvent(t *testing.T) {
	rules := []workspace.Rule{aRule("TRACK", "Order Completed", 2, order2), aRule("TRACK", "Order Completed", 1, order),
		aRule("IDENTIFY", "", 1, person), aRule("TRACK", event.PageViewed, 1, `{"properties":{"properties":{"required":["path"]}}}`),
		aRule("PAGE", "Room", 1, `{"properties":{"properties":{"required":["room"]}}}`), aRule("GROUP", "", 1, `{"required":["groupId"]}`)}
	with := func(change func(*workspace.SchemaSettings)) workspace.SchemaSettings {
		s := allowAll()
		change(&s)
		return s
	}
	withCommon := append(rules[:len(rules):len(rules)], aRule("COMMON", "", 1, common))
	omitAll := with(func(s *workspace.SchemaSettings) { s.Track.AllowPropertiesOnViolations = false })
	for name, tt := range map[string]struct {
		settings workspace.SchemaSettings
		rules    []workspace.Rule
		event    string
		blocked  string // the reason
		body     string // what goes on; "" for the event as it came
	}{
		"fits":          {allowAll(), rules, `{"type":"track","event":"Order Completed","properties":{"revenue":1.50}}`, "", ""},
		"case of names": {with(func(s *workspace.SchemaSettings) { s.Track.AllowUnplannedEvents = false }), rules, `{"type":"track","event":"order completed"}`, `unplanned: the plan has no event "order completed"`, ""},
		"violation, allowed": {allowAll(), rules, `{"type":"track","event":"Order Completed","properties":{"revenue":"1.50","n":1.0e2}}`, "",
			`{"type":"track","event":"Order Completed","properties":{"revenue":"1.50","n":1.0e2},"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Invalid Type","field":"properties.revenue","description":"Invalid type. Expected: number, given: string"}],"unplanned":["properties.n"]}}}`},
		"violation, context kept": {allowAll(), rules, `{"type":"track","event":"Order Completed","context":{"ip":"1.2.3.4","protocols":{"event_version":1}},"properties":{}}`, "",
			`{"type":"track","event":"Order Completed","properties":{},"context":{"ip":"1.2.3.4","protocols":{"event_version":1,"sourceId":"shop","violations":[{"type":"Required","field":"properties.revenue","description":"properties.revenue is required"}]}}}`},
		"violation, blocked": {with(func(s *workspace.SchemaSettings) { s.Track.AllowEventOnViolations = false }), rules,
			`{"type":"track","event":"Order Completed","properties":{"revenue":"1.50"}}`, "schema_violation: properties.revenue: Invalid type. Expected: number, given: string", ""},
		"several, blocked": {with(func(s *workspace.SchemaSettings) { s.Track.AllowEventOnViolations = false }), rules,
			`{"type":"track","event":"Order Completed","properties":{"coupon":"x"}}`, "schema_violation: properties.coupon: Does not match pattern '^[A-Z]+$'; 1 more", ""},
		"version":                         {allowAll(), rules, `{"type":"track","event":"Order Completed","context":{"protocols":{"event_version":2}},"properties":{"revenue":1,"currency":"EUR"}}`, "", ""},
		"unknown version is the oldest":   {allowAll(), rules, `{"type":"track","event":"Order Completed","context":{"protocols":{"event_version":7}},"properties":{"revenue":1}}`, "", ""},
		"version in quotes is the oldest": {allowAll(), rules, `{"type":"track","event":"Order Completed","context":{"protocols":{"event_version":"2"}},"properties":{"revenue":1}}`, "", ""},
		"violation, omitted": {omitAll, rules, `{"type":"track","event":"Order Completed","properties":{"revenue":"1.50","coupon":"WELCOME","revenue ":2}}`, "",
			`{"type":"track","event":"Order Completed","properties":{"coupon":"WELCOME","revenue ":2},"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Invalid Type","field":"properties.revenue","description":"Invalid type. Expected: number, given: string"}],"unplanned":["properties.revenue "],"omitted_on_violation":["properties.revenue"]}}}`},
		"an array goes as a whole": {omitAll, rules, `{"type":"track","event":"Order Completed","properties":{"revenue":5,"products":[{"sku":"a"},{"sku":1},{"sku":2}]}}`, "",
			`{"type":"track","event":"Order Completed","properties":{"revenue":5},"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Invalid Type","field":"properties.products.1.sku","description":"Invalid type. Expected: string, given: integer"},{"type":"Invalid Type","field":"properties.products.2.sku","description":"Invalid type. Expected: string, given: integer"}],"omitted_on_violation":["properties.products"]}}}`},
		"unplanned event, flagged": {allowAll(), rules, `{"type":"track","event":"Hello"}`, "", `{"type":"track","event":"Hello","context":{"protocols":{"sourceId":"shop","unplanned":["event"]}}}`},
		"unplanned properties, omitted": {with(func(s *workspace.SchemaSettings) { s.Track.AllowUnplannedEventProperties = false }), rules,
			`{"type":"track","event":"Order Completed","properties":{"revenue":7,"z":1,"a.b":{"c":2}}}`, "",
			`{"type":"track","event":"Order Completed","properties":{"revenue":7},"context":{"protocols":{"sourceId":"shop","omitted":["properties.a.b","properties.z"]}}}`},
		"an unplanned event keeps its properties": {with(func(s *workspace.SchemaSettings) { s.Track.AllowUnplannedEventProperties = false }), rules,
			`{"type":"track","event":"Hello","properties":{"a":1}}`, "", `{"type":"track","event":"Hello","properties":{"a":1},"context":{"protocols":{"sourceId":"shop","unplanned":["event"]}}}`},
		"unplanned traits, omitted": {with(func(s *workspace.SchemaSettings) { s.Identify.AllowUnplannedTraits = false }), rules,
			`{"type":"identify","userId":"u","traits":{"email":"jo@example.com","shoe":46}}`, "",
			`{"type":"identify","userId":"u","traits":{"email":"jo@example.com"},"context":{"protocols":{"sourceId":"shop","omitted":["traits.shoe"]}}}`},
		"wrong traits, omitted": {with(func(s *workspace.SchemaSettings) { s.Identify.AllowTraitsOnViolations = false }), rules,
			`{"type":"identify","userId":"u","traits":{"email":"jo","age":46}}`, "",
			`{"type":"identify","userId":"u","traits":{"age":46},"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Format","field":"traits.email","description":"Does not match format 'email'"}],"omitted_on_violation":["traits.email"]}}}`},
		"page": {with(func(s *workspace.SchemaSettings) { s.Track.AllowEventOnViolations = false }), rules, `{"type":"page","name":"Home"}`, "schema_violation: properties.path is required", ""},
		"page by name": {with(func(s *workspace.SchemaSettings) { s.Track.AllowEventOnViolations = false }), rules, `{"type":"page","name":"Room","properties":{"path":"/r"}}`,
			"schema_violation: properties.room is required", ""},
		"screen without a rule is not unplanned": {workspace.SchemaSettings{}, rules, `{"type":"screen","name":"Home","properties":{"a":1}}`, "", ""},
		"group":                                  {allowAll(), rules, `{"type":"group","groupId":"g"}`, "", ""},
		"alias, common only":                     {allowAll(), rules, `{"type":"alias","userId":"u","previousId":"a"}`, "", ""},
		"common, flagged": {allowAll(), withCommon, `{"type":"alias","previousId":"a"}`, "",
			`{"type":"alias","previousId":"a","context":{"protocols":{"sourceId":"shop","violations":[{"type":"Required","field":"userId","description":"userId is required"}]}}}`},
		"common, blocked": {with(func(s *workspace.SchemaSettings) { s.Track.CommonEventOnViolations = workspace.Block }), withCommon,
			`{"type":"track","event":"Order Completed","properties":{"revenue":1}}`, "common_schema_violation: userId is required", ""},
		"common, blocked, unplanned too": {with(func(s *workspace.SchemaSettings) {
			s.Track.CommonEventOnViolations, s.Track.AllowUnplannedEvents = workspace.Block, false
		}), withCommon, `{"type":"track","event":"Hello"}`, `unplanned_and_schema_violation: the plan has no event "Hello"; userId is required`, ""},
		"common, omitted": {with(func(s *workspace.SchemaSettings) { s.Track.CommonEventOnViolations = workspace.OmitProperties }), withCommon,
			`{"type":"track","userId":"u","event":"Order Completed","properties":{"brand":"west","revenue":1}}`, "",
			`{"type":"track","userId":"u","event":"Order Completed","properties":{"revenue":1},"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Enum","field":"properties.brand","description":"properties.brand must be one of the following: \"north\", \"south\""}],"omitted_on_violation":["properties.brand"]}}}`},
		"common sees what is left": {with(func(s *workspace.SchemaSettings) {
			s.Track.CommonEventOnViolations, s.Track.AllowPropertiesOnViolations = workspace.Block, false
		}), []workspace.Rule{aRule("TRACK", "E", 1, ofProperties(`{"properties":{"a":{"type":"string"}}}`)), aRule("COMMON", "", 1, ofProperties(`{"required":["a"]}`))},
			`{"type":"track","event":"E","properties":{"a":1}}`, "common_schema_violation: properties.a: Invalid type. Expected: string, given: integer; 1 more", ""},
		"sections that are no objects": {omitAll, rules, `{"type":"track","event":"Order Completed","properties":[1],"context":"x"}`, "",
			`{"type":"track","event":"Order Completed","properties":[1],"context":{"protocols":{"sourceId":"shop","violations":[{"type":"Invalid Type","field":"properties","description":"Invalid type. Expected: object, given: array"}]}}}`},
		"allow all in silence": {allowAll(), nil, `{"type":"identify","userId":"u","traits":{"a":1}}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, tt.settings, tt.rules...)
			r := l.send("shop", tt.event)
			if r.Verdict.Reason != tt.blocked || (r.Verdict.Code == pipeline.Blocked) != (tt.blocked != "") {
				t.Errorf("verdict %d %q, want %q", r.Verdict.Code, r.Verdict.Reason, tt.blocked)
			}
			if got := string(r.Verdict.Body); got != tt.body {
				t.Errorf("body\n%s\nwant\n%s", got, tt.body)
			}
			if tt.body != "" && string(r.Event.Body) != tt.body {
				t.Errorf("the rooms behind see\n%s", r.Event.Body)
			}
			list, _, err := NewReader(l.db).Quarantined(t.Context(), 1, "shop", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			if (len(list) == 1) != (tt.blocked != "") {
				t.Errorf("%d events rest in quarantine", len(list))
			}
		})
	}
}

func TestWhatIsTakenOutIdentifiesNobody(t *testing.T) {
	s := allowAll()
	s.Identify.AllowTraitsOnViolations = false
	l := newLine(t, s, aRule("IDENTIFY", "", 1, person))
	for body, want := range map[string]int{
		`{"type":"identify","userId":"u","traits":{"email":"jo@example.com"}}`: 2,
		`{"type":"identify","userId":"u","traits":{"email":"n/a"}}`:            1,
	} {
		r := l.record("shop", body)
		r.IDs = event.StandardIdentifiers(r.Event)
		l.stage.Prepare(r)
		p, err := l.stage.Begin(&pipeline.Batch{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Handle(r); err != nil {
			t.Fatal(err)
		}
		if len(r.IDs) != want {
			t.Errorf("%s: identifiers %v, want %d", body, r.IDs, want)
		}
	}
}

func TestAnotherSourceIsNotHeld(t *testing.T) {
	l := newLine(t, workspace.SchemaSettings{}, aRule("TRACK", "Order Completed", 1, order))
	for _, body := range []string{`{"type":"track","event":"Hello"}`, `{"type":"track","event":"Order Completed"}`} {
		if r := l.send("free", body); r.Verdict.Code != pipeline.Admitted || r.Verdict.Body != nil || l.stage.Outcome(r) != nil {
			t.Errorf("%s: %+v", body, r.Verdict)
		}
	}
}

func TestARecordThatIsNoEvent(t *testing.T) {
	l := newLine(t, workspace.SchemaSettings{}, aRule("TRACK", "Order Completed", 1, order))
	r := &pipeline.Record{Snapshot: l.snapshot}
	l.stage.Prepare(r)
	p, err := l.stage.Begin(&pipeline.Batch{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Handle(r); err != nil || r.Verdict.Code != pipeline.Admitted {
		t.Errorf("%v %+v", err, r.Verdict)
	}
}

func TestQuarantine(t *testing.T) {
	s := allowAll()
	s.Track.AllowEventOnViolations = false
	l := newLine(t, s, aRule("TRACK", "Order Completed", 1, order))
	const n = 25
	for i := range n {
		l.send("shop", fmt.Sprintf(`{"type":"track","event":"Order Completed","messageId":"m%d","properties":{"revenue":"secret-%d"}}`, i, i))
		l.send("free", `{"type":"track","event":"Order Completed"}`)
	}
	reader := NewReader(l.db)
	var got []Quarantined
	for cursor, pages := "", 0; ; pages++ {
		page, next, err := reader.Quarantined(t.Context(), 1, "shop", cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		if pages > 3 || (next != "") != (len(got)+len(page) < n) {
			t.Fatalf("page %d has %d entries and next %q", pages, len(page), next)
		}
		got = append(got, page...)
		if cursor = next; next == "" {
			break
		}
	}
	if len(got) != n {
		t.Fatalf("%d entries, want %d", len(got), n)
	}
	for i, q := range got {
		m := n - 1 - i
		if q.MessageID != fmt.Sprintf("m%d", m) || q.Offset != commitlog.Offset(2*m) || q.Type != event.Track || q.Event != "Order Completed" ||
			q.Source != "shop" || q.Plan != "tp_1" || q.Code != CodeSchemaViolation || q.ID.IsZero() ||
			!q.At.Equal(time.UnixMilli(1_700_000_000_000).Add(time.Duration(2*m)*time.Second)) || !q.Timestamp.Equal(q.At) {
			t.Fatalf("entry %d is %+v", i, q)
		}
		if len(q.Violations) != 1 || q.Violations[0].String() != "properties.revenue: Invalid type. Expected: number, given: string" {
			t.Fatalf("violations %v", q.Violations)
		}
	}
	// No value of an event may lie in quarantine: its body is elsewhere.
	err := l.db.View(t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(kv.SpaceKey(1, Room))) {
			if err != nil {
				return err
			}
			if bytes.Contains(pair.Value, []byte("secret")) {
				t.Errorf("%q holds a value of the event", pair.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, space := range []uint32{2} {
		if list, _, err := reader.Quarantined(t.Context(), space, "shop", "", 10); err != nil || len(list) != 0 {
			t.Errorf("space %d: %v %v", space, list, err)
		}
	}
	for page, next, err := reader.Quarantined(t.Context(), 1, "shop", "", 10); ; page, next, err = reader.Quarantined(t.Context(), 1, "shop", next, 10) {
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range page {
			one, err := reader.Entry(t.Context(), 1, "shop", q.At, q.Offset)
			if err != nil || one == nil || one.ID != q.ID || one.Reason != q.Reason {
				t.Errorf("the entry at %d is %+v, %v", q.Offset, one, err)
			}
			if one, err := reader.Entry(t.Context(), 1, "shop", q.At.Add(1e6), q.Offset); one != nil || err != nil {
				t.Errorf("an entry of another instant: %+v, %v", one, err)
			}
		}
		if next == "" {
			break
		}
	}
	if _, _, err := reader.Quarantined(t.Context(), 1, "shop", "nonsense", 10); !fault.Is(err, fault.Invalid) {
		t.Errorf("a made-up cursor: %v", err)
	}
}

func TestARunAgainGivesTheSame(t *testing.T) {
	s := allowAll()
	s.Track.AllowPropertiesOnViolations = false
	l := newLine(t, s, aRule("TRACK", "Order Completed", 1, order))
	r := l.record("shop", `{"type":"track","event":"Order Completed","properties":{"revenue":"x"}}`)
	l.stage.Prepare(r)
	var bodies []string
	for range 2 { // a transaction may run again, with the verdict reset
		r.Verdict = pipeline.Verdict{}
		p, err := l.stage.Begin(&pipeline.Batch{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Handle(r); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(r.Verdict.Body))
	}
	if bodies[0] != bodies[1] || !strings.Contains(bodies[0], "omitted_on_violation") {
		t.Errorf("first %s, then %s", bodies[0], bodies[1])
	}
}

func TestPlansAreCompiledOnce(t *testing.T) {
	p := &workspace.TrackingPlan{ID: "tp_1", Rules: []workspace.Rule{aRule("TRACK", "E", 1, `{}`)}}
	c := &plans{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	first := c.get(1, p)
	if c.get(1, p) != first || c.get(2, p) != first {
		t.Error("a plan that has not changed was made again")
	}
	changed := *p
	changed.Rules = []workspace.Rule{aRule("TRACK", "E", 1, `{"required":["userId"]}`)}
	if c.get(3, &changed) == first {
		t.Error("a plan that has changed was not made again")
	}
	for i := range uint64(3 * maxPlans) {
		c.get(10+i, &changed)
	}
	if len(c.byKey) != maxPlans || len(c.order) != maxPlans {
		t.Errorf("%d plans are kept, want %d", len(c.byKey), maxPlans)
	}
}

func TestABrokenRuleHoldsForNothing(t *testing.T) {
	var log bytes.Buffer
	c := &plans{log: slog.New(slog.NewTextHandler(&log, nil))}
	p := c.get(1, &workspace.TrackingPlan{ID: "tp_1", Rules: []workspace.Rule{aRule("TRACK", "E", 1, `{"type":"nonsense"}`)}})
	e, err := event.Parse([]byte(`{"type":"track","event":"E"}`))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if out := judge(p, &workspace.Source{ID: "s"}, e); out.Code != "" || len(out.Violations) != 0 {
			t.Errorf("%+v", out)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("the log tells of it %d times: %s", n, log.String())
	}
}
