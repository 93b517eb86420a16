package identity

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Cause is the record that brought something about.
type Cause struct {
	Offset    commitlog.Offset
	At        int64 // when it was appended, in milliseconds
	Time      int64 // its effective time, in milliseconds
	MessageID string
	SourceID  string
}

// Identified is an identifier of a profile, and the record that attached it.
type Identified struct {
	event.Identifier
	At        int64 // the effective time of that record, in milliseconds
	Offset    commitlog.Offset
	MessageID string
	SourceID  string
}

// Profile is a profile's place in the identity graph.
type Profile struct {
	ID         event.ProfileID
	Collection string
	Created    Cause
	// Identifiers are the profile's own, in the order in which they were
	// attached, and behind them those that came with each merge.
	Identifiers []Identified
	// Merged are all profiles that were merged into this one, directly or by
	// way of others.
	Merged []event.ProfileID
}

// Family returns the profile and all that were merged into it.
func (p *Profile) Family() []event.ProfileID {
	return append([]event.ProfileID{p.ID}, p.Merged...)
}

// count returns how many identifiers of a type count towards a limit with
// that window, for an event of that time.
func (p *Profile) count(name string, time, window int64) int {
	n := 0
	for i := range p.Identifiers {
		if p.Identifiers[i].Type == name && counts(p.Identifiers[i].At, time, window) {
			n++
		}
	}
	return n
}

// encodeGraph writes a profile without its id, which is in the key: the
// creating record, then the other records that attached identifiers, each
// once, the identifiers with the number of their record, and the merged.
func encodeGraph(p *Profile) kv.Value {
	causes := []Cause{p.Created}
	numbers := make([]int, len(p.Identifiers))
	for i := range p.Identifiers {
		x := &p.Identifiers[i]
		n := len(causes) - 1
		for n >= 0 && causes[n].Offset != x.Offset {
			n--
		}
		if n < 0 {
			n = len(causes)
			causes = append(causes, Cause{Offset: x.Offset, Time: x.At, MessageID: x.MessageID, SourceID: x.SourceID})
		}
		numbers[i] = n
	}
	v := make(kv.Value, 0, 64+64*len(causes)+48*len(p.Identifiers)+16*len(p.Merged))
	v = v.Byte(graphFormat).Byte(collectionByte(p.Collection)).Varint(p.Created.At).Uvarint(uint64(len(causes)))
	for _, c := range causes {
		v = v.Uvarint(uint64(c.Offset)).Varint(c.Time).String(c.MessageID).String(c.SourceID)
	}
	v = v.Uvarint(uint64(len(p.Identifiers)))
	for i, x := range p.Identifiers {
		v = v.String(x.Type).String(x.Value).Uvarint(uint64(numbers[i]))
	}
	v = v.Uvarint(uint64(len(p.Merged)))
	for _, m := range p.Merged {
		v = v.Fixed(m[:])
	}
	return v
}

func decodeGraph(id event.ProfileID, value []byte) (*Profile, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != graphFormat {
		return nil, errStored
	}
	p := &Profile{ID: id, Collection: collectionOf(f.Byte())}
	p.Created.At = f.Varint()
	causes := make([]Cause, f.Count(len(value)))
	for i := range causes {
		causes[i] = Cause{Offset: commitlog.Offset(f.Uvarint()), Time: f.Varint(), MessageID: f.String(), SourceID: f.String()}
	}
	if len(causes) == 0 {
		return nil, errStored
	}
	at := p.Created.At
	p.Created = causes[0]
	p.Created.At = at
	p.Identifiers = make([]Identified, f.Count(len(value)))
	for i := range p.Identifiers {
		x := Identified{Identifier: event.Identifier{Collection: p.Collection, Type: f.String(), Value: f.String()}}
		c := causes[f.Count(len(causes)-1)]
		x.At, x.Offset, x.MessageID, x.SourceID = c.Time, c.Offset, c.MessageID, c.SourceID
		p.Identifiers[i] = x
	}
	for range f.Count(len(value)) {
		var m event.ProfileID
		copy(m[:], f.Fixed(len(m)))
		p.Merged = append(p.Merged, m)
	}
	if !f.OK() {
		return nil, errStored
	}
	return p, nil
}

