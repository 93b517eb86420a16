package identity_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// TestOwned compares the listing with all identifiers, looked through one by
// one, from every place at which a page may end.
func TestOwned(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	random := rand.New(rand.NewPCG(1, 2))
	var all []event.Identifier
	var calls []rowtest.Call
	for _, name := range []string{"card", "card2", "user_id"} {
		for _, value := range []string{"a", "ab", "a\x00", "a\x00b", "aé", "b", "abc", "A", "ab\xff"} {
			value = strings.ToValidUTF8(value, "\uffff")
			all = append(all, event.Identifier{Collection: event.Users, Type: name, Value: value})
			body := fmt.Sprintf(`{"type":"track","event":"Seen","context":{"externalIds":[{"id":%q,"type":%q,"collection":"users","encoding":"none"}]}}`, value, name)
			if name == "user_id" {
				body = fmt.Sprintf(`{"type":"track","event":"Seen","userId":%q}`, value)
			}
			calls = append(calls, rowtest.Call{Body: strings.ReplaceAll(body, `\x00`, `\u0000`)})
		}
	}
	calls = append(calls, rowtest.Call{Body: `{"type":"group","groupId":"a"}`})
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	row.Send(calls...)
	slices.SortFunc(all, func(a, b event.Identifier) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
	})
	for _, name := range []string{"", "card", "card2", "user_id", "phone", strings.Repeat("x", 1000)} {
		for _, prefix := range []string{"", "a", "a\x00", "ab", "abcd", "B", strings.Repeat("x", 10_000)} {
			var want []event.Identifier
			for _, id := range all {
				if (name == "" || id.Type == name) && strings.HasPrefix(id.Value, prefix) {
					want = append(want, id)
				}
			}
			for from := range len(want) + 1 {
				var after *event.Identifier
				if from > 0 {
					after = &want[from-1]
				}
				var got []event.Identifier
				row.View(func(r kv.Reader) error {
					return identity.NewReader(r, rowtest.Space, rowtest.Epoch).Owned(event.Users, name, prefix, after, func(x identity.Owned) (bool, error) {
						if x.Profile != lookup(t, row, x.Type, x.Value) {
							t.Errorf("%v is %s's", x.Identifier, x.Profile)
						}
						got = append(got, x.Identifier)
						return len(got) < 5, nil
					})
				})
				if !slices.Equal(got, want[from:min(from+5, len(want))]) {
					t.Errorf("%q %q behind %v: %q", name, prefix, after, got)
				}
			}
		}
	}
}
