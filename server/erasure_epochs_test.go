package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kith/client"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
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

// The process dies at some commit of an erasure while a rebuild is held. The
// next one completes the erasure, and the rebuild begins again.
func TestErasureOfOthersCrashes(t *testing.T) {
	const address = "jo.forgotten@example.com"
	died := 0
	for at := int64(1); at <= 26; at++ {
		var left atomic.Int64 // commits until the process is dead; zero and below: it is not to die
		left.Store(-1 << 40)
		var dead atomic.Bool
		db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
			if (op == memkv.OpCommit || op == memkv.OpDeleteRange) && left.Add(-1) == 0 {
				dead.Store(true)
			}
			if dead.Load() {
				return fault.New(fault.Unavailable, "the process is dead")
			}
			return nil
		}})
		n := openDying(t, 3, db)
		n.apply(1, 2, 30, true)
		for _, body := range []map[string]any{
			{"userId": "jo", "traits": map[string]any{"email": address}},
			{"userId": "partner", "traits": map[string]any{"plus_one": address}},
		} {
			if err := n.c.Send(t.Context(), "line-write-key", "identify", body); err != nil {
				t.Fatal(err)
			}
		}
		advance(t, n.c, "0s")
		s, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{Hold: true})
		if err != nil {
			t.Fatal(err)
		}
		n.becomes(s.Number, rebuild.Waiting)
		done, err := n.s.Order(t.Context(), 1, &event.Command{Erase: &event.Erase{Identifiers: []event.ExternalID{{Type: "email", ID: address}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.s.Passed(t.Context(), 1, done.Offset); err != nil {
			t.Fatal(err)
		}
		left.Store(at)
		n.s.erasures.Now(1)
		wait, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		for !dead.Load() && wait.Err() == nil {
			if x, err := n.s.erasures.Get(wait, 1, done.Offset); err == nil && x.Done() {
				break // it took fewer commits
			}
			rest(wait, time.Millisecond)
		}
		if dead.Load() {
			died++
		}
		dead.Store(true)
		left.Store(-1 << 40)
		n.die()
		dead.Store(false)

		next := &inn{t: t, sink: n.sink, vars: n.vars, dice: n.dice, fixed: true}
		cfg := innConfig(db.Crash(rand.IntN(db.AtRisk() + 1)))
		cfg.TestClock = n.s.clock.Now()
		var base string
		next.s, base, _ = running(t, cfg)
		if next.c, err = client.New(base, "test-token", nil); err != nil {
			t.Fatal(err)
		}
		next.s.erasures.Now(1)
		if _, err := next.s.erasures.Wait(wait, 1, done.Offset); err != nil {
			t.Fatalf("died at commit %d: %v", at, err)
		}
		if found := next.holds(address); len(found) > 0 {
			t.Errorf("died at commit %d: found in %v", at, found)
		}
		r, err := next.s.rebuilds.Get(wait, 1, s.Number)
		if err != nil || r.State == rebuild.Failed || r.State == rebuild.Dropped {
			t.Fatalf("died at commit %d: the rebuild is %+v, %v", at, r, err)
		}
		// One that was stopped just before it began again stands until somebody
		// lets it go on.
		if err := next.s.rebuilds.Swap(wait, 1, s.Number); err != nil {
			t.Fatalf("died at commit %d: %v", at, err)
		}
		next.becomes(s.Number, rebuild.Live)
		if found := next.holds(address); len(found) > 0 {
			t.Errorf("died at commit %d, after the swap: found in %v", at, found)
		}
		cancel()
	}
	if died < 8 {
		t.Errorf("the process died in %d cases only: the test proves too little", died)
	}
	t.Logf("the process died in %d cases", died)
}
