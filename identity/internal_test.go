package identity

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/event"
	"kith/workspace"
)

func TestSpellings(t *testing.T) {
	tests := []struct{ key, camel, snake string }{
		{"loyaltyId", "loyaltyId", "loyalty_id"},
		{"loyalty_id", "loyaltyId", "loyalty_id"},
		{"LoyaltyID", "loyaltyId", "loyalty_id"},
		{"customerURLId", "customerUrlId", "customer_url_id"},
		{"phone", "phone", "phone"},
		{"PNR", "pnr", "pnr"},
		{"Booking reference", "bookingReference", "booking_reference"},
		{"room2Guest", "room2Guest", "room2_guest"},
		{"größe_id", "größeId", "größe_id"},
		{"straßeÄnderung", "straßeÄnderung", "straße_änderung"},
		{"_", "", ""},
	}
	for _, tt := range tests {
		if c, s := camelCase(tt.key), snakeCase(tt.key); c != tt.camel || s != tt.snake {
			t.Errorf("%q: %q and %q, want %q and %q", tt.key, c, s, tt.camel, tt.snake)
		}
	}
}

// TestNewTypesMoveNobody: two types stand to each other as before, whatever
// other types register.
func TestNewTypesMoveNobody(t *testing.T) {
	names := []string{"user_id", "email", "anonymous_id", "phone", "card", "zzz", "aaa"}
	rapid.Check(t, func(t *rapid.T) {
		var rules []workspace.IdentifierRule
		declared := rapid.IntRange(1, len(names)).Draw(t, "declared")
		for _, name := range names[:declared] {
			rules = append(rules, workspace.IdentifierRule{Type: name, Priority: rapid.IntRange(0, 9).Draw(t, "priority")})
		}
		space := &workspace.Space{Identifiers: rules}
		order := func(registered []string) map[string]int {
			var types []RegisteredType
			for _, name := range registered {
				types = append(types, RegisteredType{Collection: event.Users, Type: name})
			}
			table, err := RuleTable(space, types)
			if err != nil {
				t.Fatal(err)
			}
			at := map[string]int{}
			for i, r := range table {
				if r.Priority != i+1 {
					t.Fatalf("%s is at %d with priority %d", r.Type, i, r.Priority)
				}
				at[r.Type] = i
			}
			return at
		}
		few, many := order(nil), order(names[declared:])
		for a := range few {
			for b := range few {
				if (few[a] < few[b]) != (many[a] < many[b]) {
					t.Fatalf("%s and %s changed places: %v, %v", a, b, few, many)
				}
			}
		}
	})
}

func TestRulesThatCannotBe(t *testing.T) {
	for _, r := range []workspace.IdentifierRule{
		{Type: "user_id", Window: "daily"},
		{Type: "user_id", BlockedPatterns: []string{"("}},
	} {
		if _, err := compile(&workspace.Space{Identifiers: []workspace.IdentifierRule{r}}); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

func TestGraphIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 12, 40)
		p := &Profile{Collection: rapid.SampledFrom([]string{event.Users, event.Accounts}).Draw(t, "collection")}
		p.ID[3] = 7
		cause := func(i int) Cause {
			return Cause{Offset: commitlog.Offset(i), Time: int64(1000 - i), MessageID: fmt.Sprint("m", i), SourceID: fmt.Sprint("s", i%3)}
		}
		p.Created = cause(rapid.IntRange(0, 5).Draw(t, "created"))
		p.Created.At = rapid.Int64().Draw(t, "at")
		p.Identifiers = []Identified{}
		for range rapid.IntRange(0, 9).Draw(t, "identifiers") {
			c := cause(rapid.IntRange(0, 5).Draw(t, "cause"))
			p.Identifiers = append(p.Identifiers, Identified{
				Identifier: event.Identifier{Collection: p.Collection, Type: text.Draw(t, "type"), Value: text.Draw(t, "value")},
				At:         c.Time, Offset: c.Offset, MessageID: c.MessageID, SourceID: c.SourceID,
			})
		}
		for range rapid.IntRange(0, 3).Draw(t, "merged") {
			p.Merged = append(p.Merged, event.ProfileID{9, rapid.Byte().Draw(t, "id")})
		}
		value := encodeGraph(p)
		got, err := decodeGraph(p.ID, value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if cut := rapid.IntRange(0, len(value)-1).Draw(t, "cut"); true {
			if _, err := decodeGraph(p.ID, value[:cut]); err == nil {
				t.Fatalf("a value cut after %d of %d bytes is read", cut, len(value))
			}
		}
	})
}

func TestDamagedValuesAreErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes")
		if len(b) > 0 {
			b[0] = byte(rapid.IntRange(1, 2).Draw(t, "format"))
		}
		// Whatever comes out, nothing may panic or ask for much memory.
		_, _ = decodeGraph(event.ProfileID{}, b)
		_, _ = decodeLink(event.ProfileID{}, b)
		_, _ = decodeMember(event.ProfileID{}, b)
		_, _ = decodeTypes(b)
		if _, err := decodeOwner(b); err == nil && (len(b) < 17 || b[0] != ownerFormat) {
			t.Fatalf("%x is an owner", b)
		}
	})
}
