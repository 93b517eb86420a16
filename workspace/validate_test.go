package workspace_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kith/clock"
	"kith/fault"
	"kith/kv/memkv"
	"kith/workspace"
)

// full is a workspace with one of everything.
func full(d *workspace.Draft) {
	space := d.Space("default").ID
	src := source(d, "web", "key-web")
	d.Destinations = append(d.Destinations, workspace.Destination{
		ID: d.NewDestinationID(), Slug: "crm", Name: "CRM", MetadataID: "webhook", Enabled: true, SourceID: src.ID,
		Settings:      json.RawMessage(`{"url":"https://example.com"}`),
		Subscriptions: []workspace.Subscription{{ID: d.NewSubscriptionID(), Name: "All", ActionID: "send", Enabled: true, Trigger: `type = "track"`}},
	})
	d.TrackingPlans = append(d.TrackingPlans, workspace.TrackingPlan{
		ID: d.NewTrackingPlanID(), Slug: "plan", Name: "Plan", Type: "LIVE", SourceIDs: []string{src.ID},
		Rules: []workspace.Rule{{Type: "TRACK", Key: "Bought", Version: 1, JSONSchema: json.RawMessage(`{"type":"object"}`)}},
	})
	d.Audiences = append(d.Audiences, workspace.Audience{
		ID: d.NewAudienceID(), SpaceID: space, Name: "VIP", Key: "vip", Enabled: true, Query: "q",
		Connections: []workspace.AudienceConnection{{
			ID: d.NewConnectionID(), DestinationID: d.Destinations[0].ID,
			Activations: []workspace.Activation{{ID: d.NewActivationID(), Name: "In", Type: workspace.AudienceEntered, Enabled: true}},
		}},
	})
}

