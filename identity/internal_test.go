package identity

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
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

// TestGraphIsReadBack: what is written of a profile is read back, in however
// many steps it grew and whatever was taken away between, with the same counts
// and the same finds, whether it is asked at once or in parts.
func TestGraphIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db, k := memkv.New(), keys{1, 0}
		n := &node{collection: rapid.SampledFrom([]string{event.Users, event.Accounts}).Draw(t, "collection")}
		n.id[3] = 7
		n.created = Cause{Offset: 3, At: rapid.Int64().Draw(t, "at"), Time: 5, MessageID: "m", SourceID: "s"}
		var ids []Identified
		var merged []event.ProfileID
		made, spread := 0, rapid.IntRange(1, 9).Draw(t, "spread")
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			for range rapid.SampledFrom([]int{0, 1, 5, 255, 256, 257, 600}).Draw(t, "identifiers") {
				offset := (spread*made/3 + made/7) % 5000 // several of one record, not in the order of time
				x := Identified{
					Identifier: event.Identifier{Collection: n.collection, Type: string(rune('a' + made%3)), Value: fmt.Sprint(made)},
					At:         int64(offset * 37 % 101), Offset: commitlog.Offset(offset), MessageID: fmt.Sprint("m", offset), SourceID: "s",
				}
				made++
				ids, n.ids.tail = append(ids, x), append(n.ids.tail, x)
			}
			for range rapid.SampledFrom([]int{0, 0, 1, 300}).Draw(t, "merges") {
				m := event.ProfileID{9, byte(len(merged)), byte(len(merged) >> 8)}
				merged, n.merged.tail = append(merged, m), append(n.merged.tail, m)
			}
			if len(ids) > 0 && rapid.IntRange(0, 3).Draw(t, "take away?") == 0 {
				gone := ids[rapid.IntRange(0, len(ids)-1).Draw(t, "taken away")].Identifier
				var err error
				if n, err = n.without(gone); err != nil {
					t.Fatal(err)
				}
				ids = slices.DeleteFunc(ids, func(x Identified) bool { return x.Identifier == gone })
			}
			err := db.Update(context.Background(), "loop/1/0", kv.Lazy, func(tx kv.Tx) error { return n.write(tx, k) })
			if err != nil {
				t.Fatal(err)
			}
			if n = checkNode(t, db, n.id, ids, merged); n == nil {
				return
			}
		}
	})
}

// checkNode reads a profile and holds it against what it should be. What it
// returns has read some pages, as a pass has.
func checkNode(t *rapid.T, db kv.DB, id event.ProfileID, ids []Identified, merged []event.ProfileID) (n *node) {
	err := db.View(context.Background(), func(r kv.Reader) error {
		read := NewReader(r, 1, 0)
		p, err := read.Frozen(id)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(ids, p.Identifiers, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(merged, p.Merged, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		stored := 0
		for range r.Scan(kv.Prefix(kv.EpochKey(1, 0, Room))) {
			stored++
		}
		held, err := read.graphKeys(id)
		if err != nil || len(held) != stored {
			t.Fatalf("%d keys of %d that are stored, %v", len(held), stored, err)
		}
		if n, err = read.node(id); err != nil {
			return err
		}
		for _, window := range []int64{0, 10, 50} {
			for time := int64(0); time < 120; time += 23 {
				got, err := n.count("a", time, window)
				if want := countIn(ids, "a", time, window); err != nil || got != want {
					t.Fatalf("%d of the type at %d within %d, want %d, %v", got, time, window, want, err)
				}
			}
		}
		for i := 0; i < len(ids); i += 97 {
			if x, found, err := n.find(ids[i].Identifier); err != nil || !found || x != ids[i] {
				t.Fatalf("%v is %v, %v, %v", ids[i], x, found, err)
			}
		}
		if _, found, err := n.find(event.Identifier{Collection: n.collection, Type: "a", Value: "none"}); found || err != nil {
			t.Fatalf("found what is not there, %v", err)
		}
		size := 0
		for i := range ids {
			size += bytesOf(&ids[i])
		}
		if n.size() != size || n.ids.len() != len(ids) || n.merged.len() != len(merged) {
			t.Fatalf("%d bytes, want %d", n.size(), size)
		}
		// The pages that are to be read later are read now: the view ends.
		if _, err := n.ids.all(); err != nil {
			return err
		}
		_, err = n.merged.all()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWholeGraphsAreRead: a profile of the format before pages is read, and
// written in the new one.
func TestWholeGraphsAreRead(t *testing.T) {
	v := kv.Value{graphWhole, usersByte}.Varint(77).Uvarint(2)
	v = v.Uvarint(3).Varint(70).String("m3").String("s").Uvarint(9).Varint(80).String("m9").String("")
	v = v.Uvarint(2).String("user_id").String("u").Uvarint(0).String("email").String("e").Uvarint(1)
	v = v.Uvarint(1).Fixed(make([]byte, 16))
	n, err := decodeGraph(nil, keys{}, event.ProfileID{1}, v)
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.profile()
	want := &Profile{
		ID: event.ProfileID{1}, Collection: event.Users, Created: Cause{Offset: 3, At: 77, Time: 70, MessageID: "m3", SourceID: "s"},
		Identifiers: []Identified{
			{Identifier: event.Identifier{Collection: event.Users, Type: "user_id", Value: "u"}, At: 70, Offset: 3, MessageID: "m3", SourceID: "s"},
			{Identifier: event.Identifier{Collection: event.Users, Type: "email", Value: "e"}, At: 80, Offset: 9, MessageID: "m9"},
		},
		Merged: []event.ProfileID{{}},
	}
	if diff := cmp.Diff(want, p); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s, %v", diff, err)
	}
	again, err := decodeGraph(nil, keys{}, event.ProfileID{1}, encodeGraph(n))
	if err != nil {
		t.Fatal(err)
	}
	p, err = again.profile()
	if diff := cmp.Diff(want, p); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s, %v", diff, err)
	}
	for cut := range v {
		if _, err := decodeGraph(nil, keys{}, event.ProfileID{1}, v[:cut]); err == nil {
			t.Errorf("a value cut after %d of %d bytes is read", cut, len(v))
		}
	}
}

func TestDamagedValuesAreErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes")
		if len(b) > 0 {
			b[0] = byte(rapid.IntRange(1, 2).Draw(t, "format"))
		}
		// Whatever comes out, nothing may panic or ask for much memory.
		_, _ = decodeGraph(nil, keys{}, event.ProfileID{}, b)
		_, _ = decodeIdentifierPage(event.Users)(b)
		_, _ = decodeMergedPage(b)
		_, _ = decodeRefusals(b)
		_, _ = decodeStanding(0, b)
		_, _ = decodeOverride(b)
		_, _ = decodeLink(event.ProfileID{}, b)
		_, _ = decodeMember(event.ProfileID{}, b)
		_, _ = decodeTypes(b)
		if _, err := decodeOwner(b); err == nil && (len(b) < 17 || b[0] != ownerFormat) {
			t.Fatalf("%x is an owner", b)
		}
	})
}
