package inspect

import (
	"kith/event"
	"kith/kv"
)

// leftOut is the number of events and app versions that have none, because
// their source has too many (see Limits), and of calls without an app version.
const leftOut = 0

// volumeKey is what is counted together, within a bucket.
type volumeKey struct {
	source  uint32
	kind    event.Type
	event   uint32
	version uint32
	stage   byte // its place in countedStages
	reason  string
}

func volumeStem(g Grain) kv.Key {
	return kv.WorkspaceKey(room).Byte(volumes).Byte(grainByte(g))
}

func (k volumeKey) at(g Grain, bucket uint32) kv.Key {
	return volumeStem(g).Uint32(bucket).Uint32(k.source).Byte(byte(k.kind)).Uint32(k.event).Uint32(k.version).Byte(k.stage).String(k.reason)
}

func readVolumeKey(key []byte, stem kv.Key) (bucket uint32, k volumeKey, ok bool) {
	p := kv.PartsAfter(key, stem)
	bucket = p.Uint32()
	k = volumeKey{source: p.Uint32(), kind: event.Type(p.Byte()), event: p.Uint32(), version: p.Uint32(), stage: p.Byte(), reason: p.String()}
	return bucket, k, p.OK()
}

func cursorKey(space uint32) kv.Key { return kv.WorkspaceKey(room).Byte(cursors).Uint32(space) }

func registryStem() kv.Key             { return kv.WorkspaceKey(room).Byte(sources) }
func registryKey(source string) kv.Key { return registryStem().String(source) }

// registered is what is known of a source.
type registered struct {
	number      uint32
	events      uint64 // that have a number
	versions    uint64 // likewise
	eventsLeft  uint64 // calls whose event has none, because there were too many
	versionLeft uint64 // calls whose app version has none, likewise
}

func (s *registered) encode() kv.Value {
	return kv.Value{sourceFormat}.Uvarint(uint64(s.number)).Uvarint(s.events).Uvarint(s.versions).Uvarint(s.eventsLeft).Uvarint(s.versionLeft)
}

func decodeRegistered(value []byte) (s registered, err error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == sourceFormat
	s = registered{number: uint32(f.Uvarint()), events: f.Uvarint(), versions: f.Uvarint(), eventsLeft: f.Uvarint(), versionLeft: f.Uvarint()}
	if !known || !f.OK() {
		return registered{}, errDamaged("source")
	}
	return s, nil
}

func versionStem(source string) kv.Key {
	return kv.WorkspaceKey(room).Byte(versions).String(source)
}

func encodeVersion(n uint32) kv.Value { return kv.Value{versionFormat}.Uvarint(uint64(n)) }

func decodeVersion(value []byte) (uint32, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == versionFormat
	n := uint32(f.Uvarint())
	if !known || !f.OK() {
		return 0, errDamaged("app version")
	}
	return n, nil
}

func eventStem(source string) kv.Key { return kv.WorkspaceKey(room).Byte(events).String(source) }

func eventKey(source string, t event.Type, name string) kv.Key {
	return eventStem(source).Byte(byte(t)).String(name)
}

// seenEvent is what is stored of an event of a source.
type seenEvent struct {
	number         uint32
	allowed        uint64 // calls that passed intake
	blocked        uint64 // calls that the plan has blocked
	first, last    int64  // when it was seen, in milliseconds
	properties     uint64 // that are kept
	propertiesLeft uint64 // sightings of properties that are not
}

func (e *seenEvent) encode() kv.Value {
	return kv.Value{eventFormat}.Uvarint(uint64(e.number)).Uvarint(e.allowed).Uvarint(e.blocked).Varint(e.first).Varint(e.last).
		Uvarint(e.properties).Uvarint(e.propertiesLeft)
}

func decodeEvent(value []byte) (e seenEvent, err error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == eventFormat
	e = seenEvent{number: uint32(f.Uvarint()), allowed: f.Uvarint(), blocked: f.Uvarint(), first: f.Varint(), last: f.Varint(),
		properties: f.Uvarint(), propertiesLeft: f.Uvarint()}
	if !known || !f.OK() {
		return seenEvent{}, errDamaged("event")
	}
	return e, nil
}

func fieldStem(source string, number uint32) kv.Key {
	return kv.WorkspaceKey(room).Byte(fields).String(source).Uint32(number)
}

func fieldKey(source string, number uint32, s section, path string) kv.Key {
	return fieldStem(source, number).Byte(byte(s)).String(path)
}

// seenField is what is stored of a property or trait.
type seenField struct {
	types       [typeCount]uint64 // calls in which it was of that type
	allowed     uint64            // calls in which it passed
	blocked     uint64            // calls in which it was omitted, or that were blocked
	first, last int64
}

func (s *seenField) encode() kv.Value {
	v := kv.Value{fieldFormat}.Uvarint(s.allowed).Uvarint(s.blocked).Varint(s.first).Varint(s.last)
	for _, n := range s.types {
		v = v.Uvarint(n)
	}
	return v
}

func decodeField(value []byte) (s seenField, err error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == fieldFormat
	s = seenField{allowed: f.Uvarint(), blocked: f.Uvarint(), first: f.Varint(), last: f.Varint()}
	for i := range s.types {
		s.types[i] = f.Uvarint()
	}
	if !known || !f.OK() {
		return seenField{}, errDamaged("property")
	}
	return s, nil
}

func sampleDayStem() kv.Key { return kv.WorkspaceKey(room).Byte(samples) }

func sampleStem(day uint32, source string, number uint32) kv.Key {
	return sampleDayStem().Uint32(day).String(source).Uint32(number)
}

func encodeSamples(list []string) kv.Value {
	v := kv.Value{sampleFormat}.Uvarint(uint64(len(list)))
	for _, s := range list {
		v = v.String(s)
	}
	return v
}

func decodeSamples(value []byte) ([]string, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == sampleFormat
	list := make([]string, 0, maxSamples)
	for range f.Count(maxSamples) {
		list = append(list, f.String())
	}
	if !known || !f.OK() {
		return nil, errDamaged("sample")
	}
	return list, nil
}

// sourcesByNumber returns the ids of the sources that have come by.
func sourcesByNumber(r kv.Reader) (map[uint32]string, error) {
	all := map[uint32]string{}
	stem := registryStem()
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		source := parts.String()
		s, err := decodeRegistered(pair.Value)
		if err != nil {
			return nil, err
		}
		all[s.number] = source
	}
	return all, nil
}

// namesOf returns the names behind the numbers of a source.
func namesOf(r kv.Reader, source string) (*names, error) {
	n := &names{events: map[uint32]string{}, versions: map[uint32]string{}}
	stem := eventStem(source)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		parts.Byte()
		name := parts.String()
		e, err := decodeEvent(pair.Value)
		if err != nil {
			return nil, err
		}
		n.events[e.number] = name
	}
	stem = versionStem(source)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		number, err := decodeVersion(pair.Value)
		if err != nil {
			return nil, err
		}
		n.versions[number] = parts.String()
	}
	return n, nil
}