func TestCheck(t *testing.T) {
	type draft = *workspace.Draft
	tests := []struct {
		name    string
		change  func(draft)
		field   string
		message string
		kind    fault.Kind
	}{
		{"slug", func(d draft) { d.Sources[0].Slug = "no slug" }, "sources.no slug.slug", "not a slug", fault.Invalid},
		{"slug twice", func(d draft) { source(d, "web") }, "sources.web.slug", "in use", fault.Invalid},
		{"write key twice", func(d draft) { source(d, "app", "key-web") }, "sources.app.writeKeys.0", "in use", fault.Invalid},
		{"write key form", func(d draft) { d.Sources[0].WriteKeys = []string{"a b"} }, "sources.web.writeKeys.0", "not a write key", fault.Invalid},
		{"no name", func(d draft) { d.Sources[0].Name = " " }, "sources.web.name", "missing", fault.Invalid},
		{"no space", func(d draft) { d.Sources[0].SpaceID = "spa_x" }, "sources.web.spaceId", "there are: default", fault.Invalid},
		{"source settings", func(d draft) { d.Sources[0].Settings = json.RawMessage(`[1]`) }, "sources.web.settings", "object", fault.Invalid},
		{"schema action", func(d draft) { d.Sources[0].Schema.Group.CommonEventOnViolations = "OMIT_PROPERTIES" }, "sources.web.schema.group.commonEventOnViolations", "OMIT_TRAITS", fault.Invalid},
		{"connector", func(d draft) { d.Destinations[0].MetadataID = "fax" }, "destinations.crm.metadataId", "there are: webhook", fault.Invalid},
		{"destination settings", func(d draft) { d.Destinations[0].Settings = json.RawMessage(`{}`) }, "destinations.crm.settings.url", "missing", fault.Invalid},
		{"destination's source", func(d draft) { d.Destinations[0].SourceID = "gone" }, "destinations.crm.sourceId", "no source", fault.Invalid},
		{"action", func(d draft) { d.Destinations[0].Subscriptions[0].ActionID = "fly" }, "destinations.crm.subscriptions.0.actionId", "it has: send", fault.Invalid},
		{"trigger", func(d draft) { d.Destinations[0].Subscriptions[0].Trigger = "bad" }, "destinations.crm.subscriptions.0.trigger", "position 1", fault.Invalid},
		{"plan type", func(d draft) { d.TrackingPlans[0].Type = "DEAD" }, "trackingPlans.plan.type", "LIVE", fault.Invalid},
		{"plan's source", func(d draft) { d.TrackingPlans[0].SourceIDs = []string{"gone"} }, "trackingPlans.plan.sources.0", "no source", fault.Invalid},
		{"two plans", func(d draft) {
			d.TrackingPlans = append(d.TrackingPlans, workspace.TrackingPlan{ID: "tp_2", Slug: "two", Name: "Two", Type: "LIVE", SourceIDs: d.TrackingPlans[0].SourceIDs})
		}, "", "at most", fault.Invalid},
		{"rule twice", func(d draft) {
			d.TrackingPlans[0].Rules = append(d.TrackingPlans[0].Rules, d.TrackingPlans[0].Rules[0])
		}, "trackingPlans.plan.rules.1", "another TRACK rule", fault.Invalid},
		{"schema", func(d draft) { d.TrackingPlans[0].Rules[0].JSONSchema = json.RawMessage(`{"type":"text"}`) }, "trackingPlans.plan.rules.0.jsonSchema.type", "want", fault.Invalid},
		{"schema is no object", func(d draft) { d.TrackingPlans[0].Rules[0].JSONSchema = json.RawMessage(`[]`) }, "trackingPlans.plan.rules.0.jsonSchema", "object", fault.Invalid},
		{"audience key", func(d draft) { d.Audiences[0].Key = "V I P" }, "audiences.default.V I P.key", "lower-case", fault.Invalid},
		{"empty query", func(d draft) { d.Audiences[0].Query = " " }, "audiences.default.vip.definition.query", "empty", fault.Invalid},
		{"query", func(d draft) { d.Audiences[0].Query = "in nobody" }, "audiences.default.vip.definition.query", "position 4", fault.Invalid},
		{"connection", func(d draft) { d.Audiences[0].Connections[0].DestinationID = "gone" }, "audiences.default.vip.connections.0.destination.id", "no destination", fault.Invalid},
		{"connected twice", func(d draft) {
			c := d.Audiences[0].Connections[0]
			c.ID, c.Activations = "ii_2", nil
			d.Audiences[0].Connections = append(d.Audiences[0].Connections, c)
		}, "audiences.default.vip.connections.1.destination.id", "in use", fault.Invalid},
		{"activation", func(d draft) { d.Audiences[0].Connections[0].Activations[0].Type = "Left" }, "audiences.default.vip.connections.0.activations.0.activationType", "Audience Entered", fault.Invalid},
		{"identifier type", func(d draft) { d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "Email"}} }, "spaces.default.identifiers.0.type", "lower-case", fault.Invalid},
		{"filter without a name", func(d draft) { d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", If: "all"}} }, "spaces.default.filters.0.name", "missing", fault.Invalid},
		{"filter without a condition", func(d draft) { d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", Name: "x", If: " "}} }, "spaces.default.filters.0.if", "say: all", fault.Invalid},
		{"filter condition", func(d draft) { d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", Name: "x", If: "bad"}} }, "spaces.default.filters.0.if", "character 1: no such word", fault.Invalid},
		{"filter too long", func(d draft) {
			d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", Name: "x", If: strings.Repeat("x", 6000)}}
		}, "spaces.default.filters.0.if", "6000 bytes", fault.Invalid},
		{"filters too costly", func(d draft) {
			d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", Name: "x", If: strings.Repeat("x", 3000), Enabled: true}, {ID: "flt_2", Name: "y", If: strings.Repeat("y", 1100), Enabled: true}}
		}, "spaces.default.filters", "up to 4100 readings", fault.Invalid},
		{"filters of one id", func(d draft) {
			d.Spaces[0].Filters = []workspace.EventFilter{{ID: "flt_1", Name: "x", If: "all"}, {ID: "flt_1", Name: "y", If: "all"}}
		}, "spaces.default.filters.1.id", "another filter", fault.Invalid},
		{"too many filters", func(d draft) { d.Spaces[0].Filters = make([]workspace.EventFilter, 201) }, "spaces.default.filters", "at most 200", fault.Invalid},
		{"identifiers without user_id", func(d draft) { d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "loyalty_card"}} }, "spaces.default.identifiers", "user_id", fault.Invalid},
		{"identifier twice", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "email"}, {Type: "email", Collection: "users"}}
		}, "spaces.default.identifiers.1.type", "another rule", fault.Invalid},
		{"window", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "email", Window: "daily"}}
		}, "spaces.default.identifiers.0.window", "weekly", fault.Invalid},
		{"priority twice", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "email", Priority: 2}, {Type: "phone", Priority: 2}}
		}, "spaces.default.identifiers.1.priority", "email has", fault.Invalid},
		{"blocked pattern", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "email", BlockedPatterns: []string{"("}}}
		}, "spaces.default.identifiers.0.blockedPatterns.0", "RE2", fault.Invalid},
		{"blocked pattern that repeats a lot", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email", BlockedPatterns: []string{"^a*$", strings.Repeat("(.?){1000}", 90)}}}
		}, "spaces.default.identifiers.1.blockedPatterns.1", "too large", fault.Invalid},
		{"many such patterns", func(d draft) {
			many := slices.Repeat([]string{".{1,900}@example.com"}, 60)
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email", BlockedPatterns: many}}
		}, "spaces.default.identifiers.1.blockedPatterns", "together", fault.Invalid},
		{"form", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email", Normalize: "lower"}}
		}, "spaces.default.identifiers.1.normalize", "want none, email, phone or mac", fault.Invalid},
		{"provider of what is no address", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id", EmailProvider: true}}
		}, "spaces.default.identifiers.0.emailProvider", "set normalize to email", fault.Invalid},
		{"region", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id"}, {Type: "phone", Normalize: "phone", Region: "Germany"}}
		}, "spaces.default.identifiers.1.region", "as in DE", fault.Invalid},
		{"network of what has none", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id", NetworkKey: "ssid"}}
		}, "spaces.default.identifiers.0.networkKey", "set normalize to mac", fault.Invalid},
		{"span", func(d draft) {
			d.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id", ValidFor: "daily"}}
		}, "spaces.default.identifiers.0.validFor", "not a span", fault.Invalid},
		{"suspicious", func(d draft) { d.Spaces[0].Suspicious = workspace.Suspicious{Merges: 3} }, "spaces.default.suspicious.merges", "nothing below 4 is noted", fault.Invalid},
		{"guard", func(d draft) { d.Spaces[0].IdentityGuard = workspace.IdentityGuard{Merges: -1} }, "spaces.default.identityGuard", "negative", fault.Invalid},
		{"search trait twice", func(d draft) { d.Spaces[0].SearchTraits = []string{"email", "email"} }, "spaces.default.searchTraits.1", "twice", fault.Invalid},
		{"search traits", func(d draft) { d.Spaces[0].SearchTraits = make([]string, 21) }, "spaces.default.searchTraits", "at most 20", fault.Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, memkv.New(), options(clock.NewManual(start), 1))
			update(t, s, full)
			_, err := s.Update(t.Context(), func(d draft) error { test.change(d); return nil })
			if fault.KindOf(err) != test.kind {
				t.Fatalf("got %v", err)
			}
			var found bool
			for _, problem := range workspace.Problems(err) {
				var f *fault.Error
				if !errors.As(problem, &f) {
					t.Fatalf("a problem without a field: %v", problem)
				}
				found = found || (test.field == "" || f.Field == test.field) && strings.Contains(f.Message, test.message)
			}
			if !found {
				t.Fatalf("want %s: …%s…, got\n%v", test.field, test.message, err)
			}
			if s.Current().Number != 2 {
				t.Fatal("a refused change was kept")
			}
		})
	}
}

