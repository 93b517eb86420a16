package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/kv"
	"kith/rebuild"
)

// holds returns the keys of the space's epochs in which a text stands.
func (n *inn) holds(text string) (found []string) {
	n.t.Helper()
	all := kv.SpaceRange(1)[1]
	err := n.s.db.View(n.t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(all) {
			if err != nil {
				return err
			}
			if bytes.Contains(pair.Key, []byte(text)) || bytes.Contains(pair.Value, []byte(text)) {
				found = append(found, fmt.Sprintf("%q", pair.Key))
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// forget erases whoever has an address, and waits until that is complete.
func (n *inn) forget(address string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	done, err := n.s.Order(ctx, 1, &event.Command{Erase: &event.Erase{Identifiers: []event.ExternalID{{Type: "email", ID: address}}}})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.s.Passed(ctx, 1, done.Offset); err != nil {
		n.t.Fatal(err)
	}
	n.s.erasures.Now(1)
	if _, err := n.s.erasures.Wait(ctx, 1, done.Offset); err != nil {
		n.t.Fatal(err)
	}
}

// What an erasure takes out of other people's events, no state keeps, live or
// not.
func TestErasureOfOthersInAllEpochs(t *testing.T) {
	const address = "jo.forgotten@example.com"
	open := func(t *testing.T) *inn {
		n := openInn(t, 1, nil)
		n.apply(1, 2, 30, true)
		call := func(body map[string]any) {
			if err := n.c.Send(t.Context(), "line-write-key", "identify", body); err != nil {
				t.Fatal(err)
			}
		}
		call(map[string]any{"userId": "jo", "traits": map[string]any{"email": address}})
		call(map[string]any{"userId": "partner", "traits": map[string]any{"plus_one": address}})
		advance(t, n.c, "0s")
		if len(n.holds(address)) < 2 {
			t.Fatal("nobody has it")
		}
		return n
	}
	partner := func(n *inn) string {
		n.t.Helper()
		all := n.people(n.s.space(1).epoch())
		text, _ := json.Marshal(all)
		if strings.Contains(string(text), "user_id:jo") || !strings.Contains(string(text), "user_id:partner") {
			n.t.Fatalf("%s", text)
		}
		return string(text)
	}
	t.Run("kept", func(t *testing.T) {
		n := open(t)
		n.rebuilt(rebuild.Request{})
		n.forget(address)
		if found := n.holds(address); len(found) > 0 {
			t.Errorf("found in %v", found)
		}
		s, err := n.s.rebuilds.Get(t.Context(), 1, 1)
		if err != nil || s.State != rebuild.Dropped {
			t.Errorf("the former state is %+v, %v", s, err)
		}
		partner(n)
	})
	t.Run("swapping back", func(t *testing.T) {
		n := open(t)
		n.rebuilt(rebuild.Request{})
		if _, err := n.s.rebuilds.SwapBack(t.Context(), 1, ""); err != nil {
			t.Fatal(err)
		}
		n.forget(address)
		was := partner(n)
		n.becomes(1, rebuild.Live)
		if is := partner(n); is != was {
			t.Errorf("was %s\nis  %s", was, is)
		}
		if found := n.holds(address); len(found) > 0 {
			t.Errorf("found in %v", found)
		}
	})
	for _, another := range []bool{false, true} {
		t.Run(fmt.Sprintf("held, another erasure %t", another), func(t *testing.T) {
			n := open(t)
			s, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{Hold: true})
			if err != nil {
				t.Fatal(err)
			}
			n.becomes(s.Number, rebuild.Waiting)
			n.forget(address)
			if found := n.holds(address); len(found) > 0 {
				t.Errorf("found in %v", found)
			}
			was := partner(n)
			n.becomes(s.Number, rebuild.Waiting) // begun again, and held again
			if another {
				n.forget("nobody@example.com")
			}
			if err := n.s.rebuilds.Swap(t.Context(), 1, s.Number); err != nil {
				t.Fatal(err)
			}
			n.becomes(s.Number, rebuild.Live)
			if is := partner(n); is != was {
				t.Errorf("was %s\nis  %s", was, is)
			}
			if found := n.holds(address); len(found) > 0 {
				t.Errorf("found in %v", found)
			}
		})
	}
}
