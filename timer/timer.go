package timer

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"kith/fault"
	"kith/kv"
)

// Room is the room byte of timers' keys; see docs/keys.md.
const Room = 't'

// format is the first byte of a timer's value, and of the floor's.
const format = 1

// Never is the instant of a timer that is not armed.
const Never = int64(1<<63 - 1)

// Due is a timer and the instant at which it is to fire.
type Due struct {
	At      int64  // milliseconds since 1970
	Owner   byte   // the room byte of the room that armed it
	Subject []byte // whose it is: at most 64 bytes; 16 are a profile's id, others the owner knows the meaning of
}

// Pass arms, disarms and takes timers within one transaction. It reads timers
// ahead, a few at first and then more, so that asking before every record
// whether one is due costs nothing, and firing many costs few scans. A floor
// below which no timer is armed keeps scans from passing over those that have
// fired: stores keep deleted keys for a while, and a queue's are all in front.
type Pass struct {
	tx    kv.Tx
	stem  kv.Key
	floor int64
	known bool  // floor has been read
	ahead []Due // the first timers in their order; all up to the last of them
	all   bool  // ahead holds every timer there is
	read  int   // how many timers the next scan reads
}

// The first scan of a pass reads one timer, which is enough when none is due.
const (
	firstScan = 1
	laterScan = 256
)

// NewPass returns a pass over the timers of a space and epoch.
func NewPass(tx kv.Tx, space, epoch uint32) *Pass {
	return &Pass{tx: tx, stem: kv.EpochKey(space, epoch, Room), read: firstScan}
}

// Arm sets a timer. Arming one that is set already does nothing.
func (p *Pass) Arm(d Due) error {
	i, found := slices.BinarySearchFunc(p.ahead, d, compare)
	if !found && (i < len(p.ahead) || p.all) {
		d.Subject = bytes.Clone(d.Subject)
		p.ahead = slices.Insert(p.ahead, i, d)
	}
	if err := p.readFloor(); err != nil {
		return err
	}
	if d.At < p.floor {
		if err := p.setFloor(d.At); err != nil {
			return err
		}
	}
	return p.tx.Set(p.key(d), []byte{format})
}

// Disarm removes a timer that Arm has set.
func (p *Pass) Disarm(d Due) error {
	if i, found := slices.BinarySearchFunc(p.ahead, d, compare); found {
		p.ahead = slices.Delete(p.ahead, i, i+1)
	}
	return p.tx.Delete(p.key(d))
}

// Take removes and returns the first timer due at or before now, in the order
// of (due, owner, subject), or nil when there is none.
func (p *Pass) Take(now int64) (*Due, error) {
	if len(p.ahead) == 0 && !p.all {
		if err := p.readFloor(); err != nil {
			return nil, err
		}
		due, err := scan(p.tx, p.stem, p.floor, p.read)
		if err != nil {
			return nil, err
		}
		p.ahead, p.all, p.read = due, len(due) < p.read, laterScan
	}
	if len(p.ahead) == 0 || p.ahead[0].At > now {
		return nil, nil
	}
	d := p.ahead[0]
	p.ahead = p.ahead[1:]
	if d.At > p.floor { // it was the first, so none is armed before it
		if err := p.setFloor(d.At); err != nil {
			return nil, err
		}
	}
	return &d, p.tx.Delete(p.key(d))
}

func (p *Pass) readFloor() (err error) {
	if !p.known {
		p.floor, err = floor(p.tx, p.stem)
		p.known = err == nil
	}
	return err
}

func (p *Pass) setFloor(at int64) error {
	p.floor = at
	return p.tx.Set(p.stem, kv.Value{format}.Varint(at))
}

// floor returns an instant before which no timer is armed. Its key is the stem
// alone, which no scan from a floor on meets.
func floor(r kv.Reader, stem kv.Key) (int64, error) {
	value, err := r.Get(stem)
	if err != nil || value == nil {
		return math.MinInt64, err
	}
	fields := kv.FieldsOf(value)
	if fields.Byte() != format {
		fields.Fail()
	}
	at := fields.Varint()
	if !fields.OK() {
		return 0, fault.New(fault.Internal, "the floor of the timers is damaged")
	}
	return at, nil
}

// compare orders timers as they fire.
func compare(a, b Due) int {
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Owner, b.Owner), bytes.Compare(a.Subject, b.Subject))
}

// Next returns the earliest timer of a space and epoch, or nil.
func Next(r kv.Reader, space, epoch uint32) (*Due, error) {
	stem := kv.EpochKey(space, epoch, Room)
	from, err := floor(r, stem)
	if err != nil {
		return nil, err
	}
	due, err := scan(r, stem, from, 1)
	if err != nil || len(due) == 0 {
		return nil, err
	}
	return &due[0], nil
}

// scan reads the first n timers due at from or later.
func scan(r kv.Reader, stem kv.Key, from int64, n int) ([]Due, error) {
	rng := kv.Range{From: stem.Clone().Int64(from), To: kv.PrefixEnd(stem), Limit: n}
	var due []Due
	for pair, err := range r.Scan(rng) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		d := Due{At: parts.Int64(), Owner: parts.Byte()}
		if !parts.OK() {
			return nil, fault.New(fault.Internal, "the key of a timer is damaged")
		}
		d.Subject = bytes.Clone(parts.Rest())
		due = append(due, d)
	}
	return due, nil
}

func (p *Pass) key(d Due) kv.Key {
	return p.stem.Clone().Int64(d.At).Byte(d.Owner).Fixed(d.Subject)
}
