package identity

import (
	"slices"

	"kith/event"
)

// Resolution is what identity decided about a record. The rooms behind
// identity read it from the record.
type Resolution struct {
	// Profile and Account are whom the record belongs to, survivors both; the
	// same as in the record. Zero: nobody.
	Profile event.ProfileID
	Account event.ProfileID
	// Reason says why an event is nobody's: NoIdentifiers, OptedOut or Filtered
	// with the filter's name.
	Reason string
	// Created and AccountCreated say that this record created them.
	Created        bool
	AccountCreated bool
	// Merged are the merges that this record caused, of users and of accounts.
	Merged []Merge
	// Attached are the identifiers that belong to a profile since this record.
	Attached []event.Identifier
	// Refused are those on the event that it does not use.
	Refused []Refusal
	// Linked says that this record made Profile a user of Account.
	Linked bool
	// Removed are the identifiers that this record, a command, took away from
	// Profile or Account. Left says that it ended Profile's membership in Account.
	Removed []event.Identifier
	Left    bool

	grown []growth // the profiles that this record made larger
	found found
	pass  *pass
	seq   int // which record of the batch it is: what is asked is answered as of then
}

// Merge is a profile that became part of another.
type Merge struct{ From, Into event.ProfileID }

// Identifiers returns the identifiers of Profile as of this record, in the
// order of Profile.Identifiers; none when the record is nobody's. The slice
// must not be changed. It may be asked for, as all methods may, until the
// batch ends, by several goroutines at once.
func (r *Resolution) Identifiers() ([]Identified, error) { return r.IdentifiersOf(r.Profile) }

// IdentifiersOf returns the identifiers, as of this record, of the profile
// that id is part of then; none for an id never given.
func (r *Resolution) IdentifiersOf(id event.ProfileID) ([]Identified, error) {
	p, err := r.Of(id)
	if err != nil || p == nil {
		return nil, err
	}
	return slices.Clip(p.Identifiers), nil
}

// Has reports whether Profile has an identifier of one of these types as of
// this record. It costs the same however many identifiers there are.
func (r *Resolution) Has(types []string) (bool, error) {
	if r.Profile.IsZero() {
		return false, nil
	}
	r.pass.mu.Lock()
	defer r.pass.mu.Unlock()
	n, err := r.pass.version(r.Profile, r.seq) // which is a survivor
	if err != nil || n == nil {
		return false, err
	}
	return n.hasType(types), nil
}

// Family returns the ids under which the history of Profile is written:
// Profile first, then all that were merged into it.
func (r *Resolution) Family() ([]event.ProfileID, error) {
	p, err := r.Of(r.Profile)
	if err != nil || p == nil {
		return nil, err
	}
	return p.Family(), nil
}

// Resolve returns the profile that id is part of as of this record.
func (r *Resolution) Resolve(id event.ProfileID) (event.ProfileID, error) {
	if id.IsZero() {
		return id, nil
	}
	r.pass.mu.Lock()
	defer r.pass.mu.Unlock()
	return r.pass.resolve(id, r.seq)
}

// Of returns the profile that id is part of, as of this record; nil for an id
// never given. What it returns must not be changed.
func (r *Resolution) Of(id event.ProfileID) (*Profile, error) {
	if id.IsZero() {
		return nil, nil
	}
	r.pass.mu.Lock()
	defer r.pass.mu.Unlock()
	if id != r.Profile && id != r.Account { // which are survivors
		var err error
		if id, err = r.pass.resolve(id, r.seq); err != nil {
			return nil, err
		}
	}
	return r.pass.profile(id, r.seq)
}
