package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/client"
	"kith/rebuild"
	"kith/revision"
)

// crowd is a workspace where one person may have any number of devices, and
// whose audiences say how often he was counted: exactly %[1]d times.
const crowd = `
spaces:
  - slug: default
    name: Default
    identifiers:
      - {type: user_id, limit: 1}
      - {type: email, limit: 5}
      - {type: anonymous_id, limit: 10000}
sources:
  - slug: web
    name: Web
    metadataId: javascript
    writeKeys: [line-write-key]
destinations:
  - {slug: crm, name: CRM, metadataId: webhook, source: web, settings: {url: "${SINK}"}}
audiences:
  - key: all_counted
    name: All counted
    definition: {query: "event('Visit').count() >= %[1]d"}
    connections: [{destination: crm}]
  - key: counted_twice
    name: Counted twice
    definition: {query: "event('Visit').count() > %[1]d"}
    connections: [{destination: crm}]
`

// events reads the whole history of a profile.
func (n *inn) events(of string) (list []client.ProfileEvent) {
	n.t.Helper()
	page := client.Page{Limit: 100, Types: "track"}
	for {
		part, cursor, err := n.c.Events(n.t.Context(), client.Profile{Space: "default", ID: of}, page)
		if err != nil {
			n.t.Fatal(err)
		}
		if list = append(list, part...); !cursor.HasMore {
			return list
		}
		page.Next = cursor.Next
	}
}

