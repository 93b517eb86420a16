package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// register is what an Observer has in memory: what is known of the sources that
// have come by, and what was counted since the last commit. All of it is read
// back from the store when it is needed again, so it may be dropped at any
// commit.
type register struct {
	cfg     *ObserverConfig
	sources map[string]*source
	shapes  map[string]*shape
	numbers uint32 // the highest of a source; known once ready
	ready   bool

	// most is how many calls one commit may have: fewer while a transaction
	// does not take what so many bring about.
	most int

	// Since the last commit.
	calls   int
	dirty   []*shape
	tallies map[tallyKey]uint64
	users   *users
	touched []*source // with new numbers or counts
	renewed []*happening
	changed []*field

	bytes   int // of shapes
	kept    int // bytes of events and fields, about
	outline outline
}

// Bounds of what a register has in memory; beyond, it starts over at a commit.
const (
	maxShapes     = 8192
	maxShapeBytes = 16 << 20
	maxKnownBytes = 64 << 20 // of events and fields
	knownBytes    = 300      // of one, beside its name and samples
	maxShapeKey   = 16 << 10 // a larger outline is not remembered
)

// source is what is known of a source.
type source struct {
	registered
	id     string
	events map[happeningKey]*happening
	named  map[string]uint32 // app versions
	fresh  []string          // app versions that are not stored yet
	dirty  bool
}

type happeningKey struct {
	kind event.Type
	name string
}

// happening is an event of a source. One without a number is all those of a
// type that the source has too many of.
type happening struct {
	seenEvent
	happeningKey
	source *source
	fields map[fieldName]*field // nil until they are read
	inUse  [inContext + 1]int   // fields by section
	dirty  bool
}

type fieldName struct {
	section section
	path    string
}

// field is a property or trait.
type field struct {
	seenField
	fieldName
	event      *happening
	samples    []string // of sampleDay
	sampleDay  uint32
	dirty      bool
	newSamples bool
}

// shape is what calls of one outline have in common.
type shape struct {
	event   *happening
	stage   byte
	reason  string
	fields  []sighting
	leftOut uint64 // properties of such a call that are not kept

	n           uint64 // since the last commit
	first, last int64
	sampled     int // calls of sampleDay that samples were taken of
	sampleDay   uint32

	minute  uint32 // of the tally that the last calls went to
	version []byte
	tally   uint64

	versionLeft bool // the version has no number
	place       tallyKey
}

// sighting is a field in calls of one shape.
type sighting struct {
	field   *field
	types   uint8 // a bit for each type
	blocked bool
}

type tallyKey struct {
	minute uint32
	volumeKey
}

func newRegister(cfg *ObserverConfig) *register {
	return &register{cfg: cfg, most: chunkCalls, sources: map[string]*source{}, shapes: map[string]*shape{}, tallies: map[tallyKey]uint64{}, users: newUsers()}
}

// full reports whether it is time to commit.
func (g *register) full() bool {
	return g.calls >= g.most || len(g.shapes) > 2*maxShapes || g.bytes > 2*maxShapeBytes || g.kept > 2*maxKnownBytes ||
		len(g.tallies)+len(g.changed)+g.users.size() > chunkWrites
}

// committed forgets what was counted. Of what is known it forgets all when that
// is much.
func (g *register) committed() {
	g.calls, g.dirty, g.touched, g.renewed, g.changed = 0, g.dirty[:0], g.touched[:0], g.renewed[:0], g.changed[:0]
	g.most = min(chunkCalls, 2*g.most)
	clear(g.tallies)
	g.users.committed()
	if len(g.shapes) > maxShapes || g.bytes > maxShapeBytes || g.kept > maxKnownBytes {
		g.sources, g.shapes = map[string]*source{}, map[string]*shape{}
		g.bytes, g.kept = 0, 0
	}
}

