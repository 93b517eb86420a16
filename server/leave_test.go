package server

import (
	"strings"
	"testing"

	"kith/client"
	"kith/fault"
)

// TestLeavingOverTheAPI: a membership ends over the control API, both ways as
// the Profile API reads it, and a later group call begins it anew.
func TestLeavingOverTheAPI(t *testing.T) {
	s, base, _ := running(t, inMemory())
	key := source(t, s, "web")
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	join := func() {
		t.Helper()
		if err := c.Send(t.Context(), key, "group", map[string]any{"userId": "ann", "groupId": "acme"}); err != nil {
			t.Fatal(err)
		}
		if err := s.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	links := func(collection, id string) int {
		t.Helper()
		list, _, err := c.Links(t.Context(), client.Profile{Space: "default", Collection: collection, ID: id}, client.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	user, account := map[string]string{"type": "user_id", "id": "ann"}, map[string]string{"type": "group_id", "id": "acme"}
	join()
	if links("users", "user_id:ann") != 1 || links("accounts", "group_id:acme") != 1 {
		t.Fatal("the group call made no member")
	}
	var out struct {
		Offset uint64
		Done   bool
	}
	for range 2 { // the second finds nothing to do
		if err := c.Call(t.Context(), "POST", "/spaces/default/identity/leave", map[string]any{"user": user, "account": account}, &out); err != nil || !out.Done || out.Offset == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		if links("users", "user_id:ann") != 0 || links("accounts", "group_id:acme") != 0 {
			t.Error("the membership has not ended")
		}
	}
	join()
	if links("users", "user_id:ann") != 1 {
		t.Error("the membership did not begin anew")
	}
	err = c.Call(t.Context(), "POST", "/spaces/default/identity/leave", map[string]any{"user": user, "account": user}, nil)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "type of users") {
		t.Errorf("a user as an account: %v", err)
	}
}
