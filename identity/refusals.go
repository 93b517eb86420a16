package identity

import (
	"cmp"
	"math/bits"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// KeptRefusals is how many refusals of one kind are kept at each end, the
// first and the newest; what lies between is counted.
const KeptRefusals = 8

// Refused is one identifier that one event did not use, or one event that is
// nobody's. It names nobody: the event is in the archive, with its identifiers
// and whose it is, and whose an identifier is Reader.Lookup says. So nothing of
// it has to be found again when somebody is erased.
type Refused struct {
	Offset   commitlog.Offset // of the event
	At       int64            // when that was appended, in milliseconds
	Time     int64            // its effective time, in milliseconds
	Snapshot uint64           // the configuration whose rules were in force
	Type     string           // of the identifier; empty for an event that is nobody's
	Against  Against
}

// Refusals are the events on which an identifier, or the identifiers of a
// profile's events, met one violation.
type Refusals struct {
	Violation string // one of the violations, or NoIdentifiers, OptedOut or Filtered for events that are nobody's
	Count     uint64
	First     []Refused // the first KeptRefusals, in order
	Newest    []Refused // the newest KeptRefusals behind those, in order
}

// RefusalsOf returns why and how often events did not use an identifier.
func (r Reader) RefusalsOf(id event.Identifier) ([]Refusals, error) {
	if len(id.Value) > event.MaxIdentifierBytes || len(id.Type) > MaxTypeBytes {
		return nil, nil // too long to be a key
	}
	return readRefusals(r.r, r.keys.refusalsOf(id))
}

// RefusalsOn returns why and how often events of a profile did not use an
// identifier that they carried: under this very id, without those that were
// merged into it. Under the zero id are the events that are nobody's.
func (r Reader) RefusalsOn(p event.ProfileID) ([]Refusals, error) {
	return readRefusals(r.r, r.keys.refusalsOn(p))
}

// Unwanted is a type of identifier that events carry in a standard place and no
// rule of the space named when they did.
type Unwanted struct {
	Collection, Type string
	Refusals
}

// Unwanted returns those types. What they were used for is not kept, but the
// first events and the newest are.
func (r Reader) Unwanted() (list []Unwanted, err error) {
	stem := r.keys.unwanted()
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		u := Unwanted{Collection: collectionOf(parts.Byte()), Type: parts.String()}
		met, err := decodeRefusals(pair.Value)
		if err != nil || !parts.OK() || len(met) != 1 {
			return nil, cmp.Or(err, errStored)
		}
		u.Refusals = met[0]
		list = append(list, u)
	}
	return list, nil
}

func readRefusals(r kv.Reader, key kv.Key) ([]Refusals, error) {
	value, err := r.Get(key)
	if err != nil || value == nil {
		return nil, err
	}
	return decodeRefusals(value)
}

// refused gathers what was refused in a batch, so that a hot identifier or
// profile is written once. Its zero value is ready.
type refused struct {
	ids      map[event.Identifier][]Refusals
	profiles map[event.ProfileID][]Refusals
	types    [16][]Refusals // that no rule names
}

// note takes down what a record's Resolution refused, in the order of records.
func (f *refused) note(r *pipeline.Record, res *Resolution) {
	if len(res.Refused) == 0 && res.Reason == "" && res.found.unwanted == 0 {
		return
	}
	if f.ids == nil {
		f.ids, f.profiles = map[event.Identifier][]Refusals{}, map[event.ProfileID][]Refusals{}
	}
	x := Refused{Offset: r.Offset, At: r.At, Time: r.Time}
	if r.Snapshot != nil {
		x.Snapshot = r.Snapshot.Number
	}
	for left := res.found.unwanted; left != 0; left &= left - 1 {
		n := bits.TrailingZeros16(left)
		f.types[n] = add(f.types[n], NoRule, x)
	}
	if res.Reason != "" {
		f.profiles[event.ProfileID{}] = add(f.profiles[event.ProfileID{}], res.Reason, x)
	}
	for _, refusal := range res.Refused {
		x.Type, x.Against = refusal.Type, refusal.Against
		whose := res.Profile
		if refusal.Collection == event.Accounts {
			whose = res.Account
		}
		f.ids[refusal.Identifier] = add(f.ids[refusal.Identifier], refusal.Violation, x)
		f.profiles[whose] = add(f.profiles[whose], refusal.Violation, x)
	}
}

