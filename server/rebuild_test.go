package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/archive"
	"kith/client"
	"kith/commitlog"
	"kith/computation"
	"kith/destination"
	"kith/destination/webhook"
	"kith/event"
	"kith/kv"
	"kith/rebuild"
)

// hotel is a workspace whose rules and audiences a test changes.
const hotel = `
spaces:
  - slug: default
    name: Default
    identifiers:
      - {type: user_id, limit: %[1]d}
      - {type: email, limit: %[2]d}
      - {type: anonymous_id, limit: 5}
      - {type: group_id, collection: accounts, limit: 1}
sources:
  - slug: web
    name: Web
    metadataId: javascript
    writeKeys: [line-write-key]
destinations:
  - slug: crm
    name: CRM
    metadataId: webhook
    source: web
    settings:
      url: ${SINK}
audiences:
  - key: booked_recently
    name: Booked recently
    definition:
      query: event('Booking Completed').within(%[3]d days).count() >= 1
    connections:
      - destination: crm
  - key: regulars
    name: Regulars
    enabled: %[4]t
    definition:
      query: event('Visit').count() >= 3
    connections:
      - destination: crm
  - key: vips
    name: VIPs
    definition:
      query: trait('tier') = 'gold' and trait('booked_recently') = true
  - key: lapsed
    name: Lapsed
    definition:
      query: trait('booked_recently') = false and event('Visit').count() >= 1
`

// inn is a server with that workspace, and chance.
type inn struct {
	t      *testing.T
	s      *Server
	c      *client.Client
	sink   *sink
	dice   *rand.Rand
	vars   map[string]string
	closed bool               // an audience is disabled
	fixed  bool               // the configuration stays as it is
	still  bool               // the clock stands
	open   bool               // no audience is ever disabled
	orders []commitlog.Offset // standing commands that were ordered
	die    func()
}

// openInn starts one on a store; nil takes a new one.
func openInn(t *testing.T, seed uint64, db kv.DB) *inn {
	t.Helper()
	n := &inn{t: t, sink: &sink{}, dice: rand.New(rand.NewPCG(seed, 7))}
	web := httptest.NewServer(n.sink)
	t.Cleanup(web.Close)
	n.vars = map[string]string{"SINK": web.URL}
	cfg := innConfig(db)
	var base string
	n.s, base, _ = running(t, cfg)
	var err error
	if n.c, err = client.New(base, "test-token", nil); err != nil {
		t.Fatal(err)
	}
	return n
}

func innConfig(db kv.DB) Config {
	cfg := inMemory()
	if db != nil {
		cfg.Store = storeIn(db)
	}
	cfg.TestClock = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Destinations = []destination.Connector{webhook.Connector()}
	return cfg
}

func (n *inn) apply(users, emails, days int, regulars bool) {
	n.t.Helper()
	n.closed = !regulars
	if _, err := n.c.Apply(n.t.Context(), fmt.Appendf(nil, hotel, users, emails, days, regulars), n.vars, false, false); err != nil {
		n.t.Fatal(err)
	}
}

// live lets the guests do this and that: calls, the clock, the configuration,
// commands.
func (n *inn) live(steps int) {
	n.t.Helper()
	user := func() string { return fmt.Sprintf("u%d", n.dice.IntN(12)) }
	mail := func() string { return fmt.Sprintf("m%d@example.com", n.dice.IntN(14)) }
	device := func() string { return fmt.Sprintf("d%d", n.dice.IntN(20)) }
	call := func(kind string, body map[string]any) {
		if err := n.c.Send(n.t.Context(), "line-write-key", kind, body); err != nil {
			n.t.Fatal(err)
		}
	}
	order := func(c *event.Command) {
		if _, err := n.s.Order(n.t.Context(), 1, c); err != nil {
			n.t.Fatal(err)
		}
	}
	for range steps {
		switch n.dice.IntN(20) {
		case 0, 1, 2:
			call("identify", map[string]any{"userId": user(), "anonymousId": device(), "traits": map[string]any{"email": mail(), "tier": []string{"gold", "blue"}[n.dice.IntN(2)]}})
		case 3, 4:
			call("identify", map[string]any{"anonymousId": device(), "traits": map[string]any{"email": mail()}})
		case 5, 6, 7:
			call("track", map[string]any{"userId": user(), "event": "Booking Completed"})
		case 8, 9, 10, 11, 12:
			call("track", map[string]any{"anonymousId": device(), "event": "Visit"})
		case 13:
			call("group", map[string]any{"userId": user(), "groupId": fmt.Sprintf("g%d", n.dice.IntN(3)), "traits": map[string]any{"name": "Inn"}})
		case 14:
			call("track", map[string]any{"userId": user(), "event": "Visit", "messageId": fmt.Sprintf("twice%d", n.dice.IntN(3))})
		case 15, 16:
			if n.still {
				break
			}
			advance(n.t, n.c, []string{"1h", "3d", "12d", "40d"}[n.dice.IntN(4)])
		case 17:
			if n.fixed {
				break
			}
			n.apply(1+n.dice.IntN(2), 1+n.dice.IntN(3), []int{10, 30}[n.dice.IntN(2)], n.dice.IntN(3) > 0 || n.open)
			advance(n.t, n.c, "0s")
		case 18:
			if n.closed {
				break // nobody could tell of it, and the rebuild would
			}
			order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalID{Type: "email", ID: mail()}}})
		case 19:
			order(&event.Command{Leave: &event.Leave{
				User: event.ExternalID{Type: "user_id", ID: user()}, Account: event.ExternalID{Collection: event.Accounts, Type: "group_id", ID: "g1"},
			}})
		}
	}
	advance(n.t, n.c, "0s")
}

