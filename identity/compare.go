package identity

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Bounds of a comparison.
const (
	compareStep     = 500 // profiles of each side that are looked at in one moment of the store
	maxLargest      = 10
	maxExamples     = 20 // of each kind
	maxNamed        = 20 // identifiers of a profile that are named
	maxMergesByWhat = 50
)

// Comparison is how a graph that was made by other rules differs from the live
// one: profiles of people, as both were at one record.
type Comparison struct {
	Now  Side `json:"now"`
	Then Side `json:"then"`
	// Each profile of now is counted once: it is Unchanged; Joined with what is
	// somebody else's now, or nobody's; Split, its identifiers being on more than
	// one profile; or Altered: some of them would be nobody's.
	Unchanged int       `json:"unchanged"`
	Joined    int       `json:"joined"`
	Split     int       `json:"split"`
	Altered   int       `json:"altered"`
	Examples  []Example `json:"examples"`
}

// Side is one of two graphs.
type Side struct {
	Profiles int `json:"profiles"`
	Merges   int `json:"merges"` // since the instant from which the rules differ
	// MergesBy counts those by the types of the identifiers that the event used:
	// "email + user_id".
	MergesBy map[string]int `json:"mergesBy"`
	Largest  []Cluster      `json:"largest"` // profiles with the most identifiers
}

// Cluster is a profile and what it holds.
type Cluster struct {
	ProfileID   string   `json:"profileId"`
	Count       int      `json:"count"`  // of identifiers
	Merged      int      `json:"merged"` // profiles that were merged into it
	Identifiers []string `json:"identifiers"`
}

// Example is a profile of now that would change, and how.
type Example struct {
	Kind        string   `json:"kind"` // joined, split, altered
	ProfileID   string   `json:"profileId"`
	Identifiers []string `json:"identifiers"` // now
	// Parts are the profiles on which these would be, each with all that it
	// would hold.
	Parts  [][]string `json:"parts"`
	Reason string     `json:"reason"`
}

