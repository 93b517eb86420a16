package inspect

import (
	"slices"
	"strings"

	"kith/commitlog"
	"kith/kv"
)

func segmentStem(space uint32) kv.Key {
	return kv.WorkspaceKey(room).Byte(insights).Uint32(space)
}

func segmentKey(space uint32, first commitlog.Offset) kv.Key {
	return segmentStem(space).Uint64(uint64(first))
}

// segment is a run of the resolved log and what may be found in it. It holds
// nothing of a person but bits of hashes: what is found is read from the log.
type segment struct {
	first, end commitlog.Offset // in the resolved log
	from, to   int64            // the instants of its first and last insight, in milliseconds
	kinds      uint64           // one bit for each kind that is in it
	count      int              // of insights
	filter     []byte
}

func (s *segment) encode() kv.Value {
	v := kv.Value{segmentFormat}.Uvarint(uint64(s.end - s.first)).Varint(s.from).Varint(s.to - s.from)
	return v.Uvarint(s.kinds).Uvarint(uint64(s.count)).Bytes(s.filter)
}

func decodeSegment(key, value []byte, space uint32) (s segment, err error) {
	parts := kv.PartsAfter(key, segmentStem(space))
	s.first = commitlog.Offset(parts.Uint64())
	f := kv.FieldsOf(value)
	known := f.Byte() == segmentFormat
	s.end = s.first + commitlog.Offset(f.Uvarint())
	s.from = f.Varint()
	s.to = s.from + f.Varint()
	s.kinds, s.count = f.Uvarint(), int(f.Uvarint())
	s.filter = append([]byte(nil), f.Bytes()...)
	if !known || !parts.OK() || !f.OK() {
		return segment{}, errDamaged("segment of insights")
	}
	return s, nil
}

func insightCursorKey(space uint32) kv.Key {
	return kv.WorkspaceKey(room).Byte(insightCursors).Uint32(space)
}

// insightCursor is where the resolved log is read on, and where the segment
// begins that is not full yet.
type insightCursor struct{ first, next commitlog.Offset }

func (c insightCursor) encode() kv.Value {
	return kv.Value{insightCursorFormat}.Uvarint(uint64(c.first)).Uvarint(uint64(c.next))
}

func readInsightCursor(r kv.Reader, space uint32) (c insightCursor, err error) {
	value, err := r.Get(insightCursorKey(space))
	if err != nil || value == nil {
		return c, err
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == insightCursorFormat
	c = insightCursor{commitlog.Offset(f.Uvarint()), commitlog.Offset(f.Uvarint())}
	if !known || !f.OK() {
		return insightCursor{}, errDamaged("position in the resolved log")
	}
	return c, nil
}

// insightTally is what is counted together, within a minute.
type insightTally struct {
	minute               uint32
	kind                 byte
	reason, idType, from string // from is the source's id
}

func insightCountStem(g Grain) kv.Key {
	return kv.WorkspaceKey(room).Byte(insightCounts).Byte(grainByte(g))
}

func (t insightTally) at(g Grain, space uint32) kv.Key {
	return insightCountStem(g).Uint32(t.minute).Uint32(space).Byte(t.kind).String(t.reason).String(t.idType).String(t.from)
}

func readInsightTally(key []byte, stem kv.Key) (t insightTally, space uint32, ok bool) {
	p := kv.PartsAfter(key, stem)
	t.minute = p.Uint32()
	space = p.Uint32()
	t.kind, t.reason, t.idType, t.from = p.Byte(), p.String(), p.String(), p.String()
	return t, space, p.OK()
}

// maxReasonBytes is how much of a reason is counted under; reasons are sentences
// of ours, some with a name in them.
const maxReasonBytes = 120

// tallyOf is what an insight is counted under.
func tallyOf(x *Insight, untyped []string) insightTally {
	t := insightTally{minute: bucketOf(Minute, x.At), kind: x.Kind.number(), reason: x.Reason, idType: x.Type, from: x.Source}
	if len(t.reason) > maxReasonBytes {
		t.reason = strings.ToValidUTF8(t.reason[:maxReasonBytes], "")
	}
	if slices.Contains(untyped, x.Reason) {
		t.idType = ""
	}
	return t
}
