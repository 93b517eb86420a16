package event

import (
	"errors"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"kith/commitlog"
	"kith/kv"
)

// MaxBlockRecords is the most records a writer puts into one block.
const MaxBlockRecords = 512

// blockFormat is the first byte of a block. The form, all numbers as varints:
//
//	format, number of records, length of the head column, head column, body column
//
// Both columns are zstd frames. The head column is a dictionary of strings and
// then the heads one after another, each instant as the difference to the one
// before; the body column is the lengths of all bodies and then the bodies.
const blockFormat = 1

// maxRecords is more than any block holds; a damaged block may claim anything.
const maxRecords = 1 << 20

// minHeadBytes is the least that a head takes in its column: the id, and one
// byte for each of the eight other fields.
const minHeadBytes = 16 + 8

var errBlock = errors.New("block is damaged or of an unknown format")

// The encoder and the decoder keep nothing between calls and are safe for
// concurrent use. They are dear to make, though their memory is touched only
// when they are used. Both are made whole at the start: a part made later, in
// a test that stops time, would belong to that test.
var (
	encoder = newEncoder()
	decoder = newDecoder()
)

func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err)
	}
	e.EncodeAll(nil, nil)
	return e
}

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		panic(err)
	}
	return d
}

// EncodeBlock writes records as one block.
func EncodeBlock(records []Record) commitlog.Payload {
	var dict dictionary
	heads := make(kv.Value, 0, 64*len(records))
	size := 0
	var at int64
	for i := range records {
		h := &records[i].Head
		heads = heads.Byte(byte(h.Kind)).Fixed(h.ID[:]).Varint(h.At - at).Varint(h.At - h.Time)
		at = h.At
		heads = heads.Byte(byte(h.Type)).Uvarint(dict.index(h.Name)).Uvarint(dict.index(h.Source)).String(h.MessageID)
		heads = heads.Uvarint(uint64(len(h.IDs)))
		for _, id := range h.IDs {
			heads = heads.Uvarint(dict.index(id.Collection)).Uvarint(dict.index(id.Type)).String(id.Value)
		}
		size += len(records[i].Body) + 3
	}
	head := make(kv.Value, 0, len(heads)+256).Uvarint(uint64(len(dict.words)))
	for _, w := range dict.words {
		head = head.String(w)
	}
	head = head.Fixed(heads)

	bodies := make(kv.Value, 0, size)
	for i := range records {
		bodies = bodies.Uvarint(uint64(len(records[i].Body)))
	}
	for i := range records {
		bodies = bodies.Fixed(records[i].Body)
	}

	headZ := encoder.EncodeAll(head, nil)
	data := make(kv.Value, 0, len(headZ)+len(bodies)/3+16)
	data = data.Byte(blockFormat).Uvarint(uint64(len(records))).Bytes(headZ)
	data = encoder.EncodeAll(bodies, data)
	return commitlog.Payload{Count: len(records), Data: data}
}

// DecodeHeads reads a block's heads and leaves its bodies packed.
func DecodeHeads(data []byte) ([]Head, error) {
	n, headZ, _, err := splitBlock(data)
	if err != nil {
		return nil, err
	}
	column, err := decoder.DecodeAll(headZ, nil)
	if err != nil {
		return nil, errBlock
	}
	if n > len(column)/minHeadBytes {
		return nil, errBlock
	}
	r := kv.FieldsOf(column)
	words := make([]string, r.Count(len(column)))
	for i := range words {
		words[i] = r.String()
	}
	word := func() string {
		if i := r.Uvarint(); i < uint64(len(words)) {
			return words[i]
		}
		r.Fail()
		return ""
	}
	heads := make([]Head, n)
	var at int64
	for i := range heads {
		h := &heads[i]
		h.Kind = Kind(r.Byte())
		copy(h.ID[:], r.Fixed(len(h.ID)))
		at += r.Varint()
		h.At = at
		h.Time = at - r.Varint()
		h.Type = Type(r.Byte())
		h.Name = word()
		h.Source = word()
		h.MessageID = r.String()
		if k := r.Count(len(r.Rest()) / 3); k > 0 {
			h.IDs = make([]Identifier, k)
			for j := range h.IDs {
				h.IDs[j] = Identifier{Collection: word(), Type: word(), Value: r.String()}
			}
		}
		if !r.OK() {
			return nil, errBlock
		}
	}
	if len(r.Rest()) > 0 {
		return nil, errBlock
	}
	return heads, nil
}

// DecodeBodies reads a block's bodies, one for each record, empty for records
// that have none.
func DecodeBodies(data []byte) ([][]byte, error) {
	n, _, bodyZ, err := splitBlock(data)
	if err != nil {
		return nil, err
	}
	column, err := decoder.DecodeAll(bodyZ, nil)
	if err != nil {
		return nil, errBlock
	}
	if n > len(column) {
		return nil, errBlock
	}
	r := kv.FieldsOf(column)
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = r.Count(len(column))
	}
	bodies := make([][]byte, n)
	for i, size := range sizes {
		bodies[i] = r.Fixed(size)
	}
	if !r.OK() || len(r.Rest()) > 0 {
		return nil, errBlock
	}
	return bodies, nil
}

// DecodeBlock reads a whole block.
func DecodeBlock(data []byte) ([]Record, error) {
	heads, err := DecodeHeads(data)
	if err != nil {
		return nil, err
	}
	bodies, err := DecodeBodies(data)
	if err != nil {
		return nil, err
	}
	records := make([]Record, len(heads))
	for i := range records {
		records[i] = Record{Head: heads[i], Body: bodies[i]}
	}
	return records, nil
}

func splitBlock(data []byte) (n int, headZ, bodyZ []byte, err error) {
	r := kv.FieldsOf(data)
	if r.Byte() != blockFormat {
		return 0, nil, nil, errBlock
	}
	count := r.Uvarint()
	headZ = r.Bytes()
	if !r.OK() || count > maxRecords {
		return 0, nil, nil, errBlock
	}
	return int(count), headZ, r.Rest(), nil
}

// dictionary numbers the words that repeat within a block.
type dictionary struct {
	words []string
	at    map[string]uint64
}

func (d *dictionary) index(w string) uint64 {
	if i, ok := d.at[w]; ok {
		return i
	}
	if d.at == nil {
		d.at = make(map[string]uint64, 16)
	}
	i := uint64(len(d.words))
	d.at[w] = i
	d.words = append(d.words, w)
	return i
}
