package identity_test

import (
	"bytes"
	"context"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// TestForgottenIdentity: once a family is forgotten no key of the room names
// it, and its identifiers are nobody's; others stay as they were.
func TestForgottenIdentity(t *testing.T) {
	var layout pipeline.Layout
	row := rowtest.New(t, memkv.New(), identity.New(&layout))
	for _, body := range []string{
		`{"type":"track","event":"Seen","anonymousId":"a"}`,
		`{"type":"group","userId":"u","groupId":"g"}`,
		`{"type":"group","userId":"v","groupId":"g"}`,
		`{"type":"track","event":"Login","userId":"u","anonymousId":"a"}`,
		`{"type":"track","event":"Login","userId":"v","anonymousId":"a"}`, // refused
	} {
		row.Send(rowtest.Call{Body: body})
	}
	var family []event.ProfileID
	var kept int
	row.View(func(r kv.Reader) error {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		id, err := read.Lookup(event.Users, "user_id", "u")
		if err != nil {
			return err
		}
		if family, err = read.Family(id); err != nil {
			return err
		}
		other, err := read.Lookup(event.Users, "user_id", "v")
		if err != nil {
			return err
		}
		keys, err := identity.Held(r, rowtest.Space, rowtest.Epoch, other)
		kept = len(keys)
		return err
	})
	if len(family) != 2 || kept == 0 {
		t.Fatalf("the family is %v; %d keys are another's", family, kept)
	}
	err := row.Loop.Do(context.Background(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		return identity.Forget(b.Tx, rowtest.Space, rowtest.Epoch, family...)
	})
	if err != nil {
		t.Fatal(err)
	}
	row.View(func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(kv.EpochKey(rowtest.Space, rowtest.Epoch, identity.Room))) {
			if err != nil {
				return err
			}
			for _, p := range family {
				if bytes.Contains(pair.Key, p[:]) || bytes.Contains(pair.Value, p[:]) {
					t.Errorf("%s is still in %q", p, pair.Key)
				}
			}
		}
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		for _, id := range []string{"user_id:u", "anonymous_id:a"} {
			name, value, _ := bytes.Cut([]byte(id), []byte(":"))
			owner, err := read.Lookup(event.Users, string(name), string(value))
			if err != nil {
				return err
			}
			if !owner.IsZero() {
				t.Errorf("%s is still %s's", id, owner)
			}
		}
		other, err := read.Lookup(event.Users, "user_id", "v")
		if err != nil {
			return err
		}
		if links, err := read.Links(other, identity.LinkMark{}, 0); err != nil || len(links) != 1 {
			t.Errorf("another's links are %v, %v", links, err)
		}
		account, err := read.Lookup(event.Accounts, "group_id", "g")
		if err != nil {
			return err
		}
		links, err := read.Links(account, identity.LinkMark{}, 0)
		if err != nil || len(links) != 1 || links[0].Profile != other {
			t.Errorf("the account's links are %v, %v", links, err)
		}
		return nil
	})
}
