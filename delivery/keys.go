package delivery

import (
	"encoding/base64"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Room is the room byte of delivery's keys, all in the workspace scope and
// written under the destination's fence:
//
//	CursorKind   w d destination c space                     → how far the destination is in the space's resolved log
//	CountKind    w d destination n space                     → what became of the outputs, in numbers
//	WaitingKind  w d destination w space offset subscription → an output that waits for a retry, or behind one
//	DeadKind     w d destination x at space offset subscription → a dead letter, or what became of it
//	LetterKind   w d destination i space offset subscription → at of the dead letter of that output
//	LedgerKind   w d destination l space block               → what became of the outputs of a block (ledger.go)
//	FailureKind  w d destination f code                      → the newest failures of one kind
//
// destination and subscription are ids, subscription is empty for what came
// without one; offset is of the output in the resolved log; at is the instant
// of death in milliseconds; block is an offset divided by ledgerSpan. Erasure
// class: WaitingKind and DeadKind by profile, whose id they hold beside the
// reason of the last failure; FailureKind expires, since a reason may repeat
// what was sent; the others none.
const (
	Room        = 'd'
	CursorKind  = 'c'
	CountKind   = 'n'
	WaitingKind = 'w'
	DeadKind    = 'x'
	LetterKind  = 'i'
	LedgerKind  = 'l'
	FailureKind = 'f'
)

const (
	cursorFormat  = 1
	countFormat   = 1
	waitingFormat = 1
	deadFormat    = 1
	letterFormat  = 1
	ledgerFormat  = 1
	failureFormat = 1
)

// Fence returns the fence of a destination's delivery.
func Fence(destination string) kv.Fence { return kv.Fence("delivery/" + destination) }

// stemOf is the stem of all that is kept of a destination.
func stemOf(destination string) kv.Key { return kv.WorkspaceKey(Room).String(destination) }

func cursorKey(destination string, space uint32) kv.Key {
	return stemOf(destination).Byte(CursorKind).Uint32(space)
}

func countKey(destination string, space uint32) kv.Key {
	return stemOf(destination).Byte(CountKind).Uint32(space)
}

func waitingStem(destination string, space uint32) kv.Key {
	return stemOf(destination).Byte(WaitingKind).Uint32(space)
}

func waitingKey(destination string, space uint32, at place) kv.Key {
	return waitingStem(destination, space).Uint64(uint64(at.offset)).String(at.subscription)
}

func deadStem(destination string) kv.Key { return stemOf(destination).Byte(DeadKind) }

func deadKey(destination string, id deadID) kv.Key {
	return deadStem(destination).Int64(id.at).Uint32(id.space).Uint64(uint64(id.offset)).String(id.subscription)
}

func letterKey(destination string, space uint32, at place) kv.Key {
	return stemOf(destination).Byte(LetterKind).Uint32(space).Uint64(uint64(at.offset)).String(at.subscription)
}

func encodeLetter(at int64) []byte { return kv.Value{letterFormat}.Varint(at) }

func decodeLetter(value []byte) (at int64, err error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == letterFormat
	if at = f.Varint(); !known || !f.OK() {
		return 0, errDamaged("place of a dead letter")
	}
	return at, nil
}

func ledgerStem(destination string, space uint32) kv.Key {
	return stemOf(destination).Byte(LedgerKind).Uint32(space)
}

func ledgerKey(destination string, space uint32, number uint64) kv.Key {
	return ledgerStem(destination, space).Uint64(number)
}

func failureStem(destination string) kv.Key { return stemOf(destination).Byte(FailureKind) }

func failureKey(destination, code string) kv.Key { return failureStem(destination).String(code) }

// place names an output at a destination, within a space.
type place struct {
	offset       commitlog.Offset
	subscription string
}

// deadID names a dead letter of a destination.
type deadID struct {
	at    int64
	space uint32
	place
}

// String returns the id in the form that people pass around.
func (d deadID) String() string {
	return base64.RawURLEncoding.EncodeToString(deadKey("", d)[len(deadStem("")):])
}

// parseDeadID reads what String wrote.
func parseDeadID(s string) (deadID, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) > 1<<10 {
		return deadID{}, fault.New(fault.Invalid, "%.80q is no id of a dead letter", s)
	}
	d, ok := deadIDAfter(b, nil)
	if !ok {
		return deadID{}, fault.New(fault.Invalid, "%.80q is no id of a dead letter", s)
	}
	return d, nil
}

// deadIDAfter reads the parts of a dead letter's key that follow its stem.
func deadIDAfter(key []byte, stem kv.Key) (deadID, bool) {
	p := kv.PartsAfter(key, stem)
	d := deadID{at: p.Int64(), space: p.Uint32()}
	d.offset = commitlog.Offset(p.Uint64())
	d.subscription = p.String()
	return d, p.OK() && len(p.Rest()) == 0
}

