package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// ReasonErased is the reason of the verdict on a record that was erased.
const ReasonErased = "erased"

// fate is what a mask makes of a record. The head is changed already.
type fate struct {
	mask    *Mask    // nil: none holds
	changed bool     // the head is another, or nothing of the record is left
	short   []string // identifiers that were taken out of the head and are too short to be found elsewhere
}

// page is the heads of a block as they are shown, and what masks make of their
// records.
type page struct {
	first commitlog.Offset
	heads []event.Head
	fates []fate // nil: nothing is hidden
	veil  *Veil  // that was applied
}

// page unpacks the heads of a block and hides in them what was erased.
func (a *Archive) page(ctx context.Context, space uint32, blk commitlog.Block) (*page, error) {
	v, err := a.veilOf(ctx, space)
	if err != nil {
		return nil, err
	}
	p := &page{first: blk.First, veil: v}
	if p.heads, err = event.DecodeHeads(blk.Data); err != nil || v.At(blk.First) == nil {
		return p, err
	}
	return p, a.db.View(ctx, func(r kv.Reader) error { return p.hide(r, space) })
}

// hide decides what masks make of the records, and applies it to their heads.
func (p *page) hide(r kv.Reader, space uint32) error {
	if len(p.heads) == 0 {
		return nil
	}
	fates := make([]fate, len(p.heads))
	all := p.veil.At(p.first)
	if all != p.veil.At(p.first+commitlog.Offset(len(p.heads)-1)) {
		all = nil // not the same for every record
	}
	readers := map[uint32]*runReader{}
	for i := range p.heads {
		h, at := &p.heads[i], p.first+commitlog.Offset(i)
		if h.Kind != event.KindEvent && h.Kind != event.KindObject && h.Kind != event.KindCommand {
			continue
		}
		m := all
		if m == nil {
			m = p.veil.At(at)
		}
		if m == nil {
			break // none holds for what comes later
		}
		f := &fates[i]
		f.mask = m
		if h.Kind == event.KindEvent {
			erased, err := m.erases(r, space, readers, at, h)
			if err != nil {
				return err
			}
			if erased {
				*h, f.changed = wiped(h), true
				continue
			}
		}
		f.short, f.changed = m.set.Head(h)
	}
	p.fates = fates
	return nil
}

// wiped returns what is left of the head of a record that was erased.
func wiped(h *event.Head) event.Head {
	return event.Head{Kind: event.KindErased, ID: h.ID, At: h.At, Time: h.At}
}

// erases reports whether an event goes with the erased: as one of their
// profiles' own, or as one that is nobody's and carries an identifier of
// theirs. It goes too where it is not known whose it is.
func (m *Mask) erases(r kv.Reader, space uint32, readers map[uint32]*runReader, at commitlog.Offset, h *event.Head) (bool, error) {
	somebodys := true
	for epoch, profiles := range m.epochs {
		if readers[epoch] == nil {
			readers[epoch] = &runReader{reader: r, space: space, epoch: epoch}
		}
		run, err := readers[epoch].profiles(at)
		if err != nil {
			return false, err
		}
		if run == nil {
			somebodys = false
			continue
		}
		whose := run.of(at)
		if whose.Profile.IsZero() {
			whose.Profile = whose.Account
		}
		if profiles[whose.Profile] {
			return true, nil
		}
		somebodys = somebodys && !whose.Profile.IsZero()
	}
	if somebodys {
		return false, nil
	}
	for _, id := range h.IDs {
		if m.set.Has(id) {
			return true, nil
		}
	}
	return false, nil
}

// bodies unpacks the bodies of the block whose heads are p's. A command that
// has lost its meaning is erased in the heads too.
func (p *page) bodies(blk commitlog.Block) ([][]byte, error) {
	bodies, err := event.DecodeBodies(blk.Data)
	if err != nil {
		return nil, err
	}
	if p.fates == nil && p.first >= p.veil.horizon.Offset {
		return bodies, nil
	}
	for i := range bodies {
		bodies[i] = p.body(i, bodies[i])
	}
	return bodies, nil
}

// trimmed reports whether the body of the i-th record has been trimmed.
func (p *page) trimmed(i int) bool {
	return p.veil.horizon.trims(p.first+commitlog.Offset(i), p.heads[i].Kind)
}

// body returns a body of the i-th record as it is shown, whether it is the one
// that was accepted or one that intake has made of it.
func (p *page) body(i int, body []byte) []byte {
	h := &p.heads[i]
	if h.Kind == event.KindErased || p.trimmed(i) {
		return nil
	}
	if p.fates == nil || p.fates[i].mask == nil {
		return body
	}
	f := &p.fates[i]
	if h.Kind == event.KindCommand {
		shown := f.mask.command(body)
		if shown == nil {
			*h, f.changed = wiped(h), true
		}
		return shown
	}
	if len(f.short) == 0 && !f.mask.set.In(body) {
		return body
	}
	return f.mask.set.JSON(body, f.short, f.mask.set.Own(h))
}

// verdict returns a verdict on the i-th record as it is shown.
func (p *page) verdict(i int, v pipeline.Verdict) pipeline.Verdict {
	if p.heads[i].Kind == event.KindErased {
		return pipeline.Verdict{Code: pipeline.Dropped, Reason: ReasonErased}
	}
	if v.Body != nil {
		v.Body = p.body(i, v.Body)
	}
	if p.fates == nil || p.fates[i].mask == nil {
		return v
	}
	v.Reason = p.fates[i].mask.set.Text(v.Reason)
	return v
}

// command takes identifiers of the erased out of a command's body; nil when it
// orders nothing any more without them.
func (m *Mask) command(body []byte) []byte {
	c, err := event.ParseCommand(body)
	if err != nil || c.Erase != nil {
		return body
	}
	without := c.Without(m.set.Has)
	if without == nil {
		return nil
	}
	without.Note, without.By = m.set.Text(c.Note), m.set.Text(c.By)
	changed, err := without.Encode()
	if err != nil || string(changed) == string(body) {
		return body
	}
	return changed
}
