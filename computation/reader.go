package computation

import (
	"cmp"
	"slices"

	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/timer"
	"kith/workspace"
)

// Reader reads what the engine has computed, outside of the row. It sees what
// the loop has committed, and is safe for concurrent use.
type Reader struct{ engine *Engine }

// Reader returns a reader.
func (e *Engine) Reader() Reader { return Reader{e} }

// Membership is a profile's standing in one audience.
type Membership struct {
	Audience *workspace.Audience // as last seen in a snapshot; not to be changed
	// Member says that the profile is a member; otherwise it was one and has
	// left. A profile that never was one has no Membership.
	Member bool
	Since  int64 // when that came about, in milliseconds
	// Next is the next instant at which it may change without an event, or
	// timer.Never; nothing happens before.
	Next int64
	// Live is false for a disabled audience, whose members stand still.
	Live bool
}

// Memberships returns the audiences that a profile is or was a member of, in
// the order in which they came to be. The profile must be one that was not
// merged away.
func (d Reader) Memberships(r kv.Reader, space, epoch uint32, profile event.ProfileID) ([]Membership, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil || len(g.registry.Builds) == 0 {
		return nil, err
	}
	value, err := r.Get(keys{space, epoch}.page(profile))
	if err != nil {
		return nil, err
	}
	page, err := decodePage(value)
	if err != nil {
		return nil, err
	}
	if len(page.entries) == 0 {
		return nil, nil
	}
	list := make([]Membership, 0, len(page.entries))
	for _, b := range g.registry.Builds {
		if b.State != live && b.State != frozen {
			continue
		}
		m := Membership{Audience: &b.Audience, Next: timer.Never, Live: b.State == live}
		known := false
		for _, n := range b.chain() {
			if e := page.find(n); e != nil {
				m.Member, known = m.Member || e.told, known || e.told || e.past
				if m.Since == 0 {
					m.Since = e.since
				}
				if n == b.Number && m.Live {
					m.Next = e.due
				}
			}
		}
		if known {
			list = append(list, m)
		}
	}
	return list, nil
}

// Status says how far an audience's computation has come.
type Status struct {
	State Phase
	// Progress is how much of the stored history has been joined, from 0 to 1,
	// while State is Computing.
	Progress float64
	// Profiles is how many profiles the step at hand has visited, while State
	// is Computing or the first announcement goes on.
	Profiles int
	// Announcing says that the audience is live and that its members of before
	// are still being announced.
	Announcing bool
	// Size is the number of members.
	Size int64
	// Version is the version of the audience that Size and memberships speak
	// of; zero while there is none.
	Version int
	// Since is the instant since when events are counted that it asks for, in
	// milliseconds: those before it had been trimmed when it was computed first,
	// or an audience that it reads was. Zero when nothing that it asks for is
	// missing, as of a window that begins later.
	Since int64
	// Reason says why it failed.
	Reason string
}

// Phase is the state of an audience in Segment's words (sheet
// unify_engage_privacy §2.1).
type Phase string

// The phases.
const (
	Preparing Phase = "Preparing"
	Computing Phase = "Computing"
	Live      Phase = "Live"
	Disabled  Phase = "Disabled"
	Failed    Phase = "Failed"
)

// Status returns how far an audience's computation has come. An audience that
// the loop has not met yet is Preparing.
func (d Reader) Status(r kv.Reader, space, epoch uint32, a *workspace.Audience) (Status, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return Status{}, err
	}
	k := keys{space, epoch}
	var s Status
	standing := g.registry.standing(a.ID)
	if standing != nil {
		s.Version, s.Announcing = standing.Audience.Version, standing.Announcing && standing.State == live
		if s.Size, err = size(r, k, standing.Number); err != nil {
			return Status{}, err
		}
	}
	newest := g.registry.newest(a.ID)
	pos, err := pipeline.ReadPosition(r, space, epoch)
	if err != nil {
		return Status{}, err
	}
	if s.Since, err = g.registry.since(cmp.Or(standing, newest), pos.At); err != nil {
		return Status{}, err
	}
	switch {
	case !a.Enabled:
		s.State = Disabled
		return s, nil
	case newest == nil || newest.Audience.Version != a.Version:
		s.State = Preparing
		return s, nil
	}
	switch newest.State {
	case joining, settling:
		s.State = Computing
	case live:
		s.State = Live
	case failed:
		s.State, s.Reason = Failed, newest.Failure
	default:
		s.State = Preparing
	}
	if s.State != Computing && !s.Announcing {
		return s, nil
	}
	at, err := readCursor(r, k)
	if err != nil || !slices.Contains(at.Builds, newest.Number) {
		return s, err
	}
	s.Profiles, s.Progress = at.Count, 1
	if at.Task == taskJoin && at.To > at.Done {
		s.Progress = float64(at.Done-at.From) / float64(at.To-at.From)
	}
	return s, nil
}

// since returns since when events are counted that a build asks for at an
// instant, as Status.Since says it.
func (r *registry) since(b *build, now int64) (since int64, err error) {
	if b == nil || b.State == failed {
		return 0, nil
	}
	p, err := b.program()
	if err != nil {
		return 0, err
	}
	for i, d := range b.Depths {
		want := b.wants(&p.Aggregates[i])
		behind := want.Since.Offset == 0 && want.Since.Time < d.At
		if behind && (want.Kind == tallies || !expired(d.At-1, want.Reach, now)) {
			since = max(since, d.At)
		}
	}
	for _, ref := range b.References {
		read, err := r.since(r.standing(ref.Audience), now)
		if err != nil {
			return 0, err
		}
		since = max(since, read)
	}
	return since, nil
}

func size(r kv.Reader, k keys, build uint32) (int64, error) {
	value, err := r.Get(k.size(build))
	if err != nil {
		return 0, err
	}
	return decodeSize(value)
}

// Size returns how many members an audience has; none while it has never been
// live.
func (d Reader) Size(r kv.Reader, space, epoch uint32, audience string) (int64, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return 0, err
	}
	b := g.registry.standing(audience)
	if b == nil {
		return 0, nil
	}
	return size(r, keys{space, epoch}, b.Number)
}

// Member is a profile in an audience.
type Member struct {
	Profile event.ProfileID
	Since   int64 // when it entered, in milliseconds
}

// Members returns the ids of members of an audience in their order, at most
// limit of them behind after. There are none while it has never been live.
func (d Reader) Members(r kv.Reader, space, epoch uint32, audience string, after event.ProfileID, limit int) ([]event.ProfileID, error) {
	list, err := d.List(r, space, epoch, audience, after, limit)
	return ids(list), err
}

// List is Members with the instants at which they entered.
func (d Reader) List(r kv.Reader, space, epoch uint32, audience string, after event.ProfileID, limit int) ([]Member, error) {
	if limit < 1 {
		return nil, fault.New(fault.Invalid, "members are listed at least one at a time")
	}
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return nil, err
	}
	b := g.registry.standing(audience)
	if b == nil {
		return nil, nil
	}
	return members(r, keys{space, epoch}, b.Number, after, limit)
}
