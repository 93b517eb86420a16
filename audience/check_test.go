package audience_test

import (
	"errors"
	"testing"

	"kith/audience"
	"kith/fault"
	"kith/query"
	"kith/workspace"
)

func snapshot(audiences ...workspace.Audience) *workspace.Snapshot {
	s := &workspace.Snapshot{Spaces: []workspace.Space{{ID: "spa_1", Number: 1, Slug: "default"}, {ID: "spa_2", Number: 2, Slug: "other"}}}
	for _, a := range audiences {
		if a.SpaceID == "" {
			a.SpaceID = "spa_1"
		}
		a.ID = "aud_" + a.SpaceID + a.Key
		s.Audiences = append(s.Audiences, a)
	}
	s.Seal()
	return s
}

func enabled(key, text string) workspace.Audience {
	return workspace.Audience{Key: key, Enabled: true, Query: text}
}

func TestCheck(t *testing.T) {
	disabled := func(key, text string) workspace.Audience {
		a := enabled(key, text)
		a.Enabled = false
		return a
	}
	elsewhere := enabled("vip", "trait('x') = 1")
	elsewhere.SpaceID = "spa_2"
	vip := enabled("vip", "trait('lifetime_value') > 500")
	cases := []struct {
		name       string
		base, next *workspace.Snapshot
		err        string // about the first audience of next
	}{
		{"plain", nil, snapshot(vip), ""},
		{"reads another", nil, snapshot(enabled("a", "trait('vip') = 'true'"), vip), ""},
		{"reads a trait that is nobody's key", nil, snapshot(enabled("a", "trait('vip') = 'true'")), ""},
		{"a trait within a trait is no audience", nil, snapshot(enabled("a", "trait('a.b') = 1")), ""},
		{"a key of another space", nil, snapshot(enabled("a", "trait('vip') = 'true'"), elsewhere), ""},
		{"no query", nil, snapshot(enabled("a", "event('A')")), "1:1: event('A') is a stream of events, not a value; chain where, sources, within, between and a reducer such as count() to it"},
		{"not evaluated yet", nil, snapshot(enabled("a", "trait('x') = 1 AND\nevent('A').sum(property('x')) > 5")), "2:12: sum is part of the query language, but Kith does not evaluate it yet"},
		{"itself", nil, snapshot(enabled("a", "trait('x') = 1 OR trait('a') = 'true'")), "1:19: this would create a cycle: a reads a"},
		{"a cycle", nil, snapshot(enabled("a", "event('A').count() > 1 AND\n  trait('b') = 'true'"), enabled("b", "trait('c') = 'true'"), enabled("c", "trait('a') = 'true'")),
			"2:3: this would create a cycle: a reads b reads c reads a"},
		{"a cycle in a filter", nil, snapshot(enabled("a", "event('A').where(trait('b') = 'true').count() > 1"), enabled("b", "trait('a') = 'true'")),
			"1:18: this would create a cycle: a reads b reads a"},
		{"beside a cycle", nil, snapshot(enabled("z", "trait('a') = 'true'"), enabled("a", "trait('b') = 'true'"), enabled("b", "trait('a') = 'true'")), ""},
		{"a disabled one", nil, snapshot(enabled("a", "NOT trait('vip') = 'true'"), disabled("vip", "trait('x') = 1")), "1:5: the audience vip is disabled; enable it, or leave it out"},
		{"disabled itself", nil, snapshot(disabled("a", "trait('vip') = 'true'"), disabled("vip", "trait('x') = 1")), ""},
		{"one that goes", snapshot(enabled("a", "trait('vip') = 'true'"), vip), snapshot(enabled("a", "trait('vip') = 'true'")), "1:1: the audience vip is being deleted; leave it out first"},
		{"one that went before", snapshot(enabled("b", "trait('vip') = 'true'")), snapshot(enabled("b", "trait('vip') = 'true'")), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := audience.Check(c.base, c.next, &c.next.Audiences[0])
			if c.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var at *query.Error
			if err == nil || err.Error() != c.err || !fault.Is(err, fault.Invalid) || !errors.As(err, &at) {
				t.Fatalf("got %v, want %s", err, c.err)
			}
		})
	}
}