// TestConcurrencyOnOneProfile has everything meet on one profile: events that
// merge others into it, reads, un-merges, blocks and their liftings, deletions of
// identifiers, and rebuilds that take the place of what they all go by. Nobody
// reads what never was; each event counts once; and it is what a rebuild at rest
// gives.
func TestConcurrencyOnOneProfile(t *testing.T) {
	const writers, rounds = 6, 15 // fewer devices than one page of identifiers shows
	n := openInn(t, 1, nil)
	if _, err := n.c.Apply(t.Context(), fmt.Appendf(nil, crowd, writers*rounds*3), n.vars, false, false); err != nil {
		t.Fatal(err)
	}
	one := client.Profile{Space: "default", ID: "user_id:one"}
	call := func(kind string, body map[string]any) bool {
		err := n.c.Send(t.Context(), "line-write-key", kind, body)
		if err != nil {
			t.Errorf("a call was refused: %v", err)
		}
		return err == nil
	}
	visit := func(id string, who map[string]any) bool {
		who["event"], who["messageId"] = "Visit", id
		return call("track", who)
	}
	// has returns which identifiers the profile has, and wants the one by which
	// it is found among them.
	has := func() map[string]bool {
		ids, _, err := n.c.ExternalIDs(t.Context(), one, client.Page{Limit: 200})
		all := map[string]bool{}
		for _, x := range ids {
			all[x.Type+":"+x.ID] = true
		}
		if err != nil || !all["user_id:one"] {
			t.Errorf("a read found %d identifiers, without its own: %v", len(ids), err)
		}
		return all
	}
	call("identify", map[string]any{"userId": "one", "traits": map[string]any{"tier": "gold"}})
	for _, shared := range []string{"lobby", "kiosk"} {
		call("identify", map[string]any{"userId": "one", "anonymousId": shared})
	}
	advance(t, n.c, "0s")

	var writing, beside sync.WaitGroup
	done := make(chan struct{}) // once all is written
	var told sync.Map           // messageIds that were acknowledged
	over := func() bool {
		select {
		case <-done:
			return true
		default:
			return t.Context().Err() != nil
		}
	}
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				// Somebody unknown does something, and turns out to be the one.
				device := fmt.Sprintf("d%d-%d", w, i)
				for k, who := range []map[string]any{
					{"anonymousId": device}, {"userId": "one", "anonymousId": device}, {"userId": "one", "anonymousId": []string{"lobby", "kiosk"}[i%2]},
				} {
					id := fmt.Sprintf("v%d-%d-%d", w, i, k)
					if !visit(id, who) {
						return
					}
					told.Store(id, true)
					if i%5 == 0 && !visit(id, who) { // sent again
						return
					}
				}
				// What was acknowledged is read by who waits for it.
				id := fmt.Sprintf("n%d-%d", w, i)
				if !call("identify", map[string]any{"userId": "one", "messageId": id, "traits": map[string]any{fmt.Sprint("n", w): i}}) {
					return
				}
				traits, _, err := n.c.Traits(t.Context(), one, client.Page{Limit: 100, Wait: client.Wait{For: id, Limit: 30}})
				if err != nil || string(traits[fmt.Sprint("n", w)]) != fmt.Sprint(i) || string(traits["tier"]) != `"gold"` {
					t.Errorf("after %s a read found %s, %v", id, traits, err)
					return
				}
				if i%5 == 4 {
					gone := []client.ExternalID{{Type: "anonymous_id", ID: fmt.Sprintf("d%d-%d", w, i-2)}}
					if _, err := n.c.DeleteIdentifiers(t.Context(), one, gone, "", false); err != nil {
						t.Errorf("delete an identifier: %v", err)
					}
				}
			}
		})
	}
	// What a writer counts up never goes back for who reads, whatever is swapped
	// or worked out again meanwhile.
	for range 3 {
		beside.Go(func() {
			var last [writers]int
			for !over() {
				traits, _, err := n.c.Traits(t.Context(), one, client.Page{Limit: 100})
				if err != nil || string(traits["tier"]) != `"gold"` {
					t.Errorf("a read found %s, %v", traits, err)
					return
				}
				for w := range last {
					value, ok := traits[fmt.Sprint("n", w)]
					is, err := strconv.Atoi(string(value))
					if ok && err != nil || is < last[w] {
						t.Errorf("n%d went from %d to %q", w, last[w], value)
						return
					}
					last[w] = is
				}
				has()
			}
		})
	}
	// Two take something away from the profile and give it back. Done is done:
	// who reads afterwards sees it.
	order := func(path string, body map[string]any) uint64 {
		var out undone
		if err := n.c.Call(t.Context(), "POST", "/spaces/default/identity/"+path+"?wait=true", body, &out); err != nil || out.Command.State != "done" {
			t.Errorf("%s: %+v, %v", path, out, err)
		}
		return out.Command.Offset
	}
	for shared, command := range map[string]func() uint64{
		"anonymous_id:lobby": func() uint64 {
			return order("separate", map[string]any{"left": []map[string]string{{"type": "user_id", "id": "one"}}, "right": []map[string]string{{"type": "anonymous_id", "id": "lobby"}}})
		},
		"anonymous_id:kiosk": func() uint64 { return order("block", map[string]any{"type": "anonymous_id", "id": "kiosk"}) },
	} {
		beside.Go(func() {
			times := 0
			for ; !over() && !t.Failed(); times++ {
				at := command()
				if has()[shared] {
					t.Errorf("%s is there after it was taken away", shared)
				}
				order("lift", map[string]any{"offset": at})
				if !has()[shared] {
					t.Errorf("%s is not there after it was given back", shared)
				}
			}
			t.Logf("%s was taken away and given back %d times", shared, times)
		})
	}
	rebuilds := 0
	beside.Go(func() {
		for ; !over() && !t.Failed(); rebuilds++ {
			began, err := n.s.rebuilds.Start(t.Context(), 1, rebuild.Request{})
			if err != nil {
				t.Errorf("rebuild: %v", err)
				return
			}
			for {
				s, err := n.s.rebuilds.Get(t.Context(), 1, began.Number)
				if err != nil || s.State == rebuild.Failed {
					t.Errorf("rebuild: %+v, %v", s, err)
					return
				}
				if s.State == rebuild.Live && s.Reconcile != nil && s.Reconcile.State == "finished" {
					break
				}
				rest(t.Context(), time.Millisecond)
			}
		}
	})
	writing.Wait()
	close(done)
	beside.Wait()
	if t.Failed() {
		return
	}
	advance(t, n.c, "0s")
	t.Logf("%d swaps", rebuilds)
	if rebuilds == 0 {
		t.Error("no rebuild met them")
	}

	// All is lifted, so all there was is one person's.
	once := map[string]int{}
	for _, e := range n.events("user_id:one") {
		once[e.MessageID]++
	}
	told.Range(func(id, _ any) bool {
		if once[id.(string)] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", id, once[id.(string)])
		}
		return true
	})
	if len(once) != writers*rounds*3 {
		t.Errorf("%d events, want %d", len(once), writers*rounds*3)
	}
	traits, _, err := n.c.Traits(t.Context(), one, client.Page{Limit: 100})
	if err != nil || string(traits["all_counted"]) != "true" || traits["counted_twice"] != nil && string(traits["counted_twice"]) != "false" {
		t.Errorf("counted: %s, %s, %v", traits["all_counted"], traits["counted_twice"], err)
	}
	n.sink.mu.Lock()
	text, _ := json.Marshal(n.sink.got)
	n.sink.mu.Unlock()
	if strings.Contains(string(text), `"counted_twice":true`) {
		t.Error("a destination was told that something was counted twice")
	}

	// How a command was worked out is noted where that was done; a replay has
	// nothing to work out.
	state := func() map[string]string {
		all := n.state(n.s.space(1).epoch())
		maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, `"`+string(revision.Room)+"s") })
		return all
	}
	was, received := state(), n.received()
	n.rebuilt(rebuild.Request{})
	if lines := differ(was, state()); len(lines) > 0 || n.received() != received {
		t.Errorf("a rebuild at rest: told %d more, %d differences, among them:\n%s", n.received()-received, len(lines), strings.Join(lines[:min(8, len(lines))], "\n"))
	}
}