func TestRemoval(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	snap := update(t, s, full)
	src, dest, aud := snap.Sources[0].ID, snap.Destinations[0].ID, snap.Audiences[0].ID
	for what, fn := range map[string]func(d *workspace.Draft) error{
		"destination": func(d *workspace.Draft) error { return d.RemoveDestination(dest) },
		"source":      func(d *workspace.Draft) error { return d.RemoveSource(src) },
	} {
		if _, err := s.Update(t.Context(), fn); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "vip") {
			t.Errorf("removing the %s of a connected audience: %v", what, err)
		}
	}
	update(t, s, func(d *workspace.Draft) {
		d.Audiences[0].Query = "q"
		d.Audiences = append(d.Audiences, workspace.Audience{ID: d.NewAudienceID(), SpaceID: d.Spaces[0].ID, Name: "In VIP", Key: "in_vip", Query: "in vip"})
	})
	_, err := s.Update(t.Context(), func(d *workspace.Draft) error { d.RemoveAudience(aud); return nil })
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "in_vip") {
		t.Errorf("removing an audience that another names: %v", err)
	}
	update(t, s, func(d *workspace.Draft) { d.Audience(aud).Connections = nil })
	last, err := s.Update(t.Context(), func(d *workspace.Draft) error { return d.RemoveSource(src) })
	if err != nil || len(last.Sources)+len(last.Destinations) != 0 || len(last.TrackingPlans[0].SourceIDs) != 0 {
		t.Errorf("removing a source takes its destinations along and frees its plan: %v, %+v", err, last)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	_, err := s.Update(t.Context(), func(d *workspace.Draft) error {
		for i := range 500 {
			source(d, fmt.Sprintf("bad slug %d", i))
		}
		return nil
	})
	if n := len(workspace.Problems(err)); n == 0 || n > 50 {
		t.Fatalf("%d problems", n)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"First-time shopper": "first_time_shopper", "  VIP  ": "vip", "60 days+": "60_days", "Gäste": "gäste", "WiFi Guests (all)": "wi_fi_guests_all",
		"CStringRef": "cstring_ref", "samPLE": "sam_ple", "2FA Enabled": "2fa_enabled", "f_pX9": "f_p_x9", "already_snake_1": "already_snake_1",
	} {
		if got := workspace.AudienceKey(name); got != want {
			t.Errorf("key of %q: %q, want %q", name, got, want)
		}
	}
	taken := map[string]bool{"crm": true, "crm-2": true}
	if got := workspace.FreeSlug("CRM!", func(s string) bool { return taken[s] }); got != "crm-3" {
		t.Errorf("free slug: %q", got)
	}
	if got := workspace.FreeSlug("日本", func(string) bool { return false }); got != "unnamed" {
		t.Errorf("free slug of no ASCII letters: %q", got)
	}
}
