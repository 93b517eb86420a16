package archive

import (
	"context"

	"kith/commitlog"
	"kith/fault"
	"kith/pipeline"
)

// Resolved returns the resolved log of a space as it may be read: what was
// erased is hidden in its outputs.
func (a *Archive) Resolved(space uint32, log commitlog.Log) commitlog.Log {
	return &resolved{Log: log, archive: a, space: space}
}

type resolved struct {
	commitlog.Log
	archive *Archive
	space   uint32
}

// Read reads blocks; see commitlog.Log.
func (l *resolved) Read(ctx context.Context, from commitlog.Offset, maxBytes int) ([]commitlog.Block, error) {
	blocks, err := l.Log.Read(ctx, from, maxBytes)
	if err != nil {
		return nil, err
	}
	v, err := l.archive.veilOf(ctx, l.space)
	if err != nil {
		return nil, err
	}
	for i := range blocks {
		if _, err := v.hideOutputs(&blocks[i]); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// hideOutputs hides in a block of the resolved log what was erased, and returns
// how many outputs it has changed.
func (v *Veil) hideOutputs(blk *commitlog.Block) (changed uint64, err error) {
	if v.AtOutput(blk.First) == nil {
		return 0, nil
	}
	outputs, err := pipeline.DecodeOutputs(blk.Data)
	if err != nil {
		return 0, err
	}
	for i := range outputs {
		m := v.AtOutput(blk.First + commitlog.Offset(i))
		if m == nil {
			break
		}
		if m.output(&outputs[i]) {
			changed++
		}
	}
	if changed == 0 {
		return 0, nil
	}
	packed := pipeline.EncodeOutputs(outputs)
	if len(packed) != 1 {
		return 0, fault.New(fault.Internal, "%d outputs without what was erased make %d blocks", len(outputs), len(packed))
	}
	blk.Payload = packed[0]
	return changed, nil
}

// output hides what an output says of the erased, and reports whether it said
// anything. One of theirs keeps its place and its kind, and is nobody's.
func (m *Mask) output(o *pipeline.Output) (changed bool) {
	theirs := m.profiles[o.Profile]
	if theirs {
		o.Profile = [16]byte{}
	}
	text := func(texts ...*string) {
		for _, s := range texts {
			clean := ""
			if !theirs {
				clean = m.set.Text(*s)
			}
			if clean != *s {
				*s, changed = clean, true
			}
		}
	}
	switch {
	case o.Event != nil:
		text(&o.Event.Name, &o.Event.MessageID)
	case o.Change != nil:
		if m.profiles[o.Change.Other] {
			o.Change.Other, changed = [16]byte{}, true
		}
		if !theirs && m.subject(o.Change.Subject) {
			o.Change.Subject, changed = "", true
		}
		text(&o.Change.Subject, &o.Change.Detail)
	case o.Message != nil:
		text(&o.Message.MessageID)
		if theirs {
			changed = changed || len(o.Message.Body) > 0
			o.Message.Body = nil
		} else if clean := m.set.JSON(o.Message.Body, nil, nil); len(clean) != len(o.Message.Body) || string(clean) != string(o.Message.Body) {
			o.Message.Body, changed = clean, true
		}
	}
	return changed || theirs
}
