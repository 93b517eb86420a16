package computation

import (
	"kith/event"
	"kith/workspace"
)

// Outcome is what computation says of a record that is somebody's. The rooms
// behind computation read it from the record.
type Outcome struct {
	// Profile is whose it is; the same as in the record.
	Profile event.ProfileID
	// Changes are what is to be announced, in the order in which it happened.
	Changes []Change

	pass *pass
}

// Change is an audience that the profile entered or left.
type Change struct {
	// Audience is the audience as the record's snapshot has it, or, when it was
	// deleted, as it was last.
	Audience *workspace.Audience
	Member   bool
	At       int64 // milliseconds
}

// Announce is the Work of records that visit a profile after an audience has
// become live: changes that were made quietly are in the Outcome.
type Announce struct {
	// Audiences are the ids of the audiences that became live.
	Audiences []string

	builds []uint32
}

// Live reports whether an audience is live: else nobody can say who is a member
// and who is not.
func (o *Outcome) Live(audience string) bool {
	for _, b := range o.pass.graph.registry.Builds {
		if b.State == live && b.Audience.ID == audience {
			return true
		}
	}
	return false
}

// Memberships returns the audiences that are live, by id, of which the profile
// is a member (true) or was one and has left (false). It answers as of the
// record, until the next one is handled.
func (o *Outcome) Memberships() (map[string]bool, error) {
	page, err := o.pass.page(o.pass.person(o.Profile))
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for i := range page.entries {
		e := &page.entries[i]
		d := o.pass.graph.byBuild[e.build]
		if d != nil && d.build.State == live && (e.member || e.told || e.past) {
			all[d.build.Audience.ID] = e.member
		}
	}
	return all, nil
}
