package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/client"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/kv/memkv"
	"kith/rebuild"
)

// people returns who is whom and who is in which audience in an epoch, by
// identifiers: what two servers that gave other ids can be compared by.
func (n *inn) people(epoch uint32) map[string]string {
	n.t.Helper()
	all := map[string]string{}
	err := n.s.db.View(n.t.Context(), func(r kv.Reader) error {
		graph, engine := identity.NewReader(r, 1, epoch), n.s.row.computation.Reader()
		ids, err := graph.People(event.ProfileID{}, 10_000)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if link, err := graph.Link(id); err != nil || link != nil {
				continue
			}
			p, err := graph.Profile(id)
			if err != nil {
				return err
			}
			var names, in []string
			for _, x := range p.Identifiers {
				names = append(names, x.Type+":"+x.Value)
			}
			memberships, err := engine.Memberships(r, 1, epoch, id)
			if err != nil {
				return err
			}
			for _, m := range memberships {
				if m.Member {
					in = append(in, m.Audience.Key)
				}
			}
			slices.Sort(names)
			slices.Sort(in)
			all[strings.Join(names, " ")] = strings.Join(in, " ")
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// A rebuild by new rules gives what a server gives that had these rules from
// the first event on. What has changed, and nothing else, is told.
func TestRebuildByNewRules(t *testing.T) {
	for seed := range uint64(3) {
		n, fresh := openInn(t, seed, nil), openInn(t, seed, nil)
		n.fixed, fresh.fixed = true, true
		n.apply(1, 3, 30, true)
		fresh.apply(2, 1, 30, true)
		n.live(200)
		fresh.live(200)
		before := n.people(1)
		n.apply(2, 1, 30, true)
		s := n.rebuilt(rebuild.Request{Rules: rebuild.Current})
		if s.Rules != rebuild.Current || s.Snapshot == 0 {
			t.Errorf("%+v", s)
		}
		if lines := differ(fresh.people(1), n.people(2)); len(lines) > 0 {
			t.Errorf("seed %d: unlike a fresh server:\n%s", seed, strings.Join(lines, "\n"))
		}
		if len(differ(before, n.people(2))) == 0 {
			t.Errorf("seed %d: the rules made no difference", seed)
		}
		// Once more, by the same rules as it was made: nothing changes.
		told := n.received()
		again := n.rebuilt(rebuild.Request{})
		if again.Rules != rebuild.Current || again.Snapshot != s.Snapshot {
			t.Errorf("the rules were not inherited: %+v", again)
		}
		if lines := differ(n.people(2), n.people(3)); len(lines) > 0 || n.received() != told {
			t.Errorf("seed %d: a rebuild by the same rules changed something, and told %d:\n%s", seed, n.received()-told, strings.Join(lines, "\n"))
		}
	}
}

// Hold, swap, swap back, cancel.
func TestRebuildByHand(t *testing.T) {
	n := openInn(t, 1, nil)
	n.fixed = true
	n.apply(1, 2, 30, true)
	n.live(60)
	ctx := t.Context()
	held, err := n.s.rebuilds.Start(ctx, 1, rebuild.Request{Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	n.becomes(held.Number, rebuild.Waiting)
	if n.s.space(1).epoch() != 1 {
		t.Fatal("it was swapped without a word")
	}
	if _, err := n.s.rebuilds.Start(ctx, 1, rebuild.Request{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second rebuild began: %v", err)
	}
	n.live(40) // meanwhile
	if err := n.s.rebuilds.Swap(ctx, 1, held.Number); err != nil {
		t.Fatal(err)
	}
	n.becomes(held.Number, rebuild.Live)
	if lines := differ(n.people(1), n.people(2)); len(lines) > 0 {
		t.Errorf("held and swapped:\n%s", strings.Join(lines, "\n"))
	}

	n.still = true // the former state is kept for 7 days
	n.live(40)
	told := n.received()
	if _, err := n.s.rebuilds.SwapBack(ctx, 1, "back"); err != nil {
		t.Fatal(err)
	}
	n.becomes(1, rebuild.Live)
	if lines := differ(n.people(2), n.people(1)); len(lines) > 0 || n.s.space(1).epoch() != 1 || n.received() != told {
		t.Errorf("swapped back, told %d:\n%s", n.received()-told, strings.Join(lines, "\n"))
	}
	if err := n.s.rebuilds.Cancel(ctx, 1, 1); !fault.Is(err, fault.Conflict) {
		t.Errorf("the live state was given up: %v", err)
	}

	// The former state goes when its time is over.
	n.becomes(2, rebuild.Kept)
	advance(t, n.c, "8d")
	n.becomes(2, rebuild.Dropped)
	n.gone(2)
	if _, err := n.s.rebuilds.SwapBack(ctx, 1, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("swapped back to what is gone: %v", err)
	}

	// What is given up goes at once.
	held, err = n.s.rebuilds.Start(ctx, 1, rebuild.Request{Hold: true})
	if err != nil || held.Number != 3 {
		t.Fatal(held, err)
	}
	n.becomes(3, rebuild.Waiting)
	if err := n.s.rebuilds.Cancel(ctx, 1, 3); err != nil {
		t.Fatal(err)
	}
	n.becomes(3, rebuild.Dropped)
	n.gone(3)
}

// gone waits until nothing is left of an epoch.
func (n *inn) gone(epoch uint32) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	for {
		left := 0
		err := n.s.db.View(ctx, func(r kv.Reader) error {
			for _, err := range r.Scan(kv.EpochRange(1, epoch)) {
				if err != nil {
					return err
				}
				left++
			}
			return nil
		})
		if err != nil {
			n.t.Fatalf("%d keys of epoch %d are left: %v", left, epoch, err)
		}
		if left == 0 {
			return
		}
		rest(ctx, time.Millisecond)
	}
}

// TestRebuildOfOneProfile has requests, commands and rebuilds meet on one
// profile. What comes of it is what a rebuild at rest gives, and a read never
// finds nobody.
func TestRebuildOfOneProfile(t *testing.T) {
	n := openInn(t, 5, nil)
	n.fixed = true
	n.apply(1, 2, 30, true)
	call := func(kind string, body map[string]any) {
		if err := n.c.Send(t.Context(), "line-write-key", kind, body); err != nil {
			t.Error(err)
		}
	}
	call("identify", map[string]any{"userId": "one", "traits": map[string]any{"tier": "gold"}})
	advance(t, n.c, "0s")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var calls atomic.Int64
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && i < 400; i++ {
				calls.Add(1)
				call("track", map[string]any{"userId": "one", "anonymousId": fmt.Sprintf("d%d-%d", w, i%7), "event": "Visit"})
				if i%20 == 0 {
					_, err := n.s.Order(t.Context(), 1, &event.Command{DeleteIdentifier: &event.DeleteIdentifier{
						Identifier: event.ExternalID{Type: "anonymous_id", ID: fmt.Sprintf("d%d-%d", w, i%7)},
					}})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			traits, _, err := n.c.Traits(t.Context(), client.Profile{Space: "default", ID: "user_id:one"}, client.Page{})
			if err != nil || string(traits["tier"]) != `"gold"` {
				t.Errorf("a read found %v, %v", traits, err)
				return
			}
		}
	})
	for range 4 {
		began, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{})
		if err != nil {
			t.Fatal(err)
		}
		for n.s.space(1).epoch() != began.Number {
			if s, err := n.s.rebuilds.Get(t.Context(), 1, began.Number); err != nil || s.State == rebuild.Failed {
				t.Fatal(s, err)
			}
			rest(t.Context(), time.Millisecond)
		}
		n.becomes(began.Number, rebuild.Live)
	}
	stop()
	wg.Wait()
	advance(t, n.c, "0s")
	told, was := n.received(), n.state(5)
	n.rebuilt(rebuild.Request{})
	if lines := differ(was, n.state(6)); len(lines) > 0 || n.received() != told {
		t.Errorf("%d calls; told %d more, %d differences, among them:\n%s", calls.Load(), n.received()-told, len(lines), strings.Join(lines[:min(5, len(lines))], "\n"))
	}
}

// TestRebuildCrashes lets the process die at every stage of a rebuild, and of
// what follows the swap: at some commit from the start of the rebuild on. The
// next process ends with the same state, and destinations were told nothing.
func TestRebuildCrashes(t *testing.T) {
	for _, at := range []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			var left atomic.Int64 // commits until the process is dead; zero and below: it is not to die
			left.Store(-1 << 40)
			var dead atomic.Bool
			db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
				if op == memkv.OpCommit && left.Add(-1) == 0 {
					dead.Store(true)
				}
				if dead.Load() {
					return fault.New(fault.Unavailable, "the process is dead")
				}
				return nil
			}})
			n := openDying(t, 3, db)
			n.apply(1, 2, 30, true)
			n.live(60)
			was, told := n.people(1), n.received()
			left.Store(at)
			if _, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{}); err != nil && !dead.Load() {
				t.Fatal(err)
			}
			wait, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for !dead.Load() && wait.Err() == nil {
				if s, err := n.s.rebuilds.Get(wait, 1, 2); err == nil && s.Reconcile != nil && s.Reconcile.State == "finished" {
					break // it took fewer commits
				}
				rest(wait, time.Millisecond)
			}
			survived := !dead.Load()
			dead.Store(true)
			left.Store(-1 << 40)
			n.die()
			dead.Store(false)

			next := &inn{t: t, sink: n.sink, vars: n.vars, dice: n.dice, fixed: true}
			cfg := innConfig(db.Crash(rand.IntN(db.AtRisk() + 1)))
			cfg.TestClock = n.s.clock.Now()
			var base string
			next.s, base, _ = running(t, cfg)
			var err error
			if next.c, err = client.New(base, "test-token", nil); err != nil {
				t.Fatal(err)
			}
			s, err := next.s.rebuilds.Get(t.Context(), 1, 2)
			switch {
			case fault.Is(err, fault.NotFound): // it died before it was noted
			case err != nil:
				t.Fatal(err)
			case s.State == rebuild.Failed: // noted, and its job was not
				if err := next.s.rebuilds.Resume(t.Context(), 1, 2); err != nil {
					t.Fatal(err)
				}
				fallthrough
			default:
				next.becomes(2, rebuild.Live)
			}
			live := next.s.space(1).epoch()
			if lines := differ(was, next.people(live)); len(lines) > 0 {
				t.Errorf("epoch %d is live:\n%s", live, strings.Join(lines, "\n"))
			}
			if next.received() != told {
				t.Errorf("the destination was told %d more", next.received()-told)
			}
			next.live(20)
			t.Logf("died at commit %d: %t; epoch %d is live", at, !survived, live)
		})
	}
}