// Compare compares the people of two epochs as they were before a record. It
// counts merges from another record on. The first epoch may go on meanwhile: what
// came later is left out, but for identifiers that were deleted since.
func Compare(ctx context.Context, view func(context.Context, func(kv.Reader) error) error, space, live, tried uint32, since, before commitlog.Offset) (*Comparison, error) {
	c := &comparing{since: since, before: before, out: &Comparison{
		Now: Side{MergesBy: map[string]int{}}, Then: Side{MergesBy: map[string]int{}},
	}}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := view(ctx, func(r kv.Reader) (err error) {
			more, err = c.step(NewReader(r, space, live), NewReader(r, space, tried))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

type comparing struct {
	since, before commitlog.Offset
	after         event.ProfileID
	out           *Comparison
}

// step compares the next profiles, and reports whether there are more.
func (c *comparing) step(now, then Reader) (more bool, err error) {
	a, err := now.People(c.after, compareStep)
	if err != nil {
		return false, err
	}
	b, err := then.People(c.after, compareStep)
	if err != nil {
		return false, err
	}
	ids := append(slices.Clone(a), b...)
	slices.SortFunc(ids, func(x, y event.ProfileID) int { return bytes.Compare(x[:], y[:]) })
	ids = slices.Compact(ids)
	// What lies behind the end of a full page of one side comes next time.
	for _, page := range [][]event.ProfileID{a, b} {
		if len(page) < compareStep {
			continue
		}
		more = true
		last := page[len(page)-1]
		ids = slices.DeleteFunc(ids, func(x event.ProfileID) bool { return bytes.Compare(x[:], last[:]) > 0 })
	}
	for _, id := range ids {
		if err := c.compare(now, then, id); err != nil {
			return false, err
		}
		c.after = id
	}
	return more, nil
}

func (c *comparing) compare(now, then Reader, id event.ProfileID) error {
	a, err := c.standing(now, id, &c.out.Now)
	if err != nil {
		return err
	}
	if _, err := c.standing(then, id, &c.out.Then); err != nil || a == nil {
		return err
	}
	// Where its identifiers would be.
	var owners []event.ProfileID
	var lost []event.Identifier
	for i := range a.Identifiers {
		owner, err := then.owner(a.Identifiers[i].Identifier)
		switch {
		case err != nil:
			return err
		case owner.IsZero():
			lost = append(lost, a.Identifiers[i].Identifier)
		case !slices.Contains(owners, owner):
			owners = append(owners, owner)
		}
	}
	var first *Profile
	if len(owners) > 0 {
		if first, err = then.Profile(owners[0]); err != nil {
			return err
		}
	}
	e := Example{ProfileID: id.String(), Identifiers: named(a)}
	switch {
	case len(a.Identifiers) == 0, len(owners) == 1 && len(lost) == 0 && len(first.Identifiers) == len(a.Identifiers):
		c.out.Unchanged++
		return nil
	case len(owners) > 1:
		c.out.Split++
		e.Kind = "split"
	case len(lost) > 0:
		c.out.Altered++
		e.Kind = "altered"
	default:
		c.out.Joined++
		e.Kind = "joined"
	}
	n := 0
	for i := range c.out.Examples {
		if c.out.Examples[i].Kind == e.Kind {
			n++
		}
	}
	if n == maxExamples {
		return nil
	}
	for _, owner := range owners[:min(len(owners), maxNamed)] {
		p, err := then.Profile(owner)
		if err != nil {
			return err
		}
		e.Parts = append(e.Parts, named(p))
	}
	if e.Reason, err = c.reason(now, then, a, first, lost, len(owners)); err != nil {
		return err
	}
	c.out.Examples = append(c.out.Examples, e)
	return nil
}

// reason says what would become of a profile, and what brings it about.
func (c *comparing) reason(now, then Reader, a, first *Profile, lost []event.Identifier, parts int) (string, error) {
	var why []string
	if parts > 1 {
		why = append(why, fmt.Sprintf("it would be %d profiles", parts))
		for i := range a.Identifiers[:min(len(a.Identifiers), maxNamed)] {
			id := a.Identifiers[i].Identifier
			refusals, err := then.RefusalsOf(id)
			if err != nil {
				return "", err
			}
			if len(refusals) > 0 {
				why = append(why, fmt.Sprintf("events would not use %s %s: %s", id.Type, id.Value, refusals[0].Violation))
				break
			}
		}
	}
	if len(lost) > 0 {
		why = append(why, fmt.Sprintf("%s %s would identify nobody", lost[0].Type, lost[0].Value))
	}
	if parts == 1 && first != nil {
		for i := range first.Identifiers {
			id := first.Identifiers[i].Identifier
			owner, err := now.owner(id)
			if err != nil {
				return "", err
			}
			if owner == a.ID {
				continue
			}
			whose := "nobody has now"
			if !owner.IsZero() {
				whose = "is on " + owner.String() + " now"
			}
			why = append(why, fmt.Sprintf("it would also hold %s %s, which %s", id.Type, id.Value, whose))
			break
		}
		for _, child := range first.Merged {
			l, err := then.Link(child)
			if err != nil {
				return "", err
			}
			if l != nil {
				why = append(why, "joined by an event with "+via(l))
				break
			}
		}
	}
	return strings.Join(why, "; "), nil
}

// standing returns a profile as it was before the record; nil when it was not
// there or was part of another.
func (c *comparing) standing(r Reader, id event.ProfileID, side *Side) (*Profile, error) {
	l, err := r.Link(id)
	if err != nil {
		return nil, err
	}
	if l != nil && l.Offset < c.before {
		if l.Offset >= c.since {
			side.Merges++
			if by := types(l.Via); len(side.MergesBy) < maxMergesByWhat || side.MergesBy[by] > 0 {
				side.MergesBy[by]++
			}
		}
		return nil, nil
	}
	p, err := r.Frozen(id)
	if err != nil || p == nil || p.Created.Offset >= c.before {
		return nil, err
	}
	later := map[event.Identifier]bool{} // came with a merge since
	merged := 0
	for _, child := range p.Merged {
		l, err := r.Link(child)
		if err != nil {
			return nil, err
		}
		if l == nil || l.Offset < c.before {
			merged++
			continue
		}
		gone, err := r.Frozen(child)
		if err != nil {
			return nil, err
		}
		if gone != nil {
			for _, x := range gone.Identifiers {
				later[x.Identifier] = true
			}
		}
	}
	p.Identifiers = slices.DeleteFunc(slices.Clone(p.Identifiers), func(x Identified) bool { return x.Offset >= c.before || later[x.Identifier] })
	side.Profiles++
	side.weigh(p, merged)
	return p, nil
}

// weigh puts a profile among the largest, if it is one of them.
func (s *Side) weigh(p *Profile, merged int) {
	n := len(p.Identifiers)
	if n < 2 || len(s.Largest) == maxLargest && n <= s.Largest[maxLargest-1].Count {
		return
	}
	s.Largest = append(s.Largest, Cluster{ProfileID: p.ID.String(), Count: n, Merged: merged, Identifiers: named(p)})
	slices.SortStableFunc(s.Largest, func(a, b Cluster) int { return cmp.Compare(b.Count, a.Count) })
	s.Largest = s.Largest[:min(len(s.Largest), maxLargest)]
}

func sorted(p *Profile) []string {
	names := make([]string, 0, len(p.Identifiers))
	for _, x := range p.Identifiers {
		names = append(names, x.Type+":"+x.Value)
	}
	slices.Sort(names)
	return names
}

// named names some identifiers of a profile.
func named(p *Profile) []string {
	if p == nil {
		return nil
	}
	all := sorted(p)
	return all[:min(len(all), maxNamed)]
}

// via names the identifiers that an event used.
func via(l *Link) string {
	var names []string
	for _, x := range l.Via {
		names = append(names, x.Type+" "+x.Value)
	}
	return strings.Join(names, " and ")
}

// types names the types of identifiers.
func types(ids []event.Identifier) string {
	var names []string
	for _, x := range ids {
		names = append(names, x.Type)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " + ")
}
