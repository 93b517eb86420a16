package cli

import (
	"strings"
	"testing"

	"kith/api"
)

// TestPrintTrace compares the text of a trace with a good one.
func TestPrintTrace(t *testing.T) {
	found := &api.Traced{
		Message: &api.Trace{
			MessageID: "m-1", RecordID: "032aIr8meIj6kqjcV9l9Gg", Kind: "event", Space: "default", Offset: 3, Status: "admitted",
			Type: "track", Event: "Order Completed", Source: "shop", ReceivedAt: "2026-03-01T09:00:00.000Z",
			Identifiers: []api.TraceIdentifier{{Collection: "users", Type: "user_id", ID: "c-1"}},
			Stages: []api.TraceStage{
				{Stage: "collect", Outcome: "accepted", Details: []string{"track Order Completed from shop"}},
				{Stage: "identity", Outcome: "changed", Details: []string{"profile created", "profile use_1"}},
				{Stage: "profile", Outcome: "unchanged", Details: []string{}},
			},
			Deliveries: []api.TraceDelivery{
				{Destination: "crm", State: "delivered", Attempts: 1},
				{Destination: "books", State: "delivered", Attempts: 3, Subscription: "Orders"},
				{Destination: "mail", State: "waiting", Attempts: 2, Reason: "the server answered 503 Service Unavailable", NextTryAt: "2026-03-01T09:00:04.000Z", Next: "It is tried again by itself."},
				{Destination: "ads", State: "filtered", Code: "NO_MATCHING_MAPPING", Reason: "no enabled subscription's trigger matches it", Message: &api.TraceMessage{MessageID: "p-1", Type: "track", Event: "Audience Entered", Audience: "buyers"}},
				{Destination: "asleep", State: "not reached", Behind: 2, Reason: "nothing is sent: it is disabled"},
			},
			Notes: []string{"A note."},
		},
		Rejections: []api.TraceRejection{{At: "2026-03-01T08:59:00.000Z", Source: "shop", Code: "no_user_anon_id", Field: "userId", Message: "userId or anonymousId is required", Next: "Correct it."}},
	}
	want := `m-1
  track Order Completed, from shop, received 2026-03-01T09:00:00.000Z, record 032aIr8meIj6kqjcV9l9Gg, at 3 in the space default, user_id:c-1

  collect   accepted  track Order Completed from shop
  identity  changed   profile created
                      profile use_1
  profile   unchanged

Destinations
  crm     delivered    at the first attempt
  books   delivered    Orders
                       at attempt 3
  mail    waiting      2 attempts; the server answered 503 Service Unavailable; next try 2026-03-01T09:00:04.000Z
                       → It is tried again by itself.
  ads     filtered     track Audience Entered, message p-1, of audience buyers
                       no enabled subscription's trigger matches it; NO_MATCHING_MAPPING
  asleep  not reached  as number 2 from here on; nothing is sent: it is disabled

A note.

A message with this messageId was also refused
  2026-03-01T08:59:00.000Z  shop  no_user_anon_id: userId: userId or anonymousId is required
                                  → Correct it.
`
	var out strings.Builder
	if err := printTrace(&out, found); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