// observe counts one record.
func (g *register) observe(ctx context.Context, space uint32, r *pipeline.Judged) error {
	kind := r.Head.Type
	switch r.Head.Kind {
	case event.KindEvent:
	case event.KindObject:
		kind = objectKind
	default:
		return nil
	}
	g.calls++
	s, err := g.shapeOf(ctx, kind, r)
	if err != nil {
		return err
	}
	if s.n == 0 {
		s.first = r.Head.At
		g.dirty = append(g.dirty, s)
	}
	s.n++
	s.last = r.Head.At

	minute := uint32(max(r.Head.At, 0) / time.Minute.Milliseconds())
	if s.tally == 0 || s.minute != minute || !bytes.Equal(s.version, g.outline.version) {
		g.put(s)
		version := g.version(s, g.outline.version)
		s.minute, s.version = minute, append(s.version[:0], g.outline.version...)
		s.place = tallyKey{minute, volumeKey{s.event.source.number, kind, s.event.number, version, s.stage, s.reason}}
	}
	s.tally++

	if r.Verdict.Code != pipeline.Admitted || kind == objectKind {
		return nil
	}
	if !g.cfg.NoSamples {
		g.sample(s, r)
	}
	g.users.saw(space, s.event.source.number, r)
	return nil
}

// put adds what was counted lately to all tallies.
func (g *register) put(s *shape) {
	if s.tally == 0 {
		return
	}
	g.tallies[s.place] += s.tally
	if s.versionLeft {
		s.event.source.versionLeft += s.tally
		g.touch(s.event.source)
	}
	s.tally = 0
}

// shapeOf returns the shape of a call. The outline stays in g.outline.
func (g *register) shapeOf(ctx context.Context, kind event.Type, r *pipeline.Judged) (*shape, error) {
	name := event.Label(kind, r.Head.Name)
	if kind == objectKind {
		name = r.Head.Name
	}
	reason := ""
	if r.Verdict.Code == pipeline.Blocked || r.Verdict.Code == pipeline.Dropped {
		reason = codeOf(r.Verdict.Reason)
	}
	key := append(g.outline.shape[:0], byte(r.Verdict.Code), byte(kind))
	for _, part := range [...]string{r.Head.Source, name, reason} {
		key = binary.AppendUvarint(key, uint64(len(part)))
		key = append(key, part...)
	}
	g.outline.shape, g.outline.version = key, nil
	if kind != objectKind {
		g.outline.call(kind, r.Raw)
	}
	var omitted []string
	if r.Verdict.Body != nil && r.Verdict.Code == pipeline.Admitted {
		omitted = omittedFrom(r.Verdict.Body)
		for _, path := range omitted {
			g.outline.shape = append(append(g.outline.shape, 0), path...)
		}
	}
	if s := g.shapes[string(g.outline.shape)]; s != nil {
		return s, nil
	}
	e, err := g.happening(ctx, r.Head.Source, happeningKey{kind, name})
	if err != nil {
		return nil, err
	}
	s := &shape{event: e, stage: byte(r.Verdict.Code), reason: reason}
	if kind != objectKind && (r.Verdict.Code == pipeline.Admitted || r.Verdict.Code == pipeline.Blocked) {
		g.look(s, r, omitted)
	}
	if len(g.outline.shape) <= maxShapeKey {
		g.shapes[string(g.outline.shape)] = s
	}
	g.bytes += len(g.outline.shape) + 32*len(s.fields) + 200
	return s, nil
}

// omittedFrom returns the fields that the plan has taken out of an event, as
// trackingplan notes them in context.protocols.
func omittedFrom(body []byte) (list []string) {
	for _, name := range [...]string{"context.protocols.omitted", "context.protocols.omitted_on_violation"} {
		for _, path := range gjson.GetBytes(body, name).Array() {
			list = append(list, path.Str)
		}
	}
	return list
}

// codeOf returns the code that a verdict's reason begins with: "unplanned: the
// plan has no event …".
func codeOf(reason string) string {
	code, _, _ := strings.Cut(reason, ":")
	for len(code) > maxCodeBytes || !utf8.ValidString(code) {
		code = strings.ToValidUTF8(code[:min(len(code), maxCodeBytes)], "")
	}
	return code
}

