package computation

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"kith/commitlog"
	"kith/kv"
	"kith/query"
	"kith/workspace"
)

// registry is what there is to compute in a space: the builds and the
// aggregates that they share. It is written whole, and rarely.
type registry struct {
	Last       uint32       `json:"last"` // the last number given to a build, an aggregate or a shelf
	Builds     []*build     `json:"builds"`
	Aggregates []*aggregate `json:"aggregates"`
	// Early are builds to come, whose events are counted already: see Adopt. They
	// have no number, and no state.
	Early []*build `json:"early,omitempty"`
	// Former are builds that are gone, the newest: an epoch that is led through
	// their records is to count for them what was counted here.
	Former []*build `json:"former,omitempty"`
	// Litter says that cells of aggregates that are gone may lie about.
	Litter bool `json:"litter,omitempty"`
}

// state says how far a build has come.
type state string

// The states of a build, in the order of its life.
const (
	waiting  state = "waiting"  // fed; its turn to be computed has not come
	joining  state = "joining"  // the history before it is being joined
	settling state = "settling" // evaluated quietly, everywhere
	live     state = "live"
	frozen   state = "frozen"  // its audience is disabled: it stands still
	leaving  state = "leaving" // its audience was deleted: its members are let go
	retired  state = "retired" // another took its place: what it left behind goes
	failed   state = "failed"  // it cannot be computed
)

// fed reports whether events are counted for builds in this state.
func (s state) fed() bool { return s == waiting || s == joining || s == settling || s == live }

// awake reports whether builds in this state are evaluated.
func (s state) awake() bool { return s == settling || s == live }

// build is one version of an audience at work.
type build struct {
	Number   uint32             `json:"number"`
	State    state              `json:"state"`
	Audience workspace.Audience `json:"audience"` // as last seen in a snapshot
	// Offset and At are those of the config record that brought it on.
	Offset commitlog.Offset `json:"offset"`
	At     int64            `json:"at"`
	// References are the traits of its query that are other audiences.
	References []Reference `json:"references,omitempty"`
	// Before are the builds of the audience that came earlier, oldest first.
	Before []uint32 `json:"before,omitempty"`
	// Announcing says that changes that were found quietly have not all been
	// announced.
	Announcing bool   `json:"announcing,omitempty"`
	Failure    string `json:"failure,omitempty"`
	// Counts are the aggregates that it counts with, by the query's; Depths says
	// how deep they were when its first computation had ended.
	Counts []uint32 `json:"counts,omitempty"`
	Depths []depth  `json:"depths,omitempty"`
}

// Reference is a trait of a query that is another audience's membership.
type Reference struct {
	Trait    string `json:"trait"`    // as the query names it
	Audience string `json:"audience"` // the audience's id
}

// kind says what cells of an aggregate hold.
type kind uint8

const (
	tallies kind = 1 // a number: whole history, a filter that the event decides
	times   kind = 2 // effective times
	moments kind = 3 // effective times and the fields that the filter reads
)

// aggregate is what is kept of one event, for all who count it alike.
type aggregate struct {
	Number uint32 `json:"number"`
	Event  string `json:"event"`
	Filter string `json:"filter,omitempty"` // the filter's canonical text
	Kind   kind   `json:"kind"`
	Since  base   `json:"since"`
	// Keep is how many of the newest entries are kept, at most query.MaxKept;
	// query.All keeps that many. Reach is the age at which an entry has left
	// every window; query.Never: none does.
	Keep  int64 `json:"keep,omitempty"`
	Reach int64 `json:"reach,omitempty"`
	// From is the offset from which events feed it, At that record's instant;
	// Whole says that what lies before is in it.
	From  commitlog.Offset `json:"from"`
	At    int64            `json:"at"`
	Whole bool             `json:"whole,omitempty"`
	// Depth is how far back a first computation has reached.
	Depth depth `json:"depth,omitzero"`
	// Shelf is where its cells are kept, together with those of other
	// aggregates of the event.
	Shelf uint32 `json:"shelf"`
}

// depth is where the space's events began when an aggregate's history was
// counted: the horizon of then. The zero depth is the first record. Aggregates
// that count the same from one depth hold the same.
type depth struct {
	Offset commitlog.Offset `json:"offset,omitempty"`
	At     int64            `json:"at,omitempty"` // since when its events are counted, in milliseconds
}

// maxFormer bounds the former builds.
const maxFormer = 64

// maxShelf is how many aggregates share a shelf.
const maxShelf = 64

// base is where an aggregate's history begins; the zero base is its beginning.
type base struct {
	Offset commitlog.Offset `json:"offset,omitempty"`
	Time   int64            `json:"time,omitempty"` // effective time, in milliseconds
}

