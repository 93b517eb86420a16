package inspect

import (
	"encoding/json"
	"time"

	"kith/fault"
	"kith/kv"
)

// Keys. Those of rejections and rejected are written under the fence
// "inspect", those of insights under "inspect/insights", by the one Insights,
// all others under "inspect/usage", by the one Observer:
//
//	w x r source seq:u64                                     → a Rejection. JSON. Expires after 7 days,
//	                                                           sooner when a source has more than 1,000
//	w x n grain bucket:u32 source code type                  → how many were rejected then
//	w x p space:u32                                          → how far the space's raw log is read
//	w x s source                                             → the source's number, and what is known of it
//	w x a source version                                     → the number of an app version
//	w x e source type:u8 name                                → an event of the source
//	w x f source event:u32 section:u8 path                   → a property or trait of an event
//	w x y day:u32 source event:u32 section:u8 path           → sample values taken that day; expires after 6 days
//	w x v grain bucket:u32 number:u32 type:u8 event:u32 version:u32 stage:u8 reason
//	                                                         → how many there were then
//	w x u month:u32 kind:u8 hash:16                          → a user or an anonymous id of a month: since which
//	                                                           days; gone once the month after is over
//	w x m month:u32 number:u32 day:u8                        → how many ids came on that day
//	w x i space:u32 first:u64                                → a segment of the resolved log that holds insights: what
//	                                                           may be found in it, as bits of hashes
//	w x j space:u32                                          → how far the space's resolved log is read for insights
//	w x c grain bucket:u32 space:u32 kind:u8 reason type source
//	                                                         → how many insights there were then
//
// source is a source's id, number its number (zero: the workspace); grain is
// one of the grains, bucket the bucket's first minute, in minutes since 1970;
// day counts days since 1970, month months since year 0. hash is the first 16
// bytes of SHA-256 over the id: erasure class by identifier. Samples expire;
// all others hold nothing of a person.
const (
	room             = 'x'
	rejections  byte = 'r'
	rejected    byte = 'n'
	cursors     byte = 'p'
	sources     byte = 's'
	versions    byte = 'a'
	events      byte = 'e'
	fields      byte = 'f'
	samples     byte = 'y'
	volumes     byte = 'v'
	identities  byte = 'u'
	populations byte = 'm'

	insights       byte = 'i'
	insightCursors byte = 'j'
	insightCounts  byte = 'c'
)

const (
	fence      kv.Fence = "inspect"
	usageFence kv.Fence = "inspect/usage"

	insightsFence kv.Fence = "inspect/insights"
)

const (
	rejectionFormat  = 1
	countFormat      = 1
	cursorFormat     = 1
	sourceFormat     = 1
	versionFormat    = 1
	eventFormat      = 1
	fieldFormat      = 1
	sampleFormat     = 1
	identityFormat   = 1
	populationFormat = 1

	segmentFormat       = 1
	insightCursorFormat = 1
)

func sourceStem(source string) kv.Key {
	return kv.WorkspaceKey(room).Byte(rejections).String(source)
}

func rejectionKey(source string, seq uint64) kv.Key { return sourceStem(source).Uint64(seq) }

// readRejectionKey reads the source and the seq of a rejection's key.
func readRejectionKey(key []byte) (source string, seq uint64, ok bool) {
	parts := kv.PartsAfter(key, kv.WorkspaceKey(room).Byte(rejections))
	source, seq = parts.String(), parts.Uint64()
	return source, seq, parts.OK()
}

func encodeRejection(x *Rejection) (kv.Value, error) {
	b, err := json.Marshal(x)
	return kv.Value{rejectionFormat}.Fixed(b), err
}

func decodeRejection(value []byte) (*Rejection, error) {
	if len(value) == 0 || value[0] != rejectionFormat {
		return nil, fault.New(fault.Internal, "a rejected message is kept in a form that this version of kith does not know")
	}
	x := &Rejection{}
	err := json.Unmarshal(value[1:], x)
	return x, err
}

// grainByte is a grain in a key.
func grainByte(g Grain) byte {
	switch g {
	case Minute:
		return 0
	case Hour:
		return 1
	}
	return 2
}

// bucketOf returns the bucket that an instant falls into.
func bucketOf(g Grain, at time.Time) uint32 {
	minute := max(at.Unix()/60, 0)
	switch g {
	case Hour:
		minute -= minute % 60
	case Day:
		minute -= minute % (24 * 60)
	}
	return uint32(minute)
}

// startOf returns the beginning of a bucket.
func startOf(bucket uint32) time.Time { return time.Unix(int64(bucket)*60, 0).UTC() }

func rejectedStem(g Grain) kv.Key {
	return kv.WorkspaceKey(room).Byte(rejected).Byte(grainByte(g))
}

func rejectedKey(g Grain, bucket uint32, c rejectedCount) kv.Key {
	return rejectedStem(g).Uint32(bucket).String(c.source).String(c.code).String(c.kind)
}

func encodeCount(n uint64) kv.Value { return kv.Value{countFormat}.Uvarint(n) }

func decodeCount(value []byte) (uint64, error) {
	if value == nil {
		return 0, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == countFormat
	n := f.Uvarint()
	if !known || !f.OK() {
		return 0, errDamaged("count")
	}
	return n, nil
}

// addCount adds n to a stored count.
func addCount(tx kv.Tx, key kv.Key, n uint64) error {
	value, err := tx.Get(key)
	if err != nil {
		return err
	}
	before, err := decodeCount(value)
	if err != nil {
		return err
	}
	return tx.Set(key, encodeCount(before+n))
}

func errDamaged(what string) error {
	return fault.New(fault.Internal, "a stored %s of inspect is damaged or of an unknown format", what)
}
