package identity_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// calls are the six calls, with what each needs besides identifiers.
var calls = map[event.Type]string{
	event.Identify: `"type":"identify"`, event.Track: `"type":"track","event":"E"`, event.Page: `"type":"page","name":"P"`,
	event.Screen: `"type":"screen","name":"S"`, event.Group: `"type":"group"`, event.Alias: `"type":"alias","previousId":"p"`,
}

// TestExtraction holds every row of the table of sheet unify_engage_privacy
// §1.1, and both routes of custom identifiers, against every call: what a
// profile is found by when an event carries nothing else.
func TestExtraction(t *testing.T) {
	user := func(name string) *event.Identifier {
		return &event.Identifier{Collection: event.Users, Type: name, Value: "v"}
	}
	account := func(name string) *event.Identifier {
		return &event.Identifier{Collection: event.Accounts, Type: name, Value: "v"}
	}
	device := func(system, more string) string {
		return fmt.Sprintf(`"context":{"device":{"type":%q,%s}}`, system, more)
	}
	external := func(entry string) string { return `"context":{"externalIds":[{` + entry + `}]}` }
	tests := []struct {
		name, part string
		want       *event.Identifier // nil: none
		group      *event.Identifier // on a group call, whose traits are the group's; same: want
	}{
		{"userId", `"userId":"v"`, user("user_id"), nil},
		{"anonymousId", `"anonymousId":"v"`, user("anonymous_id"), nil},
		{"groupId", `"groupId":"v"`, account("group_id"), nil},
		{"email in traits", `"traits":{"email":"v"}`, user("email"), &event.Identifier{}},
		{"email in context.traits", `"context":{"traits":{"email":"v"}}`, user("email"), nil},
		{"email in properties", `"properties":{"email":"v"}`, nil, nil},
		{"android.id", device("android", `"id":"v"`), user("android.id"), nil},
		{"android.idfa", device("android", `"advertisingId":"v","adTrackingEnabled":true`), user("android.idfa"), nil},
		{"android.idfa untracked", device("android", `"advertisingId":"v","adTrackingEnabled":false`), nil, nil},
		{"android.idfa unsaid", device("android", `"advertisingId":"v"`), nil, nil},
		{"android.push_token", device("android", `"token":"v"`), user("android.push_token"), nil},
		{"ios.id", device("ios", `"id":"v"`), user("ios.id"), nil},
		{"ios.idfa", device("ios", `"advertisingId":"v","adTrackingEnabled":true`), user("ios.idfa"), nil},
		{"ios.idfa untracked", device("ios", `"advertisingId":"v","adTrackingEnabled":false`), nil, nil},
		{"ios.push_token", device("ios", `"token":"v"`), user("ios.push_token"), nil},
		{"another system's device", device("windows", `"id":"v","token":"v"`), nil, nil},
		{"ga_client_id", `"context":{"integrations":{"Google Analytics":{"clientId":"v"}}}`, user("ga_client_id"), nil},
		{"cross_domain_id", `"context":{"traits":{"crossDomainId":"v"}}`, user("cross_domain_id"), nil},
		{"cross_domain_id in snake_case", `"context":{"traits":{"cross_domain_id":"v"}}`, user("cross_domain_id"), nil},
		{"braze_id", `"context":{"Braze":{"braze_id":"v"}}`, user("braze_id"), nil},

		{"a key in traits", `"traits":{"loyaltyNumber":"v"}`, user("loyalty"), &event.Identifier{}},
		{"in snake_case", `"traits":{"loyalty_number":"v"}`, user("loyalty"), &event.Identifier{}},
		{"in context.traits", `"context":{"traits":{"loyaltyNumber":"v"}}`, user("loyalty"), nil},
		{"there in snake_case", `"context":{"traits":{"loyalty_number":"v"}}`, user("loyalty"), nil},
		{"in properties", `"properties":{"loyaltyNumber":"v"}`, user("loyalty"), nil},
		{"in properties in snake_case", `"properties":{"loyalty_number":"v"}`, user("loyalty"), nil},
		{"in another case", `"properties":{"LOYALTYNUMBER":"v"}`, nil, nil},
		{"deeper", `"properties":{"card":{"loyaltyNumber":"v"}}`, nil, nil},
		{"an account's key", `"traits":{"taxId":"v"}`, account("tax"), nil},
		{"an account's key in properties", `"properties":{"tax_id":"v"}`, account("tax"), nil},

		{"external", external(`"id":"v","type":"booking","collection":"users","encoding":"none"`), user("booking"), nil},
		{"external of accounts", external(`"id":"v","type":"hotel","collection":"accounts","encoding":"none"`), account("hotel"), nil},
		{"external in a standard type", external(`"id":"v","type":"email","collection":"users","encoding":"none"`), user("email"), nil},
		{"external without a type", external(`"id":"v","collection":"users","encoding":"none"`), nil, nil},
		{"external without an id", external(`"type":"booking","collection":"users","encoding":"none"`), nil, nil},
		{"external without a collection", external(`"id":"v","type":"booking","encoding":"none"`), nil, nil},
		{"external without an encoding", external(`"id":"v","type":"booking","collection":"users"`), nil, nil},
		{"external in upper case", external(`"id":"v","type":"Booking","collection":"users","encoding":"none"`), nil, nil},
	}
	rules := append(identity.DefaultIdentifiers(), workspace.IdentifierRule{Type: "cross_domain_id"}, workspace.IdentifierRule{Type: "braze_id"},
		workspace.IdentifierRule{Type: "loyalty", Keys: []string{"loyaltyNumber"}}, workspace.IdentifierRule{Type: "tax", Collection: event.Accounts, Keys: []string{"tax_id"}})
	for _, tt := range tests {
		for kind, call := range calls {
			want := tt.want
			if kind == event.Group && tt.group != nil {
				if want = tt.group; *want == (event.Identifier{}) {
					want = nil
				}
			}
			t.Run(fmt.Sprint(tt.name, " on ", call[8:13]), func(t *testing.T) {
				row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
				config(row, 1, rules...)
				row.Send(rowtest.Call{Source: "src", Body: "{" + call + "," + tt.part + "}"})
				var got []event.Identifier
				row.View(func(r kv.Reader) error {
					for _, collection := range []string{event.Users, event.Accounts} {
						err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).Owned(collection, "", "", nil, func(o identity.Owned) (bool, error) {
							got = append(got, o.Identifier)
							return true, nil
						})
						if err != nil {
							return err
						}
					}
					return nil
				})
				var list []event.Identifier
				if want != nil {
					list = []event.Identifier{*want}
				}
				if diff := cmp.Diff(list, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestDefaults: a space without rules has the eleven defaults, with their
// limits, in the order of their priority; the two legacy types count only where
// they are declared.
func TestDefaults(t *testing.T) {
	table, err := identity.RuleTable(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range table {
		got = append(got, fmt.Sprintf("%d %s %s %d %s", r.Priority, r.Collection, r.Type, r.Limit, r.Window))
	}
	want := []string{
		"1 users user_id 1 ever", "2 users email 5 ever", "3 users android.id 5 ever", "4 users android.idfa 5 ever", "5 users android.push_token 5 ever",
		"6 users anonymous_id 5 ever", "7 users ga_client_id 5 ever", "8 accounts group_id 5 ever", "9 users ios.id 5 ever", "10 users ios.idfa 5 ever",
		"11 users ios.push_token 5 ever",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	finder, err := identity.NewFinder(nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, body := range []string{
		`{"type":"track","context":{"traits":{"crossDomainId":"v"},"Braze":{"braze_id":"v"},"externalIds":[{"id":"00:1b:63:84:45:e6","type":"mac","collection":"users","encoding":"none"}]}}`,
		`{"type":"track","context":{"externalIds":[{"id":"v","type":"new_one","collection":"users","encoding":"none"}]}}`,
	} {
		e, err := event.Parse([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range finder.Find(event.StandardIdentifiers(e), e) {
			found[id.Type] = id.Value
		}
	}
	if diff := cmp.Diff(map[string]string{"new_one": "v"}, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
