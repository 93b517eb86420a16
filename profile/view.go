package profile

import (
	"slices"

	"github.com/tidwall/gjson"

	"kith/event"
)

// TraitChange is a trait whose value is another since a record.
type TraitChange struct {
	Name string
	Old  string // JSON as it was sent; empty: there was none
	New  string // likewise; empty: there is none any more
}

// View is what the rooms behind profile read of a record: the traits that
// changed with it, and all others when they ask. It is there for every record
// that may be somebody's, firings and work among them.
type View struct {
	// Profile and Account are whom the record belongs to; zero: nobody.
	Profile event.ProfileID
	Account event.ProfileID
	// Changed are the traits of Profile that changed with this record, by a
	// merge among that; AccountChanged are those of Account.
	Changed        []TraitChange
	AccountChanged []TraitChange

	pass *pass
}

// Trait returns the value of a trait of Profile; ok is false when there is
// none. It answers as of the last record that the stage has handled, and may be
// asked, as all methods may, until the batch ends, by several goroutines at
// once.
func (v *View) Trait(name string) (value gjson.Result, ok bool, err error) {
	return v.TraitOf(v.Profile, name)
}

// Traits returns the traits of Profile, by name, without those removed.
func (v *View) Traits() ([]Trait, error) { return v.TraitsOf(v.Profile) }

// TraitOf returns the value of a trait of any profile that was not merged
// away: of the record's account, or of one that a piece of work names.
func (v *View) TraitOf(profile event.ProfileID, name string) (value gjson.Result, ok bool, err error) {
	if profile.IsZero() {
		return gjson.Result{}, false, nil
	}
	v.pass.mu.Lock()
	defer v.pass.mu.Unlock()
	b, err := v.pass.book(profile)
	if err != nil {
		return gjson.Result{}, false, err
	}
	t, err := b.get(name)
	if err != nil || t == nil || t.Removed() {
		return gjson.Result{}, false, err
	}
	return gjson.Parse(t.Value), true, nil
}

// TraitsOf returns the traits of any profile that was not merged away.
func (v *View) TraitsOf(profile event.ProfileID) ([]Trait, error) {
	if profile.IsZero() {
		return nil, nil
	}
	v.pass.mu.Lock()
	defer v.pass.mu.Unlock()
	b, err := v.pass.book(profile)
	if err != nil {
		return nil, err
	}
	return live(b)
}

// live returns a book's traits without those removed, as a list of its own.
func live(b *book) ([]Trait, error) {
	all, err := b.all()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(t Trait) bool { return t.Removed() }), nil
}
