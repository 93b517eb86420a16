package profile

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"golang.org/x/text/unicode/norm"

	"kith/event"
	"kith/kv"
	"kith/workspace"
)

// The search index leads from a trait's value to the profiles that have it. It
// holds the traits that a space lists (workspace.Space.SearchTraits), of
// profiles that were not merged away, under their values without regard to
// letter case. It is written when such a value changes and at no other time.
//
// Which traits those are is a row of its own under the epoch: the stage brings
// it into line with the configuration in force, and an Indexer does what that
// leaves to do for the profiles that there are.

// maxIndexed is how much of a value the index holds, in bytes. Longer ones are
// told apart by reading the profile.
const maxIndexed = 100

// indexState is how far the index of one trait is.
type indexState byte

// The states of a trait's index. The numbers are stored.
const (
	indexFilling  indexState = 1 // it is kept from now on; of profiles there before it, some lack
	indexComplete indexState = 2
	indexDropping indexState = 3 // it is not kept any more, and not all of it has gone
)

// index is what is indexed in an epoch.
type index struct {
	traits []indexedTrait
	after  event.ProfileID // the last profile that filling has come to
}

type indexedTrait struct {
	name  string
	state indexState
}

func (x *index) encode() kv.Value {
	v := kv.Value{indexFormat}.Fixed(x.after[:]).Uvarint(uint64(len(x.traits)))
	for _, t := range x.traits {
		v = v.String(t.name).Byte(byte(t.state))
	}
	return v
}

// readIndex returns what is indexed, nothing in an epoch without the row.
func readIndex(r kv.Reader, k keys) (*index, error) {
	value, err := r.Get(k.index())
	if err != nil || value == nil {
		return &index{}, err
	}
	f := kv.FieldsOf(value)
	if f.Byte() != indexFormat {
		return nil, errStored
	}
	x := &index{}
	copy(x.after[:], f.Fixed(len(x.after)))
	for range f.Count(len(value)) {
		t := indexedTrait{name: f.String(), state: indexState(f.Byte())}
		if t.state < indexFilling || t.state > indexDropping {
			f.Fail()
		}
		x.traits = append(x.traits, t)
	}
	if !f.OK() {
		return nil, errStored
	}
	return x, nil
}

// state returns the state of a trait's index, zero when it has none.
func (x *index) state(name string) indexState {
	for i := range x.traits {
		if x.traits[i].name == name {
			return x.traits[i].state
		}
	}
	return 0
}

// kept reports whether the index of a trait is written.
func (x *index) kept(name string) bool {
	s := x.state(name)
	return s == indexFilling || s == indexComplete
}

// names returns the traits that can be searched by.
func (x *index) names() (list []string) {
	for _, t := range x.traits {
		if t.state != indexDropping {
			list = append(list, t.name)
		}
	}
	return list
}

// first returns a trait in a state, or "".
func (x *index) first(s indexState) string {
	for _, t := range x.traits {
		if t.state == s {
			return t.name
		}
	}
	return ""
}

// want brings the index into line with what a space lists. Without profiles
// there is nothing to fill. A trait that is listed again while its index is
// being dropped begins anew once that is done. It reports whether anything is
// another.
func (x *index) want(listed []string, empty bool) (changed bool) {
	wanted := map[string]bool{}
	for _, name := range listed {
		wanted[name] = true
		if x.state(name) != 0 {
			continue
		}
		state := indexFilling
		if empty {
			state = indexComplete
		}
		x.traits = append(x.traits, indexedTrait{name, state})
		x.after = event.ProfileID{} // who was passed lacks this one
		changed = true
	}
	for i := range x.traits {
		if t := &x.traits[i]; t.state != indexDropping && !wanted[t.name] {
			t.state, changed = indexDropping, true
		}
	}
	return changed
}

