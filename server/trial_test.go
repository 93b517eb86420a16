package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"kith/api"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/rebuild"
)

// rulesOf are the rules of hotel, as a file for a simulation.
func rulesOf(users, emails int) string {
	return fmt.Sprintf("identifiers:\n  - {type: user_id, limit: %d}\n  - {type: email, limit: %d}\n  - {type: anonymous_id, limit: 5}\n  - {type: group_id, collection: accounts, limit: 1}\n", users, emails)
}

// count returns how many people there are in an epoch.
func (n *inn) count(epoch uint32) (count int) {
	n.t.Helper()
	err := n.s.db.View(n.t.Context(), func(r kv.Reader) error {
		graph := identity.NewReader(r, 1, epoch)
		ids, err := graph.People(event.ProfileID{}, 10_000)
		for _, id := range ids {
			if link, err := graph.Link(id); err != nil {
				return err
			} else if link == nil {
				count++
			}
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return count
}

// simulated runs a simulation to its end.
func (n *inn) simulated(rules, since string) *api.Simulation {
	n.t.Helper()
	var out struct {
		Simulation *api.Simulation `json:"simulation"`
	}
	err := n.c.Call(n.t.Context(), "POST", "/spaces/default/identity/simulations", map[string]any{"rules": rules, "since": since}, &out)
	if err != nil {
		n.t.Fatal(err)
	}
	for out.Simulation.State == "running" {
		if err := n.c.Call(n.t.Context(), "GET", fmt.Sprintf("/spaces/default/identity/simulations/%d", out.Simulation.ID), nil, &out); err != nil {
			n.t.Fatal(err)
		}
	}
	if out.Simulation.Report == nil {
		n.t.Fatalf("%+v", out.Simulation)
	}
	return out.Simulation
}

// A simulation says what a rebuild by these rules then does, and changes
// nothing itself.
func TestSimulation(t *testing.T) {
	for seed := range uint64(3) {
		n := openInn(t, seed, nil)
		n.fixed = true
		n.apply(1, 3, 30, true)
		n.live(200)
		advance(t, n.c, "1h") // nothing happens at the instant at which rules are to begin
		was, told := n.state(1), n.received()

		same := n.simulated(rulesOf(1, 3), "")
		r := same.Report
		if r.Joined+r.Split+r.Altered != 0 || r.Unchanged != n.count(1) || r.Now.Profiles != r.Then.Profiles || r.Now.Merges != r.Then.Merges {
			t.Errorf("seed %d: the same rules make a difference: %+v", seed, r)
		}
		// Beginning now, other rules have changed nothing yet.
		if r := n.simulated(rulesOf(2, 1), n.s.clock.Now().Format("2006-01-02T15:04:05Z07:00")).Report; r.Joined+r.Split+r.Altered != 0 {
			t.Errorf("seed %d: rules for later change the past: %+v", seed, r)
		}

		r = n.simulated(rulesOf(2, 1), "").Report
		if r.Joined+r.Split+r.Altered == 0 || len(r.Examples) == 0 || len(r.Prevented) == 0 {
			t.Errorf("seed %d: %+v", seed, r)
		}
		if lines := differ(was, n.state(1)); len(lines) > 0 || n.received() != told {
			t.Errorf("seed %d: a simulation changed something", seed)
		}
		n.apply(2, 1, 30, true)
		s := n.rebuilt(rebuild.Request{Rules: rebuild.Current})
		if got := n.count(s.Number); got != r.Then.Profiles {
			t.Errorf("seed %d: %d profiles were foretold, and there are %d", seed, r.Then.Profiles, got)
		}
		// Of whom it foretold: the examples are as it said.
		people := n.people(s.Number)
		for _, e := range r.Examples {
			for _, part := range e.Parts {
				if _, ok := people[strings.Join(part, " ")]; !ok {
					t.Errorf("seed %d: nobody has %v, which was foretold: %+v", seed, part, e)
				}
			}
		}
		for epoch := uint32(2); epoch < s.Number; epoch++ {
			n.gone(epoch)
		}
	}
}

// What cannot be tried is refused, and says why.
func TestSimulationOfBadRules(t *testing.T) {
	n := openInn(t, 1, nil)
	n.apply(1, 3, 30, true)
	for rules, want := range map[string]string{
		"identifiers:\n  - {type: user_id, limit: nine}": "limit",
		"":                          "identifiers",
		"audiences: []":             "audiences",
		"identifiers: [{limit: 1}]": "type",
	} {
		err := n.c.Call(t.Context(), http.MethodPost, "/spaces/default/identity/simulations", map[string]any{"rules": rules}, nil)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", rules, err)
		}
	}
	err := n.c.Call(t.Context(), http.MethodPost, "/spaces/default/identity/simulations", map[string]any{"rules": rulesOf(1, 1), "since": "yesterday"}, nil)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "30d") {
		t.Error(err)
	}
}

// A simulation whose job has ended without it does not stand in the way of
// another.
func TestInterruptedSimulationIsGivenUp(t *testing.T) {
	n := openInn(t, 1, nil)
	n.fixed = true
	n.apply(1, 3, 30, true)
	n.live(200)
	var out struct {
		Simulation *api.Simulation `json:"simulation"`
	}
	for range 5 {
		if err := n.c.Call(t.Context(), "POST", "/spaces/default/identity/simulations", map[string]any{"rules": rulesOf(2, 1)}, &out); err != nil {
			t.Fatal(err)
		}
		if err := n.s.jobs.Cancel(t.Context(), fmt.Sprintf("%s/1/%d", rebuild.TrialKind, out.Simulation.ID)); err != nil && !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
	}
	if n.simulated(rulesOf(1, 3), "").Report == nil {
		t.Error("no report")
	}
}

// What operators do to rebuilds is refused for a simulation, which must never
// become live.
func TestSimulationIsNoRebuild(t *testing.T) {
	n := openInn(t, 1, nil)
	n.apply(1, 3, 30, true)
	n.live(20)
	number := n.simulated(rulesOf(1, 1), "").ID
	m, ctx := n.s.rebuilds, t.Context()
	for name, do := range map[string]func() error{
		"get":    func() error { _, err := m.Get(ctx, 1, number); return err },
		"pause":  func() error { return m.Pause(ctx, 1, number) },
		"resume": func() error { return m.Resume(ctx, 1, number) },
		"swap":   func() error { return m.Swap(ctx, 1, number) },
		"cancel": func() error { return m.Cancel(ctx, 1, number) },
	} {
		if err := do(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