// add counts a refusal and keeps it where there is room.
func add(list []Refusals, violation string, x Refused) []Refusals {
	i := slices.IndexFunc(list, func(r Refusals) bool { return r.Violation == violation })
	if i < 0 {
		list, i = append(list, Refusals{Violation: violation}), len(list)
	}
	r := &list[i]
	r.Count++
	if len(r.First) < KeptRefusals {
		r.First = append(r.First, x)
		return list
	}
	r.Newest = append(r.Newest, x)
	if len(r.Newest) >= 4*KeptRefusals { // not at every one
		r.Newest = append(r.Newest[:0], r.Newest[len(r.Newest)-KeptRefusals:]...)
	}
	return list
}

// write joins what was gathered to what is stored.
func (f *refused) write(tx kv.Tx, k keys) error {
	for id, list := range f.ids {
		if err := joinRefusals(tx, k.refusalsOf(id), list); err != nil {
			return err
		}
	}
	for p, list := range f.profiles {
		if err := joinRefusals(tx, k.refusalsOn(p), list); err != nil {
			return err
		}
	}
	for n, list := range f.types {
		if len(list) == 0 {
			continue
		}
		t := standardTypes[n]
		if err := joinRefusals(tx, k.unwanted().Byte(collectionByte(t.collection)).String(t.name), list); err != nil {
			return err
		}
	}
	return nil
}

func joinRefusals(tx kv.Tx, key kv.Key, later []Refusals) error {
	list, err := readRefusals(tx, key)
	if err != nil {
		return err
	}
	for _, l := range later {
		i := slices.IndexFunc(list, func(r Refusals) bool { return r.Violation == l.Violation })
		if i < 0 {
			list, i = append(list, Refusals{Violation: l.Violation}), len(list)
		}
		r := &list[i]
		kept := slices.Concat(l.First, l.Newest)
		r.Count += l.Count
		n := min(KeptRefusals-len(r.First), len(kept))
		r.First = append(r.First, kept[:n]...)
		r.Newest = append(r.Newest, kept[n:]...)
		r.Newest = r.Newest[max(0, len(r.Newest)-KeptRefusals):]
	}
	return tx.Set(key, encodeRefusals(list))
}

func encodeRefusals(list []Refusals) kv.Value {
	v := kv.Value{refusalFormat}.Uvarint(uint64(len(list)))
	for _, r := range list {
		v = v.String(r.Violation).Uvarint(r.Count)
		for _, kept := range [][]Refused{r.First, r.Newest} {
			v = v.Uvarint(uint64(len(kept)))
			for i := range kept {
				v = encodeRefused(v, &kept[i])
			}
		}
	}
	return v
}

// What stood against an identifier, in a stored Refused.
const (
	againstNothing = 0
	againstLimit   = 1
	againstCommand = 2
)

func encodeRefused(v kv.Value, x *Refused) kv.Value {
	v = v.Uvarint(uint64(x.Offset)).Varint(x.At).Varint(x.At - x.Time).Uvarint(x.Snapshot).String(x.Type)
	switch a := &x.Against; {
	case a.ByCommand:
		return v.Byte(againstCommand).Uvarint(uint64(a.Command))
	case a.Type != "":
		return v.Byte(againstLimit).String(a.Type).Varint(int64(a.Limit)).Varint(a.Window)
	}
	return v.Byte(againstNothing)
}

func decodeRefusals(value []byte) ([]Refusals, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != refusalFormat {
		return nil, errStored
	}
	var list []Refusals
	for range f.Count(len(value)) {
		r := Refusals{Violation: f.String(), Count: f.Uvarint()}
		for _, kept := range []*[]Refused{&r.First, &r.Newest} {
			for range f.Count(len(value)) {
				*kept = append(*kept, decodeRefused(&f))
			}
		}
		list = append(list, r)
	}
	if !f.OK() {
		return nil, errStored
	}
	return list, nil
}

func decodeRefused(f *kv.Fields) (x Refused) {
	x.Offset, x.At = commitlog.Offset(f.Uvarint()), f.Varint()
	x.Time = x.At - f.Varint()
	x.Snapshot, x.Type = f.Uvarint(), f.String()
	switch f.Byte() {
	case againstNothing:
	case againstLimit:
		x.Against.Type, x.Against.Limit, x.Against.Window = f.String(), int(f.Varint()), f.Varint()
	case againstCommand:
		x.Against.ByCommand, x.Against.Command = true, commitlog.Offset(f.Uvarint())
	default:
		f.Fail()
	}
	return x
}
