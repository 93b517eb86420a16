package identity_test

import (
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// TestAsk: whoever asks for an identifier finds it in any spelling, and as it
// was sent before the rules normalised it.
func TestAsk(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	email := func(address string) rowtest.Call {
		return rowtest.Call{Source: "src", Body: `{"type":"identify","traits":{"email":"` + address + `"}}`}
	}
	row.Send(email("Old@example.com"))
	rules := []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email", Normalize: workspace.NormalizeEmail}}
	config(row, 1, rules...)
	row.Send(email("New@example.com"))
	space := &workspace.Space{Number: rowtest.Space, Identifiers: rules}
	for asked, offset := range map[string]int{"Old@example.com": 0, "new@example.com": 2, "NEW@Example.com": 2, "old@example.com": -1} {
		want := event.ProfileID{}
		if offset >= 0 {
			want = event.UserProfile(row.Sent[offset].ID)
		}
		row.View(func(r kv.Reader) error {
			got, err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).Ask(space, event.Users, "email", asked)
			if got != want {
				t.Errorf("%s is %s's, want %s", asked, got, want)
			}
			return err
		})
	}
}
