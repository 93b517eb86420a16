package identity

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Given says whose events are in one collection, for a stage that works out
// the other alone.
type Given struct {
	// Collection is the one that is given: Users or Accounts.
	Collection string
	// Of returns whose the record at an offset is; zero: nobody's.
	Of func(at commitlog.Offset) event.ProfileID
}

// Give has the stage take the owners of one collection as given. It is called
// before the stage is used, and serves a revision: that of persons takes the
// accounts of their events as they were, and the other way round.
func (s *Identity) Give(g Given) { s.given = &g }

// owned returns whose a record is in a collection that is given.
func (s *Identity) owned(collection string, at commitlog.Offset) (owner event.ProfileID, given bool) {
	if s.given == nil || s.given.Collection != collection {
		return owner, false
	}
	return s.given.Of(at), true
}

// CopyRules copies to an epoch of another store what identity decides by, as
// it is now: the standing commands, the rules that hold from the start and the
// types that were registered by themselves.
func CopyRules(from kv.Reader, to kv.Tx, space, epoch uint32) error {
	k := keys{space, epoch}
	for _, form := range []byte{standingForm, overrideForm, typesForm} {
		for pair, err := range from.Scan(kv.Prefix(kv.EpochKey(k.space, k.epoch, Room).Byte(form))) {
			if err != nil {
				return err
			}
			if err := to.Set(pair.Key, pair.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// CopyFamily copies to an epoch of another store a profile of the collection
// that is given there, as it was when it was last its own, and the links of
// those that were merged into it: so that a command that was about it can be
// carried out there. Nothing is copied of one that is gone.
func CopyFamily(from kv.Reader, to kv.Tx, space, epoch uint32, id event.ProfileID) error {
	k := keys{space, epoch}
	p, err := NewReader(from, space, epoch).Frozen(id)
	if err != nil || p == nil {
		return err
	}
	list, err := NewReader(from, space, epoch).graphKeys(id)
	if err != nil {
		return err
	}
	for _, child := range p.Merged {
		list = append(list, k.link(child))
	}
	values, err := from.GetMany(list)
	if err != nil {
		return err
	}
	for i, key := range list {
		if values[i] == nil {
			continue
		}
		if err := to.Set(key, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// Normal returns an identifier in the form in which the graph holds it.
func (f *Finder) Normal(id event.Identifier) event.Identifier { return f.rules.normal(id) }