// same reports whether two aggregates count the same, however much of it they
// keep.
func (a *aggregate) same(b *aggregate) bool {
	return a.Event == b.Event && a.Filter == b.Filter && a.Kind == b.Kind && a.Since == b.Since
}

// covers reports whether a keeps all that b asks for.
func (a *aggregate) covers(b *aggregate) bool {
	return a.same(b) && (a.Keep == query.All || a.Keep >= b.Keep && b.Keep != query.All) && a.Reach >= b.Reach
}

// base returns where the history of a build's aggregates begins.
func (b *build) base() base {
	o := &b.Audience.Options
	if o.IncludeHistoricalData != nil && !*o.IncludeHistoricalData {
		return base{Offset: b.Offset}
	}
	if o.BackfillEventDataDays != nil {
		return base{Time: b.At - int64(*o.BackfillEventDataDays)*24*3600*1000}
	}
	return base{}
}

// program returns the build's query, checked.
func (b *build) program() (*query.Program, error) {
	p, err := query.ParseAudience(b.Audience.Query)
	if err != nil {
		return nil, fmt.Errorf("build %d of audience %s: %w", b.Number, b.Audience.ID, err)
	}
	return p, nil
}

// chain returns the build and those of its audience that came earlier, newest
// first.
func (b *build) chain() []uint32 {
	list := []uint32{b.Number}
	for _, earlier := range slices.Backward(b.Before) {
		list = append(list, earlier)
	}
	return list
}

// wants returns what a count of the build's query asks for.
func (b *build) wants(a *query.Aggregate) *aggregate {
	want := &aggregate{Event: a.Event, Since: b.base(), From: b.Offset, At: b.At}
	if a.Filter != nil {
		want.Filter = a.Filter.String()
	}
	switch {
	case a.Filter != nil && a.Filter.Dynamic():
		want.Kind, want.Keep, want.Reach = moments, query.All, a.Window.To
	case a.Window.Whole():
		want.Kind = tallies
	default:
		want.Kind, want.Keep, want.Reach = times, a.Needed, a.Window.To
		if a.Window.From > 0 {
			want.Keep = query.All // the newest may be too young for the window
		}
	}
	want.Whole = want.Since.Offset > 0
	return want
}

// current returns the aggregates that audiences count with as they are declared.
// What else there is depends on how long computations take, and on how far an
// epoch is behind another: versions that were replaced count on until the new
// ones are live, and what the records ahead bring on may be counted early.
func (r *registry) current() map[uint32]bool {
	seen := map[uint32]bool{}
	for _, b := range r.Builds {
		if b.State.fed() && r.newest(b.Audience.ID) == b {
			for _, n := range b.Counts {
				seen[n] = true
			}
		}
	}
	return seen
}

// bind gives a build the aggregates that it counts with: of those seen, or new
// ones, which are seen from then on.
func (r *registry) bind(b *build, p *query.Program, seen map[uint32]bool) {
	for i := range p.Aggregates {
		want := b.wants(&p.Aggregates[i])
		var best *aggregate
		for _, a := range r.Aggregates {
			if seen[a.Number] && a.covers(want) && (best == nil || best.shallower(a)) {
				best = a
			}
		}
		if best == nil {
			// It keeps what all that count the same need, and may take their place.
			for _, a := range r.Aggregates {
				if seen[a.Number] && a.same(want) {
					want.widen(a)
				}
			}
			r.add(want)
			best = want
		}
		b.Counts = append(b.Counts, best.Number)
		seen[best.Number] = true
	}
}

// shallower reports whether b reaches back further than a. One that is still to
// be joined will reach back to the horizon.
func (a *aggregate) shallower(b *aggregate) bool {
	return b.Whole && (!a.Whole || b.Depth.Offset < a.Depth.Offset)
}

// widen has a keep what b keeps, too.
func (a *aggregate) widen(b *aggregate) {
	a.Reach = max(a.Reach, b.Reach)
	if a.Keep != query.All && (b.Keep == query.All || b.Keep > a.Keep) {
		a.Keep = b.Keep
	}
}

// add adds an aggregate, with a number and a place on a shelf.
func (r *registry) add(a *aggregate) {
	r.Last++
	a.Number, a.Shelf = r.Last, r.shelf(a.Event)
	r.Aggregates = append(r.Aggregates, a)
}

// shelf returns a shelf of an event that has room, a new one if there is none.
func (r *registry) shelf(event string) uint32 {
	taken := map[uint32]int{}
	for _, a := range r.Aggregates {
		if a.Event == event {
			taken[a.Shelf]++
		}
	}
	for _, a := range r.Aggregates {
		if a.Event == event && taken[a.Shelf] < maxShelf {
			return a.Shelf
		}
	}
	r.Last++
	return r.Last
}