// openDying starts a server that may end badly.
func openDying(t *testing.T, seed uint64, db kv.DB) *inn {
	t.Helper()
	n := &inn{t: t, sink: &sink{}, dice: rand.New(rand.NewPCG(seed, 7)), fixed: true}
	web := httptest.NewServer(n.sink)
	t.Cleanup(web.Close)
	n.vars = map[string]string{"SINK": web.URL}
	s, err := New(t.Context(), innConfig(db))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.WithoutCancel(t.Context())) }()
	addr, err := s.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.s = s
	n.die = func() {
		s.Fail(errors.New("killed by the test"))
		<-ended
		_ = s.Close()
	}
	if n.c, err = client.New("http://"+addr.String(), "test-token", nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// Standing commands, which reach back, hold after a rebuild as they do live:
// those from before its start, and those that come while it goes on.
func TestRebuildWithStandingCommands(t *testing.T) {
	for seed := range uint64(4) {
		n := openInn(t, seed, nil)
		n.fixed = true
		n.apply(1, 3, 30, true)
		n.live(120)
		order := func(c *event.Command) {
			t.Helper()
			if _, err := n.s.Order(t.Context(), 1, c); err != nil {
				t.Fatal(err)
			}
		}
		// Somebody with at least two identifiers is split.
		split := func() {
			t.Helper()
			for names := range n.people(n.s.space(1).epoch()) {
				ids := strings.Fields(names)
				if len(ids) < 3 {
					continue
				}
				id := func(s string) event.ExternalID {
					name, value, _ := strings.Cut(s, ":")
					return event.ExternalID{Type: name, ID: value}
				}
				order(&event.Command{Separate: &event.Separate{Left: []event.ExternalID{id(ids[0])}, Right: []event.ExternalID{id(ids[len(ids)-1])}}})
				return
			}
		}
		split()
		order(&event.Command{Block: &event.ExternalID{Type: "anonymous_id", ID: "d3"}})
		n.live(40)
		held, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{Hold: true})
		if err != nil {
			t.Fatal(err)
		}
		n.becomes(held.Number, rebuild.Waiting)
		split()
		order(&event.Command{Block: &event.ExternalID{Type: "email", ID: "m2@example.com"}})
		n.live(30)
		was, told := n.people(1), n.received()
		if err := n.s.rebuilds.Swap(t.Context(), 1, held.Number); err != nil {
			t.Fatal(err)
		}
		n.becomes(held.Number, rebuild.Live)
		if lines := differ(was, n.people(2)); len(lines) > 0 || n.received() != told {
			t.Errorf("seed %d: told %d more; %d differences:\n%s", seed, n.received()-told, len(lines), strings.Join(lines, "\n"))
		}
	}
}
