package identity

import (
	"slices"

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

// node is one version of a profile within a batch, or a profile as it is
// stored, with its long lists in pages.
type node struct {
	id         event.ProfileID
	collection string
	created    Cause
	ids        list[Identified]
	spans      [][]span // of the stored pages of ids
	bytes      int      // of identifiers on the stored pages
	merged     list[event.ProfileID]

	seq     int   // of the record that made it; zero as it was stored
	before  *node // the version before, within this batch
	written bool  // is in pass.changed

	sides   []side   // on which it stands
	sidesIn *orders  // under these standing commands; nil when sides are not known
	made    *Profile // what profile returns
}

// next returns a version to come.
func (n *node) next() *node {
	return &node{id: n.id, collection: n.collection, created: n.created, ids: n.ids, spans: n.spans, bytes: n.bytes, merged: n.merged}
}

// without returns a version to come that has not an identifier.
func (n *node) without(id event.Identifier) (*node, error) {
	next := n.next()
	var err error
	next.ids, err = n.ids.without(func(x Identified) bool { return x.Identifier == id })
	next.spans, next.bytes = nil, 0
	return next, err
}

// profile returns the whole profile, which must not be changed.
func (n *node) profile() (*Profile, error) {
	if n.made != nil {
		return n.made, nil
	}
	p := &Profile{ID: n.id, Collection: n.collection, Created: n.created}
	var err error
	if p.Identifiers, err = n.ids.all(); err != nil {
		return nil, err
	}
	if p.Merged, err = n.merged.all(); err != nil {
		return nil, err
	}
	n.made = p
	return p, nil
}

// types calls fn with the types of the profile's identifiers, some of them
// more than once.
func (n *node) types(fn func(name string)) {
	for _, page := range n.spans {
		for i := range page {
			fn(page[i].name)
		}
	}
	for i := range n.ids.tail {
		fn(n.ids.tail[i].Type)
	}
}

// hasType reports whether the profile has an identifier of one of these types.
func (n *node) hasType(types []string) bool {
	for i := range n.ids.tail {
		if slices.Contains(types, n.ids.tail[i].Type) {
			return true
		}
	}
	for _, page := range n.spans {
		for i := range page {
			if slices.Contains(types, page[i].name) {
				return true
			}
		}
	}
	return false
}

// find returns an identifier of the profile.
func (n *node) find(id event.Identifier) (x Identified, found bool, err error) {
	in := func(list []Identified) bool {
		for i := range list {
			if list[i].Identifier == id {
				x, found = list[i], true
			}
		}
		return found
	}
	if in(n.ids.tail) {
		return x, found, nil
	}
	for i, spans := range n.spans {
		for j := range spans {
			if spans[j].name != id.Type {
				continue
			}
			page, err := n.ids.page(i)
			if err != nil || in(page) {
				return x, found, err
			}
		}
	}
	return x, found, nil
}

// count returns how many identifiers of a type count towards a limit with
// that window, for an event of that time. Only pages that the window cuts are
// read.
func (n *node) count(name string, time, window int64) (int, error) {
	total := 0
	for i, spans := range n.spans {
		for j := range spans {
			s := &spans[j]
			switch {
			case s.name != name, window > 0 && (s.to <= time-window || s.from > time):
			case window == 0, s.from > time-window && s.to <= time:
				total += s.count
			default:
				page, err := n.ids.page(i)
				if err != nil {
					return 0, err
				}
				total += countIn(page, name, time, window)
			}
		}
	}
	return total + countIn(n.ids.tail, name, time, window), nil
}

func countIn(ids []Identified, name string, time, window int64) int {
	n := 0
	for i := range ids {
		if ids[i].Type == name && counts(ids[i].At, time, window) {
			n++
		}
	}
	return n
}

// size returns about how many bytes the profile's identifiers take.
func (n *node) size() int {
	total := n.bytes
	for i := range n.ids.tail {
		total += bytesOf(&n.ids.tail[i])
	}
	return total
}

func bytesOf(x *Identified) int { return len(x.Type) + len(x.Value) + 40 }

// write writes the profile: its head, and the pages that have filled.
func (n *node) write(tx kv.Tx, k keys) error {
	pages, rest, err := n.ids.write(tx, func(page int) kv.Key { return k.page(n.id, page) }, encodeIdentifierPage)
	if err != nil {
		return err
	}
	head := &node{id: n.id, collection: n.collection, created: n.created, bytes: n.bytes}
	head.spans = n.spans[:len(n.spans):len(n.spans)]
	for full := n.ids.tail[:len(n.ids.tail)-len(rest)]; len(full) > 0; full = full[pageItems:] {
		head.spans = append(head.spans, spansOf(full[:pageItems]))
		for i := range full[:pageItems] {
			head.bytes += bytesOf(&full[i])
		}
	}
	head.ids = list[Identified]{front: &front[Identified]{pages: make([][]Identified, pages)}, tail: rest}
	mergedPages, mergedRest, err := n.merged.write(tx, func(page int) kv.Key { return k.mergedPage(n.id, page) }, encodeMergedPage)
	if err != nil {
		return err
	}
	head.merged = list[event.ProfileID]{front: &front[event.ProfileID]{pages: make([][]event.ProfileID, mergedPages)}, tail: mergedRest}
	return tx.Set(k.graph(n.id), encodeGraph(head))
}

// encodeGraph writes the head of a profile, without its id, which is in the
// key: the creating record, what is on the pages, and the tails of the lists.
func encodeGraph(n *node) kv.Value {
	c := &n.created
	v := make(kv.Value, 0, 128+64*len(n.ids.tail)+16*len(n.merged.tail)+16*len(n.spans))
	v = v.Byte(graphFormat).Byte(collectionByte(n.collection))
	v = v.Uvarint(uint64(c.Offset)).Varint(c.At).Varint(c.Time).String(c.MessageID).String(c.SourceID)
	v = appendSpans(v, n.spans).Uvarint(uint64(n.bytes))
	v = appendIdentified(v, n.ids.tail)
	v = v.Uvarint(uint64(n.merged.stored()))
	return appendMerged(v, n.merged.tail)
}

// appendSpans writes the names of types once, and then each page's types.
func appendSpans(v kv.Value, pages [][]span) kv.Value {
	var names []string
	number := func(name string) uint64 {
		i := slices.Index(names, name)
		if i < 0 {
			i, names = len(names), append(names, name)
		}
		return uint64(i)
	}
	var body kv.Value
	for _, spans := range pages {
		body = body.Uvarint(uint64(len(spans)))
		for _, s := range spans {
			body = body.Uvarint(number(s.name)).Uvarint(uint64(s.count)).Varint(s.from).Varint(s.to - s.from)
		}
	}
	v = v.Uvarint(uint64(len(names)))
	for _, name := range names {
		v = v.String(name)
	}
	return v.Uvarint(uint64(len(pages))).Fixed(body)
}

func readSpans(f *kv.Fields, limit int) [][]span {
	names := make([]string, f.Count(limit))
	for i := range names {
		names[i] = f.String()
	}
	pages := make([][]span, f.Count(limit))
	for i := range pages {
		spans := make([]span, f.Count(len(names)))
		for j := range spans {
			n := f.Count(len(names) - 1)
			s := span{count: f.Count(pageItems), from: f.Varint()}
			s.to = s.from + f.Varint()
			if n < len(names) {
				s.name = names[n]
			}
			spans[j] = s
		}
		pages[i] = spans
	}
	return pages
}

// appendIdentified writes the records that attached identifiers, each once,
// and then the identifiers with the number of their record.
func appendIdentified(v kv.Value, ids []Identified) kv.Value {
	var causes []*Identified
	numbers := make([]int, len(ids))
	for i := range ids {
		x := &ids[i]
		n := len(causes) - 1
		for n >= 0 && causes[n].Offset != x.Offset {
			n--
		}
		if n < 0 {
			n = len(causes)
			causes = append(causes, x)
		}
		numbers[i] = n
	}
	v = v.Uvarint(uint64(len(causes)))
	for _, c := range causes {
		v = v.Uvarint(uint64(c.Offset)).Varint(c.At).String(c.MessageID).String(c.SourceID)
	}
	v = v.Uvarint(uint64(len(ids)))
	for i := range ids {
		v = v.String(ids[i].Type).String(ids[i].Value).Uvarint(uint64(numbers[i]))
	}
	return v
}

func readIdentified(f *kv.Fields, collection string, limit int) []Identified {
	causes := make([]Cause, f.Count(limit))
	for i := range causes {
		causes[i] = Cause{Offset: commitlog.Offset(f.Uvarint()), Time: f.Varint(), MessageID: f.String(), SourceID: f.String()}
	}
	ids := make([]Identified, f.Count(limit))
	if len(ids) > 0 && len(causes) == 0 {
		f.Fail()
		return nil
	}
	for i := range ids {
		x := Identified{Identifier: event.Identifier{Collection: collection, Type: f.String(), Value: f.String()}}
		c := &causes[f.Count(len(causes)-1)]
		x.At, x.Offset, x.MessageID, x.SourceID = c.Time, c.Offset, c.MessageID, c.SourceID
		ids[i] = x
	}
	return ids
}

func appendMerged(v kv.Value, merged []event.ProfileID) kv.Value {
	v = v.Uvarint(uint64(len(merged)))
	for _, m := range merged {
		v = v.Fixed(m[:])
	}
	return v
}

func readMerged(f *kv.Fields, limit int) (merged []event.ProfileID) {
	for range f.Count(limit) {
		var m event.ProfileID
		copy(m[:], f.Fixed(len(m)))
		merged = append(merged, m)
	}
	return merged
}

// decodeGraph reads the head of a profile; its pages are read from r when they
// are asked for.
func decodeGraph(r kv.Reader, k keys, id event.ProfileID, value []byte) (*node, error) {
	f := kv.FieldsOf(value)
	format := f.Byte()
	n := &node{id: id, collection: collectionOf(f.Byte())}
	switch format {
	case graphFormat:
		n.created.Offset, n.created.At, n.created.Time = commitlog.Offset(f.Uvarint()), f.Varint(), f.Varint()
		n.created.MessageID, n.created.SourceID = f.String(), f.String()
		n.spans, n.bytes = readSpans(&f, len(value)), int(f.Uvarint())
		n.ids.tail = readIdentified(&f, n.collection, len(value))
		pages := f.Count(1 << 24)
		n.merged.tail = readMerged(&f, len(value))
		n.ids.front = frontOf(r, len(n.spans), func(page int) kv.Key { return k.page(id, page) }, decodeIdentifierPage(n.collection))
		if f.OK() {
			n.merged.front = frontOf(r, pages, func(page int) kv.Key { return k.mergedPage(id, page) }, decodeMergedPage)
		}
	case graphWhole:
		readWhole(&f, n, len(value))
	default:
		return nil, errStored
	}
	if !f.OK() {
		return nil, errStored
	}
	return n, nil
}

// headCollection returns the collection of a stored profile.
func headCollection(value []byte) (string, error) {
	f := kv.FieldsOf(value)
	format, collection := f.Byte(), collectionOf(f.Byte())
	if !f.OK() || format != graphFormat && format != graphWhole {
		return "", errStored
	}
	return collection, nil
}

// readWhole reads a profile of the format that had no pages.
func readWhole(f *kv.Fields, n *node, limit int) {
	at := f.Varint()
	causes := make([]Cause, f.Count(limit))
	for i := range causes {
		causes[i] = Cause{Offset: commitlog.Offset(f.Uvarint()), Time: f.Varint(), MessageID: f.String(), SourceID: f.String()}
	}
	if len(causes) == 0 {
		f.Fail()
		return
	}
	n.created = causes[0]
	n.created.At = at
	n.ids.tail = make([]Identified, f.Count(limit))
	for i := range n.ids.tail {
		x := Identified{Identifier: event.Identifier{Collection: n.collection, Type: f.String(), Value: f.String()}}
		c := causes[f.Count(len(causes)-1)]
		x.At, x.Offset, x.MessageID, x.SourceID = c.Time, c.Offset, c.MessageID, c.SourceID
		n.ids.tail[i] = x
	}
	n.merged.tail = readMerged(f, limit)
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