// cursor is how far a destination is in a log: everything before base is
// settled, and between base and frontier everything but the runs of pending.
type cursor struct {
	base, frontier commitlog.Offset
	pending        []run
}

// run is a run of offsets.
type run struct{ first, end commitlog.Offset }

func (c *cursor) encode() []byte {
	v := kv.Value{cursorFormat}.Uvarint(uint64(c.base)).Uvarint(uint64(c.frontier - c.base)).Uvarint(uint64(len(c.pending)))
	at := c.base
	for _, r := range c.pending {
		v = v.Uvarint(uint64(r.first - at)).Uvarint(uint64(r.end - r.first))
		at = r.end
	}
	return v
}

func decodeCursor(value []byte) (cursor, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == cursorFormat
	c := cursor{base: commitlog.Offset(f.Uvarint())}
	c.frontier = c.base + commitlog.Offset(f.Uvarint())
	n := f.Uvarint()
	at := c.base
	for range n {
		r := run{first: at + commitlog.Offset(f.Uvarint())}
		r.end = r.first + commitlog.Offset(f.Uvarint())
		if !f.OK() || r.first < at || r.end <= r.first || r.end > c.frontier {
			return cursor{}, errDamaged("cursor")
		}
		c.pending = append(c.pending, r)
		at = r.end
	}
	if !known || !f.OK() {
		return cursor{}, errDamaged("cursor")
	}
	return c, nil
}

func (c *Counts) encode() []byte {
	v := kv.Value{countFormat}.Uvarint(c.Delivered).Uvarint(c.Dead).Uvarint(c.Waiting).Uvarint(c.Attempts).Uvarint(c.Failures).Uvarint(uint64(len(c.Filtered)))
	for _, n := range c.Filtered {
		v = v.Uvarint(n)
	}
	return v
}

func decodeCounts(value []byte) (c Counts, err error) {
	if value == nil {
		return c, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == countFormat
	c.Delivered, c.Dead, c.Waiting, c.Attempts, c.Failures = f.Uvarint(), f.Uvarint(), f.Uvarint(), f.Uvarint(), f.Uvarint()
	for i := range f.Uvarint() {
		n := f.Uvarint()
		if !f.OK() || i >= uint64(len(c.Filtered)) {
			return Counts{}, errDamaged("count")
		}
		c.Filtered[i] = n
	}
	if !known || !f.OK() {
		return Counts{}, errDamaged("count")
	}
	return c, nil
}

// waiting is what is stored of an output that waits. Due is zero for one that
// waits behind another of its profile.
type waiting struct {
	profile  event.ProfileID
	attempts int
	split    int   // how often its batch was made smaller
	first    int64 // when it was tried first, in milliseconds; zero: never
	due      int64
	died     int64 // for a dead letter that is sent again: the instant in its id, else zero
	reason   string
}

func (w *waiting) encode() []byte {
	return kv.Value{waitingFormat}.Fixed(w.profile[:]).Uvarint(uint64(w.attempts)).Uvarint(uint64(w.split)).
		Varint(w.first).Varint(w.due).Varint(w.died).String(w.reason)
}

func decodeWaiting(value []byte) (waiting, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == waitingFormat
	w := waiting{}
	copy(w.profile[:], f.Fixed(len(w.profile)))
	w.attempts, w.split = int(f.Uvarint()), int(f.Uvarint())
	w.first, w.due, w.died = f.Varint(), f.Varint(), f.Varint()
	w.reason = f.String()
	if !known || !f.OK() {
		return waiting{}, errDamaged("waiting output")
	}
	return w, nil
}

// dead is what is stored of a dead letter.
type dead struct {
	profile  event.ProfileID
	state    DeadState
	attempts int
	first    int64 // when it was tried first
	resentAt int64 // when it was last sent again, zero: never
	reason   string
}

func (d *dead) encode() []byte {
	return kv.Value{deadFormat}.Fixed(d.profile[:]).Byte(byte(d.state)).Uvarint(uint64(d.attempts)).
		Varint(d.first).Varint(d.resentAt).String(d.reason)
}

func decodeDead(value []byte) (dead, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == deadFormat
	d := dead{}
	copy(d.profile[:], f.Fixed(len(d.profile)))
	d.state, d.attempts = DeadState(f.Byte()), int(f.Uvarint())
	d.first, d.resentAt = f.Varint(), f.Varint()
	d.reason = f.String()
	if !known || !f.OK() {
		return dead{}, errDamaged("dead letter")
	}
	return d, nil
}

func errDamaged(what string) error {
	return fault.New(fault.Internal, "a stored %s of delivery is damaged or of an unknown format", what)
}
