package audience

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/computation"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/timer"
	"kith/workspace"
)

// Engine is what a Desk needs of computation; computation.Reader has it.
type Engine interface {
	// Status says how far an audience's computation has come.
	Status(r kv.Reader, space, epoch uint32, a *workspace.Audience) (computation.Status, error)
	// List lists members in the order of their ids, at most limit behind after.
	List(r kv.Reader, space, epoch uint32, audience string, after event.ProfileID, limit int) ([]computation.Member, error)
	// Memberships returns the audiences that a profile is or was a member of.
	Memberships(r kv.Reader, space, epoch uint32, profile event.ProfileID) ([]computation.Membership, error)
}

// Desk answers operators' questions about audiences. It is safe for concurrent
// use.
type Desk struct {
	db     kv.DB
	engine Engine
	epoch  func(space uint32) uint32
}

// NewDesk returns a desk; epoch gives the live epoch of a space.
func NewDesk(db kv.DB, engine Engine, epoch func(space uint32) uint32) *Desk {
	return &Desk{db: db, engine: engine, epoch: epoch}
}

// Status is where an audience stands.
type Status struct {
	// State is "Preparing", "Computing", "Live", "Disabled" or "Failed", as in
	// Segment (sheet unify_engage_privacy §2.1).
	State string
	// Size is the number of members now. While an audience is being computed
	// anew these are the members of its version before.
	Size uint64
	// Since is the instant since when the events are counted that it asks for:
	// those before it have been trimmed. Zero when all that it asks for are there.
	Since time.Time
	// Detail says in words how far it has come, or why it failed.
	Detail string
}

// Status returns where an audience of a space stands.
func (d *Desk) Status(ctx context.Context, space uint32, a *workspace.Audience) (Status, error) {
	var s computation.Status
	err := d.db.View(ctx, func(r kv.Reader) (err error) {
		s, err = d.engine.Status(r, space, d.epoch(space), a)
		return err
	})
	if err != nil {
		return Status{}, fmt.Errorf("status of audience %s: %w", a.Key, err)
	}
	out := Status{State: string(s.State), Size: uint64(max(s.Size, 0)), Detail: detail(a, &s)}
	if s.Since > 0 {
		out.Since = time.UnixMilli(s.Since).UTC()
	}
	return out, nil
}

func detail(a *workspace.Audience, s *computation.Status) string {
	switch {
	case s.State == computation.Failed:
		return s.Reason
	case s.State == computation.Preparing && s.Version > 0 && s.Version != a.Version:
		return fmt.Sprintf("version %d waits to be computed; version %d answers until then", a.Version, s.Version)
	case s.State == computation.Preparing:
		return "waits to be computed"
	case s.State == computation.Computing && s.Progress < 1:
		return fmt.Sprintf("%d %% of the stored history counted", int(s.Progress*100))
	case s.State == computation.Computing:
		return fmt.Sprintf("%d profiles evaluated", s.Profiles)
	case s.Announcing:
		return fmt.Sprintf("destinations are being told of its members, %d visited", s.Profiles)
	}
	return ""
}

// Member is a profile in an audience.
type Member struct {
	Profile event.ProfileID
	Since   time.Time // when it entered
}

// MaxMembers is the most members that one call lists.
const MaxMembers = 1000

// Members lists who is in an audience, in the order of their ids, at most limit
// (1 to MaxMembers) behind the cursor, which is empty at the beginning; next is
// empty at the end.
func (d *Desk) Members(ctx context.Context, space uint32, audience, cursor string, limit int) (list []Member, next string, err error) {
	if limit < 1 || limit > MaxMembers {
		return nil, "", fault.Field("limit", "want 1 to %d, not %d", MaxMembers, limit)
	}
	var after event.ProfileID
	if cursor != "" {
		if after, err = event.ParseProfileID(cursor); err != nil {
			return nil, "", fault.Field("cursor", "%q is not a place in a list of members", cursor)
		}
	}
	var found []computation.Member
	err = d.db.View(ctx, func(r kv.Reader) (err error) {
		found, err = d.engine.List(r, space, d.epoch(space), audience, after, limit+1)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("members of audience %s: %w", audience, err)
	}
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].Profile.String()
	}
	for _, m := range found {
		list = append(list, Member{Profile: m.Profile, Since: time.UnixMilli(m.Since).UTC()})
	}
	return list, next, nil
}

// Standing is what there is to say of one profile and one audience.
type Standing struct {
	Audience *workspace.Audience
	Member   bool // false: it was one and has left
	Since    time.Time
	// Next is the first instant at which this may change although nothing
	// happens; zero when there is none. At Next it may turn out not to change.
	Next time.Time
}

// Standings returns the audiences that a profile is in, and behind them those
// that it has left, each by their keys. The profile is one that was not merged
// away.
func (d *Desk) Standings(ctx context.Context, space uint32, profile event.ProfileID) ([]Standing, error) {
	var list []Standing
	err := d.db.View(ctx, func(r kv.Reader) error {
		found, err := d.engine.Memberships(r, space, d.epoch(space), profile)
		for i := range found {
			m := &found[i]
			s := Standing{Audience: m.Audience, Member: m.Member, Since: time.UnixMilli(m.Since).UTC()}
			if m.Next != timer.Never {
				s.Next = time.UnixMilli(m.Next).UTC()
			}
			list = append(list, s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audiences of profile %s: %w", profile, err)
	}
	slices.SortFunc(list, func(a, b Standing) int {
		if a.Member != b.Member {
			if a.Member {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Audience.Key, b.Audience.Key)
	})
	return list, nil
}