const maxCodeBytes = 64

// source returns what is known of a source, and gives it a number when it is
// new.
func (g *register) source(ctx context.Context, id string) (*source, error) {
	if s := g.sources[id]; s != nil {
		return s, nil
	}
	id = strings.Clone(id) // it is part of a block
	s := &source{id: id, events: map[happeningKey]*happening{}, named: map[string]uint32{}}
	highest := g.numbers
	err := g.cfg.DB.View(ctx, func(r kv.Reader) error {
		if !g.ready {
			all, err := sourcesByNumber(r)
			if err != nil {
				return err
			}
			for n := range all {
				highest = max(highest, n)
			}
		}
		value, err := r.Get(registryKey(id))
		if err != nil || value == nil {
			return err
		}
		if s.registered, err = decodeRegistered(value); err != nil {
			return err
		}
		return s.read(r)
	})
	if err != nil {
		return nil, err
	}
	for key := range s.events {
		g.kept += knownBytes + len(key.name)
	}
	g.numbers, g.ready = highest, true
	if s.number == 0 {
		g.numbers++
		s.number = g.numbers
		g.touch(s)
	}
	g.sources[id] = s
	return s, nil
}

// read reads a source's events, without their fields, and app versions.
func (s *source) read(r kv.Reader) error {
	stem := eventStem(s.id)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		e := &happening{source: s, happeningKey: happeningKey{event.Type(parts.Byte()), parts.String()}}
		if e.seenEvent, err = decodeEvent(pair.Value); err != nil {
			return err
		}
		s.events[e.happeningKey] = e
	}
	stem = versionStem(s.id)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		if s.named[parts.String()], err = decodeVersion(pair.Value); err != nil {
			return err
		}
	}
	return nil
}

func (g *register) touch(s *source) {
	if !s.dirty {
		s.dirty = true
		g.touched = append(g.touched, s)
	}
}

