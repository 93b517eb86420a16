package identity

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Standing is a command that holds for all time: separate, block, or lift.
type Standing struct {
	Offset  commitlog.Offset // of its record in the raw log
	At      int64            // when that was appended, in milliseconds
	Command *event.Command
}

// Revision is a standing command that took effect at its record, so that what
// came before it has still to be worked out again.
type Revision struct {
	Offset commitlog.Offset // of the command
	At     int64            // when it was appended, in milliseconds
}

// Standing returns the standing commands that are in force in this epoch, in
// the order of their offsets, those that were lifted and the lifts among them.
func (r Reader) Standing() ([]Standing, error) {
	stem := r.keys.standings()
	var list []Standing
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		s, err := decodeStanding(commitlog.Offset(parts.Uint64()), pair.Value)
		if err != nil || !parts.OK() {
			return nil, errStored
		}
		list = append(list, s)
	}
	return list, nil
}

// Revisions returns the standing commands whose effect on what came before
// them is still to be worked out, in the order of their offsets.
func (r Reader) Revisions() ([]Revision, error) {
	stem := r.keys.revisions()
	var list []Revision
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts, f := kv.PartsAfter(pair.Key, stem), kv.FieldsOf(pair.Value)
		known := f.Byte() == revisionFormat
		rev := Revision{Offset: commitlog.Offset(parts.Uint64()), At: f.Varint()}
		if !known || !parts.OK() || !f.OK() {
			return nil, errStored
		}
		list = append(list, rev)
	}
	return list, nil
}

// Revised takes back the note that a revision is due for the command at an
// offset: it is done. It is called within a transaction of the loop.
func Revised(tx kv.Tx, space, epoch uint32, command commitlog.Offset) error {
	return tx.Delete(keys{space, epoch}.revision(command))
}

// Preload puts standing commands in force from the start of an epoch that no
// record has gone through yet, those that it does not know. Their records change
// nothing when they come.
func Preload(tx kv.Tx, space, epoch uint32, list []Standing) error {
	k := keys{space, epoch}
	for _, s := range list {
		known, err := tx.Get(k.standing(s.Offset))
		if err != nil {
			return err
		}
		if known != nil {
			continue
		}
		if err := addStanding(tx, k, s); err != nil {
			return err
		}
	}
	return nil
}

// addStanding adds a command to the list, which carries a digest of all it
// holds: whoever knows the digest knows the list.
func addStanding(tx kv.Tx, k keys, s Standing) error {
	value, err := encodeStanding(s)
	if err != nil {
		return err
	}
	before, err := tx.Get(k.digest())
	if err != nil {
		return err
	}
	h := sha256.New()
	h.Write(before)
	h.Write(kv.Value{}.Uvarint(uint64(s.Offset)).Fixed(value))
	if err := tx.Set(k.digest(), h.Sum([]byte{digestFormat})); err != nil {
		return err
	}
	return tx.Set(k.standing(s.Offset), value)
}

func encodeStanding(s Standing) (kv.Value, error) {
	body, err := json.Marshal(s.Command)
	if err != nil {
		return nil, fmt.Errorf("encode a standing command: %w", err)
	}
	return kv.Value{standingFormat}.Varint(s.At).Bytes(body), nil
}

func decodeStanding(at commitlog.Offset, value []byte) (Standing, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == standingFormat
	s := Standing{Offset: at, At: f.Varint(), Command: &event.Command{}}
	body := f.Bytes()
	if !known || !f.OK() || json.Unmarshal(body, s.Command) != nil {
		return Standing{}, errStored
	}
	return s, nil
}

// stand puts a standing command in force from its record on.
func (p *pass) stand(r *pipeline.Record) error {
	tx, k := p.batch.Tx, p.read.keys
	known, err := tx.Get(k.standing(r.Offset))
	if err != nil || known != nil {
		return err // in force since the epoch began
	}
	if err := addStanding(tx, k, Standing{Offset: r.Offset, At: r.At, Command: r.Command}); err != nil {
		return err
	}
	if p.digest, err = tx.Get(k.digest()); err != nil {
		return err
	}
	p.orders = nil
	return tx.Set(k.revision(r.Offset), kv.Value{revisionFormat}.Varint(r.At))
}