// rebuilt starts a rebuild and waits for the swap and all that follows.
func (n *inn) rebuilt(q rebuild.Request) *rebuild.Status {
	n.t.Helper()
	began, err := n.s.rebuilds.Start(n.t.Context(), 1, q)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.becomes(began.Number, rebuild.Live)
}

// becomes waits until an epoch is in a state, and nothing moves any more when
// it is live.
func (n *inn) becomes(epoch uint32, want rebuild.State) *rebuild.Status {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	for {
		s, err := n.s.rebuilds.Get(ctx, 1, epoch)
		if err != nil {
			n.t.Fatal(err)
		}
		if s.State == rebuild.Failed && want != rebuild.Failed {
			n.t.Fatalf("the rebuild failed: %s", s.Error)
		}
		if s.State == want && want != rebuild.Live {
			return s
		}
		if s.State == want && s.Reconcile != nil && s.Reconcile.State == "finished" {
			advance(n.t, n.c, "0s")
			return s
		}
		rest(ctx, time.Millisecond)
	}
}

// state returns what an epoch holds. What a rebuild may write otherwise is left
// out or put so that it can be compared: batches are cut by chance, so whose
// records are is listed by record; builds of audiences have numbers that depend
// on how long the computations of others took, so memberships are listed by
// audience.
func (n *inn) state(epoch uint32) map[string]string {
	n.t.Helper()
	all := map[string]string{}
	stem := kv.EpochRange(1, epoch).From
	err := n.s.db.View(n.t.Context(), func(r kv.Reader) error {
		for p, err := range r.Scan(kv.EpochRange(1, epoch)) {
			if err != nil {
				return err
			}
			switch p.Key[len(stem)] {
			case archive.ProfileRoom, computation.Room:
				continue
			}
			if k := string(p.Key[len(stem):]); k == "t" || k == "p" {
				continue // a mark before which no timer is armed; the position, which goes on
			}
			all[fmt.Sprintf("%q", p.Key[len(stem):])] = fmt.Sprintf("%q", p.Value)
		}
		snap := n.s.workspace.Current()
		reader := n.s.row.computation.Reader()
		for i := range snap.Audiences {
			a := &snap.Audiences[i]
			members, err := reader.Members(r, 1, epoch, a.ID, event.ProfileID{}, 1000)
			if err != nil {
				return err
			}
			status, err := reader.Status(r, 1, epoch, a)
			if err != nil {
				return err
			}
			all["audience "+a.Key] = fmt.Sprintf("%s %d %v", status.State, status.Size, members)
		}
		return nil
	})
	if err == nil {
		err = n.s.archive.Scan(n.t.Context(), 1, epoch, 0, n.s.space(1).raw.End(), nil, func(e archive.Entry) error {
			all[fmt.Sprintf("record %d", e.Offset)] = fmt.Sprintf("%v %v", e.Profile, e.Account)
			return nil
		})
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// differ lists where two states differ.
func differ(was, is map[string]string) (lines []string) {
	for k, v := range was {
		if is[k] != v {
			lines = append(lines, fmt.Sprintf("%s\n  was %s\n  is  %s", k, v, is[k]))
		}
	}
	for k, v := range is {
		if _, ok := was[k]; !ok {
			lines = append(lines, fmt.Sprintf("%s\n  was not there\n  is  %s", k, v))
		}
	}
	slices.Sort(lines)
	return lines
}

func (n *inn) received() int {
	n.sink.mu.Lock()
	defer n.sink.mu.Unlock()
	return len(n.sink.got)
}

// A rebuild under the same rules changes nothing, and tells nobody anything.
func TestRebuildChangesNothing(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, seed, nil)
			n.apply(1, 2, 30, true)
			n.live(250)
			was, told := n.state(1), n.received()
			s := n.rebuilt(rebuild.Request{Note: "nothing"})
			if s.Number != 2 || n.s.space(1).epoch() != 2 || s.Swapped.IsZero() {
				t.Fatalf("%+v", s)
			}
			if lines := differ(was, n.state(2)); len(lines) > 0 {
				t.Errorf("%d differences, among them:\n%s", len(lines), strings.Join(lines[:min(len(lines), 12)], "\n"))
			}
			if more := n.received() - told; more != 0 {
				n.sink.mu.Lock()
				text, _ := json.Marshal(n.sink.got[told:][:min(more, 3)])
				n.sink.mu.Unlock()
				t.Errorf("the destination was told %d more: %s", more, text)
			}
			n.live(30) // it goes on
			if n.received() == told {
				t.Error("nothing came after the swap")
			}
		})
	}
}

// storeIn gives a server a store that outlives it.
func storeIn(db kv.DB) func(string, *slog.Logger) (kv.DB, error) {
	return func(string, *slog.Logger) (kv.DB, error) { return kept{db}, nil }
}

// kept is a store that a server that ends leaves as it is.
type kept struct{ kv.DB }

func (kept) Close() error { return nil }
