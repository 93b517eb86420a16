package profile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
)

// TestForgottenTraits: of a family nothing is left, of others everything, also
// where there are so many traits that they take several pages.
func TestForgottenTraits(t *testing.T) {
	l := newLine(t, memkv.New())
	long := strings.Repeat("x", 200)
	for n := range 100 {
		l.Send(identify("u", fmt.Sprintf(`{"t%d":%q}`, n, long)))
	}
	l.Send(identify("v", `{"city":"Ulm"}`),
		rowtest.Call{Body: `{"type":"identify","anonymousId":"a","traits":{"city":"Bonn"}}`},
		rowtest.Call{Body: `{"type":"track","event":"Login","userId":"u","anonymousId":"a"}`})
	var family []event.ProfileID
	l.View(func(r kv.Reader) error {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		id, err := read.Lookup(event.Users, "user_id", "u")
		if err != nil {
			return err
		}
		family, err = read.Family(id)
		return err
	})
	held := func() (pages []int) {
		for _, p := range family {
			l.View(func(r kv.Reader) error {
				keys, err := profile.Held(r, rowtest.Space, rowtest.Epoch, p)
				pages = append(pages, len(keys))
				return err
			})
		}
		return pages
	}
	if before := held(); len(before) != 2 || before[0] < 2 || before[1] != 1 {
		t.Fatalf("before there are %v pages", before)
	}
	err := l.Loop.Do(context.Background(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		return profile.Forget(b.Tx, rowtest.Space, rowtest.Epoch, family...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := held(); after[0] != 0 || after[1] != 0 {
		t.Errorf("%v pages are left", after)
	}
	if got := l.traits("users", "user_id:v"); got != `city="Ulm"` {
		t.Errorf("another's traits are %s", got)
	}
}
