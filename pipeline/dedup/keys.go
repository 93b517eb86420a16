package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"kith/commitlog"
	"kith/kv"
)

// Keys:
//
//	room        s space m bucket k hash → offset, at: the first record with that messageId in the bucket
//	room        s space m bucket f n    → part n of the bucket's filter; the part with no keys ends it
//	formerRoom  s space d hash          → offset, at, as kith wrote them before there were buckets
//
// hash is an ID. bucket is the number of a stretch of time, by at. The first
// form is written under the fence of the space's loop, the second under Fence,
// the third no more: it goes when the oldest bucket does.
//
// Erasure class: none (a hash of a random id; bits of such hashes).
const (
	room       = 'm'
	kindFirst  = 'k'
	kindFilter = 'f'
	formerRoom = 'd'
)

const (
	firstFormat  = 1
	filterFormat = 1
	formerFormat = 1
)

// bucketWidth is how much time one bucket takes.
const bucketWidth = int64(5 * 24 * time.Hour / time.Millisecond)

// Fence returns the fence under which the filters of a space are kept.
func Fence(space uint32) kv.Fence { return kv.Fence(fmt.Sprintf("dedup/%d", space)) }

// ID stands for a messageId: the first 16 bytes of its SHA-256. The id comes
// from outside, and nobody can make two that meet in it.
type ID [16]byte

// IDOf returns the ID of a messageId.
func IDOf(messageID string) ID {
	sum := sha256.Sum256([]byte(messageID))
	return ID(sum[:16])
}

// place is where the ID stands among all: IDs sort by it.
func (id *ID) place() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// First is the record that counted.
type First struct {
	Offset commitlog.Offset // in the raw log
	At     int64            // in milliseconds
}

func bucketOf(at int64) uint32 { return uint32(max(at, 0) / bucketWidth) }

// begins returns the first instant of a bucket, in milliseconds.
func begins(bucket uint32) int64 { return int64(bucket) * bucketWidth }

func stem(space uint32) kv.Key { return kv.SpaceKey(space, room) }

func firstKey(space, bucket uint32, id *ID) kv.Key {
	return stem(space).Uint32(bucket).Byte(kindFirst).Fixed(id[:])
}

func firstsOf(space, bucket uint32) kv.Key { return stem(space).Uint32(bucket).Byte(kindFirst) }

func filterOf(space, bucket uint32) kv.Key { return stem(space).Uint32(bucket).Byte(kindFilter) }

func formerKey(space uint32, id *ID) kv.Key { return kv.SpaceKey(space, formerRoom).Fixed(id[:]) }

func encodeFirst(bucket uint32, f First) kv.Value {
	v := make(kv.Value, 0, 16)
	return v.Byte(firstFormat).Uvarint(uint64(f.Offset)).Varint(f.At - begins(bucket))
}

// decodeFirst reads a value of a bucket. A nil value is none.
func decodeFirst(bucket uint32, value []byte) (f First, ok bool, err error) {
	if value == nil {
		return First{}, false, nil
	}
	fields := kv.FieldsOf(value)
	known := fields.Byte() == firstFormat
	f = First{Offset: commitlog.Offset(fields.Uvarint()), At: begins(bucket) + fields.Varint()}
	if !known || !fields.OK() {
		return First{}, false, errDamaged
	}
	return f, true, nil
}

// decodeFormer reads a value as kith wrote them before there were buckets.
func decodeFormer(value []byte) (f First, ok bool, err error) {
	if value == nil {
		return First{}, false, nil
	}
	fields := kv.FieldsOf(value)
	known := fields.Byte() == formerFormat
	f = First{Offset: commitlog.Offset(fields.Uvarint()), At: fields.Varint()}
	if !known || !fields.OK() {
		return First{}, false, errDamaged
	}
	return f, true, nil
}