// configure brings the epoch's index into line with a snapshot.
func (p *pass) configure(s *workspace.Snapshot) error {
	if p.stage.frozen {
		return nil
	}
	var space *workspace.Space
	if s != nil {
		space = s.SpaceByNumber(p.batch.Space)
	}
	if space == nil {
		return nil
	}
	empty, asked := false, false
	listed := space.SearchedTraits()
	for _, name := range listed {
		if p.index.state(name) == 0 && !asked {
			var err error
			if empty, err = p.nobody(); err != nil {
				return err
			}
			asked = true
		}
	}
	if !p.index.want(listed, empty) {
		return nil
	}
	place := place{p.batch.Space, p.batch.Epoch}
	p.batch.AfterCommit(func() { p.stage.wake(place) })
	return p.batch.Tx.Set(p.keys.index(), p.index.encode())
}

// nobody reports whether there are no traits of anybody yet.
func (p *pass) nobody() (bool, error) {
	for _, b := range p.order {
		if b.resized { // an open book may have nothing in it
			return false, nil
		}
	}
	for _, err := range p.batch.Tx.Scan(kv.Range{From: p.keys.allPages(), To: kv.PrefixEnd(p.keys.allPages()), Limit: 1}) {
		return false, err
	}
	return true, nil
}

// indexed remembers the value of a trait that is about to be another: the one
// that the index has.
func (b *book) indexed(name, before string) {
	if b.index == nil || !b.index.kept(name) {
		return
	}
	if _, ok := b.before[name]; ok {
		return
	}
	if b.before == nil {
		b.before = map[string]string{}
	}
	b.before[name] = before
}

// writeIndex brings the index into line with a book.
func (b *book) writeIndex(tx kv.Tx) error {
	if b.index == nil || (len(b.before) == 0 && !b.merged) {
		return nil
	}
	for _, name := range b.index.names() {
		before, touched := b.before[name]
		if !touched && !b.merged {
			continue
		}
		now, err := b.value(name)
		if err != nil {
			return err
		}
		if !touched {
			before = now
		}
		if b.merged {
			now = ""
		}
		old, had := folded(before)
		new, has := folded(now)
		if had == has && old == new && !(has && b.index.state(name) == indexFilling) {
			continue // else it may be one that filling has not come to
		}
		if had {
			if err := tx.Delete(b.keys.entry(name, old, b.profile)); err != nil {
				return err
			}
		}
		if has {
			if err := tx.Set(b.keys.entry(name, new, b.profile), kv.Value{entryFormat}); err != nil {
				return err
			}
		}
	}
	return nil
}

// value returns the JSON of a trait, "" for none.
func (b *book) value(name string) (string, error) {
	t, err := b.get(name)
	if err != nil || t == nil {
		return "", err
	}
	return t.Value, nil
}

// heldEntries returns the keys of a profile in the index.
func heldEntries(r kv.Reader, k keys, profile event.ProfileID) (held [][]byte, err error) {
	x, err := readIndex(r, k)
	if err != nil || len(x.traits) == 0 {
		return nil, err
	}
	b, err := open(r, k, profile)
	if err != nil {
		return nil, err
	}
	for _, t := range x.traits {
		value, err := b.value(t.name)
		if err != nil {
			return nil, err
		}
		text, ok := folded(value)
		if !ok {
			continue
		}
		key := k.entry(t.name, text, profile)
		found, err := r.Get(key)
		if err != nil {
			return nil, err
		}
		if found != nil {
			held = append(held, bytes.Clone(key))
		}
	}
	return held, nil
}

// textOf returns a trait's value as it is searched for: a string's text, a
// number or a boolean as it was sent. Nothing else is.
func textOf(value string) (text string, ok bool) {
	if value == "" {
		return "", false
	}
	v := gjson.Parse(value)
	switch v.Type {
	case gjson.String:
		return v.Str, v.Str != ""
	case gjson.Number, gjson.True, gjson.False:
		return v.Raw, true
	}
	return "", false
}

// folded returns what the index holds of a value.
func folded(value string) (string, bool) {
	text, ok := textOf(value)
	if !ok {
		return "", false
	}
	return cut(fold(text)), true
}

// fold takes letter case, and the ways there are to write one letter, out of a
// text. Stored keys depend on it.
func fold(text string) string { return strings.ToLower(norm.NFC.String(text)) }

// cut returns the first maxIndexed bytes of a text, whole letters.
func cut(text string) string {
	if len(text) <= maxIndexed {
		return text
	}
	n := maxIndexed
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
