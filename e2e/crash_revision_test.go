package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/fault"
	"kith/revision"
)

// What Ann and the tablet in the lobby have done, before they become one.
const (
	annStays   = 4
	lobbyStays = 7
	looks      = 8000 // of each: working them out again takes a while
)

// TestCrashWhileRevising takes a large profile apart and puts it together again,
// and kills the server with kill -9 in the middle of it: while its events are
// worked out again, at the swap of the profiles, while destinations are told; and
// while a rebuild goes on beside it, which works out the same and is swapped. Then
// it settles the accounts of TestCrash, and those of the profile: each time it
// left an audience and entered it again was announced, once.
func TestCrashWhileRevising(t *testing.T) {
	crashes := 6
	if testing.Short() {
		crashes = 2
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1000))
	h := newCrashHouse(t, seed, 200*time.Millisecond)
	h.writers = append(h.writers, h.largeProfile())

	interrupted := map[string]int{}
	apart := uint64(0) // the command in force that keeps them apart
	splits, lifts := 0, 0
	for i := range crashes {
		beside := i%3 != 0
		if beside {
			err := h.client().Call(t.Context(), "POST", "/spaces/default/rebuilds", map[string]any{}, nil)
			if err != nil && !fault.Is(err, fault.Conflict) { // the one before goes on
				t.Fatal(err)
			}
		}
		if apart == 0 {
			splits++
			apart = h.order("separate", map[string]any{
				"left": []any{map[string]any{"type": "user_id", "id": "ann"}}, "right": []any{map[string]any{"type": "anonymous_id", "id": "lobby"}},
			})
		} else {
			lifts++
			h.order("lift", map[string]any{"offset": apart})
			apart = 0
		}
		moment := time.NewTimer(time.Duration(random.IntN(600)) * time.Millisecond)
		<-moment.C
		states := "still to come"
		if all := h.commands(); len(all) == splits+lifts {
			states = all[0]
		}
		if beside {
			all := h.rebuilds()
			states += ", rebuild " + all[len(all)-1].State
		}
		interrupted[states]++
		h.process.kill()
		h.start()
		h.revised(splits + lifts)
	}
	h.stop()
	live := h.rebuilt()
	h.end()
	t.Logf("%d crashes, when the commands were %v; epoch %d is live, %d requests acknowledged", crashes, interrupted, live, h.acks.Load())
	if !testing.Short() && live < 2 {
		t.Error("no rebuild was swapped")
	}
	h.settle(h.sink, h.writers)
	h.toldOfAnn(splits, lifts)
	h.account(h.writers)
	if err := h.process.stop(); err != nil {
		t.Error(err)
	}
	compareWithModel(t, h.data(), live)
}

// largeProfile sends what Ann and the tablet do, and that they are one.
func (h *crashHouse) largeProfile() *writer {
	h.t.Helper()
	w := newWriter(crashWriters, nil, h.client())
	call := func(fields map[string]any) {
		w.n++
		fields["messageId"] = fmt.Sprintf("large-%d", w.n)
		body, err := json.Marshal(fields)
		if err != nil {
			h.t.Fatal(err)
		}
		if w.again = append(w.again, body); len(w.again) == 200 || fields["type"] == "identify" {
			if err := w.send(h.t.Context()); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	for name, of := range map[string]struct {
		id    string
		stays int
	}{"userId": {"ann", annStays}, "anonymousId": {"lobby", lobbyStays}} {
		for range of.stays {
			call(map[string]any{"type": "track", "event": "Stay", name: of.id, "properties": map[string]any{"nights": 1}})
		}
		for range looks {
			call(map[string]any{"type": "track", "event": "Look", name: of.id})
		}
	}
	call(map[string]any{"type": "identify", "userId": "ann", "anonymousId": "lobby"})
	return w
}

// order gives a standing command, and returns its offset.
func (h *crashHouse) order(kind string, body map[string]any) uint64 {
	h.t.Helper()
	var done struct{ Command struct{ Offset uint64 } }
	if err := h.client().Call(h.t.Context(), "POST", "/spaces/default/identity/"+kind, body, &done); err != nil {
		h.t.Fatalf("%v\n%s", err, h.process.log)
	}
	return done.Command.Offset
}

// commands returns the states of all standing commands, the newest first.
func (h *crashHouse) commands() (states []string) {
	h.t.Helper()
	var all struct{ Commands []struct{ State string } }
	if err := h.client().Call(h.t.Context(), "GET", "/spaces/default/identity/commands", nil, &all); err != nil {
		h.t.Fatal(err)
	}
	for _, c := range all.Commands {
		states = append(states, c.State)
	}
	return states
}

// revised waits until so many standing commands are there and done.
func (h *crashHouse) revised(n int) {
	h.t.Helper()
	h.eventually(func() error {
		all := h.commands()
		if len(all) != n {
			return fmt.Errorf("there are %d commands, want %d", len(all), n)
		}
		for i, state := range all {
			if state != string(revision.Done) {
				return fmt.Errorf("the command %d before the last is %s", i, state)
			}
		}
		return nil
	})
}

func (h *crashHouse) eventually(fn func() error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := until(ctx, fn); err != nil {
		h.t.Fatalf("%v\n%s", err, h.process.log)
	}
}

// toldOfAnn checks what destinations were told of Ann: that she came into the
// audiences that she is in alone, once, and into those of both together each
// time that she and the tablet were one.
func (h *crashHouse) toldOfAnn(splits, lifts int) {
	h.t.Helper()
	h.eventually(func() error {
		told := announced(h.sink.Delivered("told"))["ann"]
		for key, a := range crashAudiences {
			want := 0
			switch {
			case a.long > 0 || a.stays > annStays+lobbyStays:
			case a.stays <= annStays:
				want = 1
			default:
				want = 1 + lifts
			}
			if got := len(told[key]); got != want {
				return fmt.Errorf("that ann came into %s was announced %d times, want %d", key, got, want)
			}
		}
		// A connection without activations is told corrections as states.
		got := map[string]map[string]bool{}
		for _, e := range h.sink.Delivered("state") {
			x := gjson.ParseBytes(e)
			if x.Get("userId").Str != "ann" {
				continue
			}
			what := x.Get("type").Str + " " + x.Get("traits."+inBothForms).Raw + x.Get("properties."+inBothForms).Raw
			if got[what] == nil {
				got[what] = map[string]bool{}
			}
			got[what][x.Get("messageId").Str] = true
		}
		for what, want := range map[string]int{"identify true": 1 + lifts, "identify false": splits, "track true": 1, "track false": 0} {
			if len(got[what]) != want {
				return fmt.Errorf("of ann in %s was told %d times %q, want %d", inBothForms, len(got[what]), what, want)
			}
		}
		return nil
	})
}
