package identity

import (
	"bytes"
	"cmp"
	"context"
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
	// Unchanged profiles hold the same identifiers in both. Of the others,
	// Joined are profiles of now that would be part of another, Parted those
	// that would be and are part of another now, Altered those that would hold
	// other identifiers.
	Unchanged int       `json:"unchanged"`
	Joined    int       `json:"joined"`
	Parted    int       `json:"parted"`
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

// Example is a profile that would change, and why.
type Example struct {
	Kind      string   `json:"kind"` // joined, parted, altered
	ProfileID string   `json:"profileId"`
	Now       []string `json:"now"`  // its identifiers; none when it is part of another
	Then      []string `json:"then"` // likewise
	Reason    string   `json:"reason"`
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
	a, la, err := c.standing(now, id, &c.out.Now)
	if err != nil {
		return err
	}
	b, lb, err := c.standing(then, id, &c.out.Then)
	if err != nil {
		return err
	}
	e := Example{ProfileID: id.String(), Now: named(a), Then: named(b)}
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		c.out.Parted++
		e.Kind, e.Reason = "parted", "it would be a profile of its own"
		if la != nil {
			e.Reason = "now an event with " + via(la) + " has made it part of " + la.Parent.String() + "; it would be a profile of its own"
		}
	case b == nil:
		c.out.Joined++
		e.Kind, e.Reason = "joined", "nothing would lead to it"
		if lb != nil {
			e.Reason = "an event with " + via(lb) + " would make it part of " + lb.Parent.String()
		}
	case sameSet(a, b):
		c.out.Unchanged++
		return nil
	default:
		c.out.Altered++
		e.Kind, e.Reason = "altered", changed(a, b)
	}
	n := 0
	for i := range c.out.Examples {
		if c.out.Examples[i].Kind == e.Kind {
			n++
		}
	}
	if n < maxExamples {
		c.out.Examples = append(c.out.Examples, e)
	}
	return nil
}

// standing returns a profile as it was before the record; nil when it was not
// there or was part of another, then with the link.
func (c *comparing) standing(r Reader, id event.ProfileID, side *Side) (*Profile, *Link, error) {
	l, err := r.Link(id)
	if err != nil {
		return nil, nil, err
	}
	if l != nil && l.Offset < c.before {
		if l.Offset >= c.since {
			side.Merges++
			if by := types(l.Via); len(side.MergesBy) < maxMergesByWhat || side.MergesBy[by] > 0 {
				side.MergesBy[by]++
			}
		}
		return nil, l, nil
	}
	p, err := r.Frozen(id)
	if err != nil || p == nil || p.Created.Offset >= c.before {
		return nil, nil, err
	}
	later := map[event.Identifier]bool{} // came with a merge since
	merged := 0
	for _, child := range p.Merged {
		l, err := r.Link(child)
		if err != nil {
			return nil, nil, err
		}
		if l == nil || l.Offset < c.before {
			merged++
			continue
		}
		gone, err := r.Frozen(child)
		if err != nil {
			return nil, nil, err
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
	return p, nil, nil
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

func sameSet(a, b *Profile) bool { return slices.Equal(sorted(a), sorted(b)) }

// named names some identifiers of a profile.
func named(p *Profile) []string {
	if p == nil {
		return nil
	}
	all := sorted(p)
	return all[:min(len(all), maxNamed)]
}

// changed says what a profile would get and lose.
func changed(a, b *Profile) string {
	was, is := sorted(a), sorted(b)
	minus := func(x, y []string) []string {
		return slices.DeleteFunc(slices.Clone(x), func(s string) bool {
			_, found := slices.BinarySearch(y, s)
			return found
		})
	}
	say := func(what string, list []string) string {
		if len(list) == 0 {
			return ""
		}
		return what + strings.Join(list[:min(len(list), maxNamed)], ", ")
	}
	more, less := say("it would also hold ", minus(is, was)), say("it would not hold ", minus(was, is))
	if more != "" && less != "" {
		return more + "; " + less
	}
	return more + less
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