// Link is why one profile became part of another. It is kept for good, so
// that a merge can be explained.
type Link struct {
	Child  event.ProfileID // the profile that was merged away
	Parent event.ProfileID // the profile it became part of; a survivor then, maybe merged since
	Record event.RecordID  // the event that joined them
	Offset commitlog.Offset
	At     int64 // when that event was appended, in milliseconds
	// Snapshot is the number of the configuration whose rules allowed it.
	Snapshot uint64
	// Via are the identifiers that the event used.
	Via []event.Identifier
}

func encodeLink(l *Link) kv.Value {
	v := make(kv.Value, 0, 128)
	v = v.Byte(linkFormat).Fixed(l.Parent[:]).Fixed(l.Record[:]).Uvarint(uint64(l.Offset)).Varint(l.At).Uvarint(l.Snapshot)
	v = v.Uvarint(uint64(len(l.Via)))
	for _, id := range l.Via {
		v = v.Byte(collectionByte(id.Collection)).String(id.Type).String(id.Value)
	}
	return v
}

func decodeLink(child event.ProfileID, value []byte) (*Link, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != linkFormat {
		return nil, errStored
	}
	l := &Link{Child: child}
	copy(l.Parent[:], f.Fixed(len(l.Parent)))
	copy(l.Record[:], f.Fixed(len(l.Record)))
	l.Offset, l.At, l.Snapshot = commitlog.Offset(f.Uvarint()), f.Varint(), f.Uvarint()
	for range f.Count(len(value)) {
		l.Via = append(l.Via, event.Identifier{Collection: collectionOf(f.Byte()), Type: f.String(), Value: f.String()})
	}
	if !f.OK() {
		return nil, errStored
	}
	return l, nil
}

// Member is a user of an account, or an account of a user.
type Member struct {
	Profile event.ProfileID
	Offset  commitlog.Offset // of the first group call that said so
	Time    int64            // its effective time, in milliseconds
	Mark    LinkMark         // its place in the listing; set by Reader.Links
}

func encodeMember(m Member) kv.Value {
	return kv.Value{memberFormat}.Uvarint(uint64(m.Offset)).Varint(m.Time)
}

func decodeMember(other event.ProfileID, value []byte) (Member, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == memberFormat
	m := Member{Profile: other, Offset: commitlog.Offset(f.Uvarint()), Time: f.Varint()}
	if !known || !f.OK() {
		return Member{}, errStored
	}
	return m, nil
}

// RegisteredType is a type of identifier that became part of a space's rules
// because an event carried it.
type RegisteredType struct {
	Collection string
	Type       string
	Offset     commitlog.Offset // of the first event that carried it
	At         int64            // when that was appended, in milliseconds
}

func encodeTypes(list []RegisteredType) kv.Value {
	v := kv.Value{typesFormat}.Uvarint(uint64(len(list)))
	for _, t := range list {
		v = v.Byte(collectionByte(t.Collection)).String(t.Type).Uvarint(uint64(t.Offset)).Varint(t.At)
	}
	return v
}

func decodeTypes(value []byte) ([]RegisteredType, error) {
	if value == nil {
		return nil, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != typesFormat {
		return nil, errStored
	}
	var list []RegisteredType
	for range f.Count(len(value)) {
		list = append(list, RegisteredType{
			Collection: collectionOf(f.Byte()), Type: f.String(), Offset: commitlog.Offset(f.Uvarint()), At: f.Varint(),
		})
	}
	if !f.OK() {
		return nil, errStored
	}
	return list, nil
}