// happening returns an event of a source, and gives it a number when it is new
// and there is room.
func (g *register) happening(ctx context.Context, id string, key happeningKey) (*happening, error) {
	s, err := g.source(ctx, id)
	if err != nil {
		return nil, err
	}
	e := s.events[key]
	switch {
	case e != nil:
	case s.registered.events < uint64(g.cfg.Limits.Events) && len(key.name) <= g.cfg.Limits.PathBytes:
		s.registered.events++
		key.name = strings.Clone(key.name)
		e = &happening{source: s, happeningKey: key, seenEvent: seenEvent{number: uint32(s.registered.events)}, fields: map[fieldName]*field{}}
		s.events[key] = e
		g.kept += knownBytes + len(key.name)
		g.touch(s)
	default:
		return &happening{source: s, happeningKey: happeningKey{kind: key.kind}}, nil
	}
	if e.fields == nil {
		if err := g.readFields(ctx, e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// readFields reads the properties of an event, and the samples of today.
func (g *register) readFields(ctx context.Context, e *happening) error {
	today := dayOf(g.cfg.Clock.Now().UnixMilli())
	return g.cfg.DB.View(ctx, func(r kv.Reader) error {
		e.fields, e.inUse = map[fieldName]*field{}, [inContext + 1]int{}
		stem := fieldStem(e.source.id, e.number)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			f := &field{event: e, fieldName: fieldName{section(parts.Byte()), parts.String()}}
			if f.seenField, err = decodeField(pair.Value); err != nil {
				return err
			}
			e.fields[f.fieldName] = f
			e.inUse[f.section]++
			g.kept += knownBytes + len(f.path)
		}
		stem = sampleStem(today, e.source.id, e.number)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			f := e.fields[fieldName{section(parts.Byte()), parts.String()}]
			if f == nil {
				continue
			}
			f.sampleDay = today
			if f.samples, err = decodeSamples(pair.Value); err != nil {
				return err
			}
			g.kept += len(pair.Value)
		}
		return nil
	})
}

// look finds the fields of a call that is the first of its shape.
func (g *register) look(s *shape, r *pipeline.Judged, omitted []string) {
	if s.event.number == leftOut {
		return
	}
	at := map[*field]int{}
	left := map[fieldName]bool{}
	blocked := r.Verdict.Code == pipeline.Blocked
	visit(r.Head.Type, r.Raw, func(in section, path string, v gjson.Result) {
		name := fieldName{in, path}
		f := s.event.fields[name]
		if f == nil {
			if s.event.inUse[in] >= g.cfg.Limits.Properties || len(path) > g.cfg.Limits.PathBytes {
				left[name] = true
				return
			}
			name.path = strings.Clone(path)
			f = &field{event: s.event, fieldName: name}
			s.event.fields[name] = f
			s.event.inUse[in]++
			s.event.properties++
			g.kept += knownBytes + len(path)
		}
		i, ok := at[f]
		if !ok {
			i = len(s.fields)
			at[f] = i
			s.fields = append(s.fields, sighting{field: f, blocked: blocked || isOmitted(omitted, name)})
		}
		s.fields[i].types |= 1 << typeOf(v.Raw[0])
	})
	s.leftOut = uint64(len(left))
}

// isOmitted reports whether a field, or what it lies in, was taken out.
func isOmitted(omitted []string, name fieldName) bool {
	for _, path := range omitted {
		in, path, _ := strings.Cut(path, ".")
		if in == "properties" && name.section == inProperties || in == "traits" && name.section == inTraits {
			have := strings.ReplaceAll(name.path, `\`, "")
			if rest, ok := strings.CutPrefix(have, path); ok && (rest == "" || rest[0] == '.') {
				return true
			}
		}
	}
	return false
}

// version returns the number of an app version as it stands in the JSON, for
// calls of a shape.
func (g *register) version(of *shape, quoted []byte) uint32 {
	of.versionLeft = false
	if len(quoted) <= 2 {
		return leftOut
	}
	s := of.event.source
	name := gjson.ParseBytes(quoted).Str
	if len(name) > maxVersionBytes {
		name = strings.ToValidUTF8(name[:maxVersionBytes], "")
	}
	if n, ok := s.named[name]; ok {
		return n
	}
	if s.registered.versions >= uint64(g.cfg.Limits.Versions) {
		of.versionLeft = true
		return leftOut
	}
	g.touch(s)
	s.registered.versions++
	name = strings.Clone(name)
	s.named[name] = uint32(s.registered.versions)
	s.fresh = append(s.fresh, name)
	return s.named[name]
}

const maxVersionBytes = 64

// sampleDays is for how many days samples are kept: with the day on which they
// are removed, less than the erase deadline.
const sampleDays = 6

// sample takes values of the first calls of a shape each day.
func (g *register) sample(s *shape, r *pipeline.Judged) {
	today := dayOf(r.Head.At)
	if s.sampleDay != today {
		s.sampleDay, s.sampled = today, 0
	}
	if s.sampled >= maxSamples || len(s.fields) == 0 {
		return
	}
	s.sampled++
	if now := dayOf(g.cfg.Clock.Now().UnixMilli()); today+sampleDays-1 < now {
		s.sampled = maxSamples // they would be removed at once
		return
	}
	visit(r.Head.Type, r.Processed(), func(in section, path string, v gjson.Result) {
		f := s.event.fields[fieldName{in, path}]
		if f == nil {
			return
		}
		if f.sampleDay != today {
			f.sampleDay, f.samples = today, nil
		}
		if len(f.samples) >= maxSamples {
			return
		}
		text, ok := sampleOf(v)
		if !ok || slices.Contains(f.samples, text) {
			return
		}
		f.samples, f.newSamples = append(f.samples, text), true
		g.kept += len(text)
		g.change(f)
	})
}

func (g *register) change(f *field) {
	if !f.dirty {
		f.dirty = true
		g.changed = append(g.changed, f)
	}
}

// settle adds up what was counted and returns what is to be written.
func (g *register) settle(ctx context.Context) ([]kv.Pair, error) {
	for _, s := range g.dirty {
		g.add(s)
	}
	var pairs []kv.Pair
	set := func(k kv.Key, v kv.Value) { pairs = append(pairs, kv.Pair{Key: k, Value: v}) }
	for _, e := range g.renewed {
		e.dirty = false
		set(eventKey(e.source.id, e.kind, e.name), e.encode())
	}
	for _, f := range g.changed {
		f.dirty = false
		set(fieldKey(f.event.source.id, f.event.number, f.section, f.path), f.encode())
		if f.newSamples {
			f.newSamples = false
			key := sampleStem(f.sampleDay, f.event.source.id, f.event.number).Byte(byte(f.section)).String(f.path)
			set(key, encodeSamples(f.samples))
		}
	}
	for _, s := range g.touched {
		s.dirty = false
		set(registryKey(s.id), s.encode())
		for _, name := range s.fresh {
			set(versionStem(s.id).String(name), encodeVersion(s.named[name]))
		}
		s.fresh = nil
	}
	counted, err := g.volumes(ctx)
	if err != nil {
		return nil, err
	}
	people, err := g.users.settle(ctx, g.cfg.DB)
	if err != nil {
		return nil, err
	}
	pairs = append(append(pairs, counted...), people...)
	// A store takes what is in order faster.
	slices.SortFunc(pairs, func(a, b kv.Pair) int { return bytes.Compare(a.Key, b.Key) })
	return pairs, nil
}

// add adds a shape's calls to its event and fields.
func (g *register) add(s *shape) {
	g.put(s)
	e := s.event
	if e.number == leftOut {
		e.source.eventsLeft += s.n
		g.touch(e.source)
		s.n = 0
		return
	}
	if !e.dirty {
		e.dirty = true
		g.renewed = append(g.renewed, e)
	}
	passed := s.stage == byte(pipeline.Admitted)
	blocked := s.stage == byte(pipeline.Blocked)
	if passed || blocked {
		if e.last == 0 {
			e.first = s.first
		}
		e.first, e.last = min(e.first, s.first), max(e.last, s.last)
	}
	if passed {
		e.allowed += s.n
	}
	if blocked {
		e.blocked += s.n
	}
	e.propertiesLeft += s.n * s.leftOut
	for i := range s.fields {
		f := s.fields[i].field
		if f.last == 0 {
			f.first = s.first
		}
		f.first, f.last = min(f.first, s.first), max(f.last, s.last)
		if s.fields[i].blocked {
			f.blocked += s.n
		} else {
			f.allowed += s.n
		}
		for t := range f.types {
			if s.fields[i].types&(1<<t) != 0 {
				f.types[t] += s.n
			}
		}
		g.change(f)
	}
	s.n = 0
}

// volumes adds what was tallied to the stored counts of every grain.
func (g *register) volumes(ctx context.Context) (pairs []kv.Pair, err error) {
	var keys [][]byte
	var counts []uint64
	for _, grain := range grains() {
		sums := map[tallyKey]uint64{}
		for k, n := range g.tallies {
			k.minute = bucketOf(grain, startOf(k.minute))
			sums[k] += n
		}
		for k, n := range sums {
			keys, counts = append(keys, k.at(grain, k.minute)), append(counts, n)
		}
	}
	err = g.cfg.DB.View(ctx, func(r kv.Reader) error {
		pairs = nil
		stored, err := r.GetMany(keys)
		if err != nil {
			return err
		}
		for i, key := range keys {
			before, err := decodeCount(stored[i])
			if err != nil {
				return err
			}
			pairs = append(pairs, kv.Pair{Key: key, Value: encodeCount(before + counts[i])})
		}
		return nil
	})
	return pairs, err
}

// dayOf returns the day of an instant in milliseconds, in days since 1970.
func dayOf(at int64) uint32 { return uint32(max(at, 0) / (24 * time.Hour).Milliseconds()) }

// monthOf returns the month of an instant, in months since year 0.
func monthOf(at time.Time) uint32 {
	at = at.UTC()
	return uint32(at.Year()*12 + int(at.Month()) - 1)
}
