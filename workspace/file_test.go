package workspace_test

import (
	"strings"
	"testing"

	"kith/clock"
	"kith/fault"
	"kith/kv/memkv"
	"kith/workspace"
)

const hotel = `# a hotel group
name: Grand Hotels
slug: grand-hotels
spaces:
  - slug: default
    name: Guests
    identifiers:
      - {type: user_id, limit: 1, priority: 1}
      - {type: loyalty_id, limit: 2, window: annually, keys: [loyaltyId], blocked: ["0"], blockedPatterns: ["^[0-]*$"]}
      - {type: email, normalize: email, emailProvider: true}
      - {type: phone, keys: [phone], normalize: phone, region: DE}
      - {type: mac, networkKey: wlanName, validFor: monthly}
    identityGuard: {identifiers: 500, merges: 20}
    suspicious: {identifiers: 50, shared: 3}
    searchTraits: [email, loyaltyTier]
    filters:
      - {name: No heartbeats, description: of the locks, if: event = 'Heartbeat' and properties.level != "alarm"}
      - {name: Nothing, enabled: false, if: all}
  - slug: staff
sources:
  - slug: booking-engine
    name: Booking engine
    writeKeys: [demo-booking]
    labels: [{key: env, value: prod}]
    settings: {limit: 12345678901234567890123, ratio: 1.50, small: 1e-3}
    schema:
      track: {allowUnplannedEvents: false, commonEventOnViolations: BLOCK}
  - slug: wifi
    space: staff
destinations:
  - slug: crm
    name: CRM
    metadataId: webhook
    source: booking-engine
    settings:
      url: https://example.com/hook
      headers:
        Authorization: Bearer ${CRM_TOKEN}
        X-Text: "$${NOT_A_VARIABLE} yes"
      sharedSecret: ${CRM_SECRET}
    subscriptions:
      - name: Bookings
        trigger: event = "Booking Completed"
      - name: Bookings
        action: send
        enabled: false
        trigger: |-
          type = "identify"
          and userId != null
trackingPlans:
  - slug: bookings
    sources: [booking-engine]
    rules:
      - type: TRACK
        key: Booking Completed
        jsonSchema:
          type: object
          properties:
            properties: {type: object, required: [booking_value], properties: {booking_value: {type: number, minimum: 0.0}}}
      - {type: COMMON, version: 2, jsonSchema: {}}
audiences:
  - name: Recent bookers
    definition: {query: "event('Booking Completed').within(60 days).count() >= 1"}
    options: {includeHistoricalData: false, filterByExternalIds: [user_id, anonymous_id]}
    connections:
      - destination: crm
        activations:
          - activationType: Audience Entered
            personalization: {profile: {properties: [email], mapping: {first_name: firstName}}}
  - name: Loyal
    definition: {query: in recent_bookers}
`

var secrets = map[string]string{"CRM_TOKEN": "t0ken", "CRM_SECRET": "hush"}

func apply(t *testing.T, s *workspace.Store, text string, variables map[string]string, prune bool) (*workspace.Snapshot, error) {
	t.Helper()
	f, err := workspace.ParseFile([]byte(text))
	if err != nil {
		return nil, err
	}
	return s.Update(t.Context(), func(d *workspace.Draft) error {
		return f.Apply(d, workspace.ApplyOptions{Prune: prune, Variable: func(name string) (string, bool) {
			v, ok := variables[name]
			return v, ok
		}})
	})
}

