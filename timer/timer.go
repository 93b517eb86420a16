package timer

import (
	"kith/kv"
)

// Room is the room byte of timers' keys; see docs/keys.md.
const Room = 't'

// format is the first byte of a timer's value.
const format = 1

// Never is the instant of a timer that is not armed.
const Never = int64(1<<63 - 1)

// Due is a timer and the instant at which it is to fire.
type Due struct {
	At      int64  // milliseconds since 1970
	Owner   byte   // the room byte of the room that armed it
	Subject []byte // whose it is: at most 64 bytes, the owner knows their meaning
}

// Pass arms, disarms and takes timers within one transaction. It remembers the
// earliest instant, so that asking for it before every record costs nothing.
type Pass struct {
	tx       kv.Tx
	stem     kv.Key
	earliest int64
	known    bool
}

// NewPass returns a pass over the timers of a space and epoch.
func NewPass(tx kv.Tx, space, epoch uint32) *Pass {
	return &Pass{tx: tx, stem: kv.EpochKey(space, epoch, Room)}
}

// Arm sets a timer. Arming one that is set already does nothing.
func (p *Pass) Arm(d Due) error {
	if p.known && d.At < p.earliest {
		p.earliest = d.At
	}
	return p.tx.Set(p.key(d), []byte{format})
}

// Disarm removes a timer that Arm has set.
func (p *Pass) Disarm(d Due) error { return p.tx.Delete(p.key(d)) }

// Take removes and returns the first timer due at or before now, in the order
// of (due, owner, subject), or nil when there is none.
func (p *Pass) Take(now int64) (*Due, error) {
	if p.known && p.earliest > now {
		return nil, nil
	}
	d, err := first(p.tx, p.stem)
	if err != nil {
		return nil, err
	}
	p.known, p.earliest = true, Never
	if d == nil {
		return nil, nil
	}
	p.earliest = d.At // a lower bound, also after it has been taken
	if d.At > now {
		return nil, nil
	}
	return d, p.tx.Delete(p.key(*d))
}

// Next returns the earliest timer of a space and epoch, or nil.
func Next(r kv.Reader, space, epoch uint32) (*Due, error) {
	return first(r, kv.EpochKey(space, epoch, Room))
}

func first(r kv.Reader, stem kv.Key) (*Due, error) {
	all := kv.Prefix(stem)
	all.Limit = 1
	for pair, err := range r.Scan(all) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		d := &Due{At: parts.Int64(), Owner: parts.Byte()}
		d.Subject = append(d.Subject, parts.Rest()...)
		return d, nil
	}
	return nil, nil
}

func (p *Pass) key(d Due) kv.Key {
	return p.stem.Clone().Int64(d.At).Byte(d.Owner).Fixed(d.Subject)
}