// prune drops the aggregates that nobody reads any more. Of two that hold the
// same one is enough, the one that keeps more of it.
func (r *registry) prune() {
	used := map[uint32]bool{}
	for _, b := range slices.Concat(r.Builds, r.Early) {
		if b.Number > 0 && !b.State.fed() {
			b.Counts = nil
		}
		for i, n := range b.Counts {
			if n == 0 {
				continue
			}
			b.Counts[i] = r.instead(r.aggregate(n)).Number
			used[b.Counts[i]] = true
		}
	}
	before := len(r.Aggregates)
	r.Aggregates = slices.DeleteFunc(r.Aggregates, func(a *aggregate) bool { return !used[a.Number] })
	if len(r.Aggregates) < before {
		r.Litter = true
	}
}

// instead returns the aggregate that takes the place of a, or a.
func (r *registry) instead(a *aggregate) *aggregate {
	best := a
	for _, x := range r.Aggregates {
		if a.Whole && x.Whole && x.Depth.Offset == a.Depth.Offset && x.covers(best) && (!best.covers(x) || x.Number < best.Number) {
			best = x
		}
	}
	return best
}

func (r *registry) aggregate(number uint32) *aggregate {
	i := slices.IndexFunc(r.Aggregates, func(a *aggregate) bool { return a.Number == number })
	if i < 0 {
		return nil
	}
	return r.Aggregates[i]
}

func (r *registry) build(number uint32) *build {
	i := slices.IndexFunc(r.Builds, func(b *build) bool { return b.Number == number })
	if i < 0 {
		return nil
	}
	return r.Builds[i]
}

// in returns the builds in one of the states.
func (r *registry) in(states ...state) []*build {
	var list []*build
	for _, b := range r.Builds {
		if slices.Contains(states, b.State) {
			list = append(list, b)
		}
	}
	return list
}

// standing returns the build that answers for an audience: the live one, or
// the one in which it stands still; nil when there is none yet.
func (r *registry) standing(audience string) *build {
	for _, b := range r.Builds {
		if b.Audience.ID == audience && (b.State == live || b.State == frozen) {
			return b
		}
	}
	return nil
}

// over returns the retired builds of which nothing is needed any more. What
// their members were told is, until a build that follows them has taken it
// over.
func (r *registry) over() []*build {
	needed := map[uint32]bool{}
	for _, b := range r.Builds {
		if b.Announcing || b.State == waiting || b.State == joining || b.State == settling {
			for _, earlier := range b.Before {
				needed[earlier] = true
			}
		}
	}
	return slices.DeleteFunc(r.in(retired), func(b *build) bool { return needed[b.Number] })
}

func (r *registry) encode() (kv.Value, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("registry of computations: %w", err)
	}
	return append(kv.Value{registryFormat}, text...), nil
}

func decodeRegistry(value []byte) (*registry, error) {
	r := &registry{}
	if value == nil {
		return r, nil
	}
	if value[0] != registryFormat && value[0] != boundless || json.Unmarshal(value[1:], r) != nil {
		return nil, errStored
	}
	if value[0] == boundless {
		return r, r.bindAll()
	}
	return r, nil
}

// bindAll gives builds the aggregates from which they were read when no build
// named its own: the newest that was whole and covered what was wanted, else
// the oldest.
func (r *registry) bindAll() error {
	for _, b := range r.Builds {
		if !b.State.fed() {
			continue
		}
		p, err := b.program()
		if err != nil {
			return err
		}
		for i := range p.Aggregates {
			want := b.wants(&p.Aggregates[i])
			var best *aggregate
			for _, a := range r.Aggregates {
				if a.covers(want) && (best == nil || a.Whole) {
					best = a
				}
			}
			if best == nil {
				return errStored
			}
			b.Counts = append(b.Counts, best.Number)
		}
	}
	return nil
}

// write stores the registry and its digest, by which readers know whether the
// one that they have decoded is still the one.
func (r *registry) write(tx kv.Tx, k keys) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	if err := tx.Set(k.registry(), value); err != nil {
		return err
	}
	sum := sha256.Sum256(value)
	return tx.Set(k.digest(), kv.Value{digestFormat}.Fixed(sum[:]))
}

// clone returns a copy that can be changed.
func (r *registry) clone() (*registry, error) {
	value, err := r.encode()
	if err != nil {
		return nil, err
	}
	return decodeRegistry(value)
}

func (r *registry) equal(o *registry) bool {
	a, err := r.encode()
	if err != nil {
		return false
	}
	b, err := o.encode()
	return err == nil && bytes.Equal(a, b)
}