func TestApplyExportApply(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	one, err := apply(t, s, hotel, secrets, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := apply(t, s, hotel, secrets, false)
	if err != nil || again != one {
		t.Fatalf("a second run changed something: %v, %v", err, workspace.Diff(one, again))
	}
	first := workspace.Export(one)
	for _, hidden := range []string{"hush", "t0ken", "sealed:"} {
		if strings.Contains(string(first), hidden) {
			t.Errorf("the export shows %q:\n%s", hidden, first)
		}
	}

	f, err := workspace.ParseFile(first)
	if err != nil {
		t.Fatalf("%v\n%s", err, first)
	}
	if !strings.Contains(string(first), "Authorization: ${CRM_HEADERS_AUTHORIZATION}") {
		t.Errorf("what came from a variable is no secret:\n%s", first)
	}
	variables := map[string]string{"CRM_HEADERS_AUTHORIZATION": "Bearer t0ken", "CRM_SHARED_SECRET": "hush", "CRM_HEADERS_X_TEXT": "${NOT_A_VARIABLE} yes"}
	for _, name := range f.Variables() {
		if _, ok := variables[name]; !ok {
			t.Errorf("the export asks for %s", name)
		}
	}
	empty := open(t, memkv.New(), options(clock.NewManual(start), 9))
	two, err := apply(t, empty, string(first), variables, false)
	if err != nil {
		t.Fatalf("%v\n%s", err, first)
	}
	if second := workspace.Export(two); string(second) != string(first) {
		t.Errorf("exported again:\n%s\nfirst:\n%s", second, first)
	}
	if two.Sources[0].ID == one.Sources[0].ID {
		t.Error("an id came through the file")
	}
	for _, snap := range []*workspace.Snapshot{one, two} {
		plain, err := workspace.UnsealSettings(snap.Destinations[0].Settings, reversing{new(int)})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"Bearer t0ken"`, `"hush"`, `"${NOT_A_VARIABLE} yes"`} {
			if !strings.Contains(string(plain), want) {
				t.Errorf("settings lack %s: %s", want, plain)
			}
		}
	}
	if got := string(two.SourceByWriteKey("demo-booking").Settings); got != `{"limit":12345678901234567890123,"ratio":1.50,"small":1e-3}` {
		t.Errorf("numbers changed: %s", got)
	}
	booking := two.SourceByWriteKey("demo-booking")
	if booking.Schema.Track.AllowUnplannedEvents || !booking.Schema.Track.AllowPropertiesOnViolations || booking.Schema.Group.CommonEventOnViolations != "ALLOW" {
		t.Errorf("schema settings: %+v", booking.Schema)
	}
	if act := two.Audiences[0].Connections; len(act) == 0 {
		act = two.Audiences[1].Connections
		if act[0].Activations[0].Traits["first_name"] != "firstName" || act[0].Activations[0].Traits["email"] != "email" {
			t.Errorf("activation: %+v", act)
		}
	}
}

func TestApplySaysWhatChanges(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	base, err := apply(t, s, hotel, secrets, false)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("https://example.com/hook", "https://example.com/new",
		"Booking engine", "Bookings", "60 days", "30 days", "minimum: 0.0", "minimum: 1").Replace(hotel)
	changed = strings.Replace(changed, "  - slug: wifi\n    space: staff\n", "  - slug: spa\n", 1)
	next, err := apply(t, s, changed, map[string]string{"CRM_TOKEN": "t0ken", "CRM_SECRET": "other"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range workspace.Diff(base, next) {
		b.WriteString(c.String())
	}
	want := `~ source booking-engine
    name: "Booking engine" → "Bookings"
+ source spa
- source wifi
~ destination crm
    settings.sharedSecret: "••••••••" → "••••••••"
    settings.url: "https://example.com/hook" → "https://example.com/new"
~ tracking plan bookings
    rules[TRACK Booking Completed 1].jsonSchema.properties.properties.properties.booking_value.minimum: 0.0 → 1
~ audience default/recent_bookers
    definition.query: "event('Booking Completed').within(60 days).count() >= 1" → "event('Booking Completed').within(30 days).count() >= 1"
`
	if b.String() != want {
		t.Errorf("diff:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestApplyLeavesTheRestAlone(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	if _, err := apply(t, s, hotel, secrets, false); err != nil {
		t.Fatal(err)
	}
	next, err := apply(t, s, "sources: [{slug: new-one}]", nil, false)
	if err != nil || len(next.Sources) != 3 || len(next.Audiences) != 2 {
		t.Fatalf("%v: %d sources", err, len(next.Sources))
	}
	made := next.Sources[0].WriteKeys
	for i := range next.Sources {
		if next.Sources[i].Slug == "new-one" {
			made = next.Sources[i].WriteKeys
		}
	}
	if len(made) != 1 || len(made[0]) != 32 {
		t.Errorf("write keys %v: want one, made", made)
	}
	pruned, err := apply(t, s, "audiences: []\ndestinations: []\n", nil, true)
	if err != nil || len(pruned.Audiences)+len(pruned.Destinations) != 0 || len(pruned.Sources) != 3 || len(pruned.Spaces) != 2 {
		t.Fatalf("%v: %+v", err, pruned)
	}
	_, err = apply(t, s, "sources: [{slug: wifi, space: staff}]\ndestinations: [{slug: d, metadataId: webhook, source: new-one, settings: {url: u}}]", nil, true)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `there is no source "new-one"`) {
		t.Fatalf("a reference to what is pruned: %v", err)
	}
}

func TestFileErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"not YAML", "a: {b: c", "not valid YAML"},
		{"a list", "- a", "line 1: the file must be an object"},
		{"unknown list", "source: []", `line 1: there is no field "source" here; there are: audiences, destinations`},
		{"unknown field", "sources:\n  - slug: a\n    nmae: b", `sources.0.nmae: line 3: there is no field "nmae"`},
		{"missing slug", "sources:\n  - name: b", "sources.0.slug: line 2: slug is missing"},
		{"wrong kind", "sources:\n  - slug: 12", "sources.0.slug: line 2: want a text, not a number"},
		{"list of texts", "sources:\n  - slug: a\n    writeKeys: [12]", "put quotes around it"},
		{"twice", "name: a\nname: b", "already defined"},
		{"two documents", "name: a\n---\nname: b", "second document"},
		{"anchor", "name: &a x\nslug: *a", "anchors"},
		{"tag", "name: !!str 12", "tags"},
		{"merge", "a: {<<: {b: c}}", "merges"},
		{"unknown space", "sources: [{slug: a, space: b}]", `line 1: there is no space "b"`},
		{"unknown source", "destinations: [{slug: a, metadataId: webhook, source: b}]", `there is no source "b"`},
		{"unknown destination", "audiences: [{name: a, definition: {query: q}, connections: [{destination: b}]}]", `there is no destination "b"`},
		{"unknown plan source", "trackingPlans: [{slug: a, sources: [b]}]", `there is no source "b"`},
		{"missing variable", "destinations:\n  - slug: a\n    metadataId: webhook\n    settings:\n      url: ${NOWHERE}", "line 5: the variable NOWHERE is not set"},
		{"not UTF-8", "name: \xff", "UTF-8"},
		{"deep", "name: " + strings.Repeat("[", 5000), "deep"},
		{"deep block", "name:\n  " + strings.Repeat("- ", 5000), "deep"},
		{"too large", strings.Repeat("#", workspace.MaxFileBytes+1), "at most"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, memkv.New(), options(clock.NewManual(start), 1))
			_, err := apply(t, s, test.text, nil, false)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want …%s…", err, test.want)
			}
		})
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		s := open(t, memkv.New(), options(clock.NewManual(start), 1))
		if snap, err := apply(t, s, empty, nil, true); err != nil || snap.Number != 1 {
			t.Errorf("%q: %v", empty, err)
		}
	}
}