// orders are the standing commands, ready for use under one set of rules, by
// which their values are normalised. They never change.
type orders struct {
	digest string
	rules  *rules
	// blocked are the values that identify nobody, with the command.
	blocked map[event.Identifier]commitlog.Offset
	// sides are those on which a separated identifier stands.
	sides map[event.Identifier][]side
	// separates are the commands by their number in side.
	separates []commitlog.Offset
}

// side is one side of a separate: twice its number, and one more for its right.
type side int32

func (s side) other() side { return s ^ 1 }

// maxOrders bounds the compiled lists of commands that are kept ready.
const maxOrders = 16

// ordersFor returns the standing commands under rules; nil when there are none.
func (p *pass) ordersFor(rs *rules) (*orders, error) {
	if p.digest == nil {
		return nil, nil
	}
	if p.orders != nil && p.orders.rules == rs {
		return p.orders, nil
	}
	s, digest := p.stage, string(p.digest)
	s.mu.RLock()
	for _, o := range s.orders {
		if o.rules == rs && o.digest == digest {
			p.orders = o
		}
	}
	s.mu.RUnlock()
	if p.orders != nil && p.orders.rules == rs {
		return p.orders, nil
	}
	list, err := p.read.Standing()
	if err != nil {
		return nil, err
	}
	p.orders = newOrders(list, rs)
	p.orders.digest = digest
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) >= maxOrders {
		s.orders = s.orders[1:]
	}
	s.orders = append(s.orders, p.orders)
	return p.orders, nil
}

func newOrders(list []Standing, rs *rules) *orders {
	o := &orders{rules: rs, blocked: map[event.Identifier]commitlog.Offset{}, sides: map[event.Identifier][]side{}}
	lifted := liftedIn(list)
	for _, s := range list {
		switch c := s.Command; {
		case lifted[s.Offset]:
		case c.Block != nil:
			o.blocked[rs.normal(c.Block.Identifier())] = s.Offset
		case c.Separate != nil:
			left := side(2 * len(o.separates))
			o.separates = append(o.separates, s.Offset)
			for _, x := range c.Separate.Left {
				id := rs.normal(x.Identifier())
				o.sides[id] = append(o.sides[id], left)
			}
			for _, x := range c.Separate.Right {
				id := rs.normal(x.Identifier())
				o.sides[id] = append(o.sides[id], left.other())
			}
		}
	}
	return o
}

// liftedIn returns the commands of a list that others of it lift.
func liftedIn(list []Standing) map[commitlog.Offset]bool {
	lifted := map[commitlog.Offset]bool{}
	for _, s := range list {
		if s.Command.Lift != nil {
			lifted[commitlog.Offset(s.Command.Lift.Offset)] = true
		}
	}
	return lifted
}

// block takes the values out of ids that a command has blocked.
func (o *orders) block(ids []event.Identifier, res *Resolution) []event.Identifier {
	if o == nil || len(o.blocked) == 0 {
		return ids
	}
	kept := make([]event.Identifier, 0, len(ids))
	for _, id := range ids {
		if by, ok := o.blocked[id]; ok {
			res.Refused = append(res.Refused, Refusal{Identifier: id, Violation: ValueBlocked, Against: Against{ByCommand: true, Command: by}})
			continue
		}
		kept = append(kept, id)
	}
	return kept
}

// sidesOf returns the sides on which a profile stands.
func (o *orders) sidesOf(n *node) ([]side, error) {
	if n.sidesIn == o {
		return n.sides, nil
	}
	if len(o.sides) == 0 {
		return nil, nil
	}
	ids, err := n.ids.all()
	if err != nil {
		return nil, err
	}
	var list []side
	for i := range ids {
		list = append(list, o.sides[ids[i].Identifier]...)
	}
	n.sides, n.sidesIn = list, o
	return list, nil
}

// between returns the first separate that keeps two apart, if there is one.
func (o *orders) between(a, b []side) (by commitlog.Offset, apart bool) {
	if len(a) == 0 || len(b) == 0 {
		return 0, false
	}
	in := make(map[side]bool, len(a))
	for _, s := range a {
		in[s] = true
	}
	for _, s := range b { // in no order: what stands where was found in one way or another
		if at := o.separates[s/2]; in[s.other()] && (!apart || at < by) {
			by, apart = at, true
		}
	}
	return by, apart
}
