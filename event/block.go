package event

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/klauspost/compress/zstd"

	"kith/commitlog"
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

var errBlock = errors.New("block is damaged or of an unknown format")

// Encoders and decoders are stateless values that are dear to make; they are
// safe for concurrent use.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(4))
		if err != nil {
			panic(err)
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// EncodeBlock writes records as one block.
func EncodeBlock(records []Record) commitlog.Payload {
	var dict dictionary
	heads := make([]byte, 0, 64*len(records))
	size := 0
	var at int64
	for i := range records {
		h := &records[i].Head
		heads = append(heads, byte(h.Kind))
		heads = append(heads, h.ID[:]...)
		heads = binary.AppendVarint(heads, h.At-at)
		heads = binary.AppendVarint(heads, h.At-h.Time)
		at = h.At
		heads = append(heads, byte(h.Type))
		heads = binary.AppendUvarint(heads, dict.index(h.Name))
		heads = binary.AppendUvarint(heads, dict.index(h.Source))
		heads = appendString(heads, h.MessageID)
		heads = binary.AppendUvarint(heads, uint64(len(h.IDs)))
		for _, id := range h.IDs {
			heads = binary.AppendUvarint(heads, dict.index(id.Collection))
			heads = binary.AppendUvarint(heads, dict.index(id.Type))
			heads = appendString(heads, id.Value)
		}
		size += len(records[i].Body) + 3
	}
	head := binary.AppendUvarint(make([]byte, 0, len(heads)+256), uint64(len(dict.words)))
	for _, w := range dict.words {
		head = appendString(head, w)
	}
	head = append(head, heads...)

	bodies := make([]byte, 0, size)
	for i := range records {
		bodies = binary.AppendUvarint(bodies, uint64(len(records[i].Body)))
	}
	for i := range records {
		bodies = append(bodies, records[i].Body...)
	}

	headZ := encoder().EncodeAll(head, nil)
	data := make([]byte, 0, len(headZ)+len(bodies)/3+16)
	data = append(data, blockFormat)
	data = binary.AppendUvarint(data, uint64(len(records)))
	data = binary.AppendUvarint(data, uint64(len(headZ)))
	data = append(data, headZ...)
	data = encoder().EncodeAll(bodies, data)
	return commitlog.Payload{Count: len(records), Data: data}
}

// DecodeHeads reads a block's heads and leaves its bodies packed.
func DecodeHeads(data []byte) ([]Head, error) {
	n, headZ, _, err := splitBlock(data)
	if err != nil {
		return nil, err
	}
	column, err := decoder().DecodeAll(headZ, nil)
	if err != nil {
		return nil, errBlock
	}
	r := reader{b: column}
	words := make([]string, r.count(len(column)))
	for i := range words {
		words[i] = r.string()
	}
	word := func() string {
		if i := r.uvarint(); i < uint64(len(words)) {
			return words[i]
		}
		r.bad = true
		return ""
	}
	heads := make([]Head, n)
	var at int64
	for i := range heads {
		h := &heads[i]
		h.Kind = Kind(r.byte())
		copy(h.ID[:], r.bytes(len(h.ID)))
		at += r.varint()
		h.At = at
		h.Time = at - r.varint()
		h.Type = Type(r.byte())
		h.Name = word()
		h.Source = word()
		h.MessageID = r.string()
		if k := r.count(len(column)); k > 0 {
			h.IDs = make([]Identifier, k)
			for j := range h.IDs {
				h.IDs[j] = Identifier{Collection: word(), Type: word(), Value: r.string()}
			}
		}
		if r.bad {
			return nil, errBlock
		}
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
	column, err := decoder().DecodeAll(bodyZ, nil)
	if err != nil {
		return nil, errBlock
	}
	r := reader{b: column}
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = r.count(len(column))
	}
	bodies := make([][]byte, n)
	for i, size := range sizes {
		bodies[i] = r.bytes(size)
	}
	if r.bad {
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
	r := reader{b: data}
	if r.byte() != blockFormat {
		return 0, nil, nil, errBlock
	}
	count := r.uvarint()
	headZ = r.bytes(r.count(len(data)))
	if r.bad || count > 1<<20 {
		return 0, nil, nil, errBlock
	}
	return int(count), headZ, r.b, nil
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

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader reads a column. After a read beyond its end bad is set and every
// value is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes(r.count(len(r.b)))) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things of which there cannot be more than limit.
func (r *reader) count(limit int) int {
	v := r.uvarint()
	if v > uint64(limit) {
		r.fail()
		return 0
	}
	return int(v)
}
