package pipeline

import (
	"errors"
	"sync"

	"github.com/klauspost/compress/zstd"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// outputsFormat is the first byte of a block of the resolved log; a zstd frame
// with the outputs one after another follows.
const outputsFormat = 1

// The tags of outputs within a block.
const (
	tagEvent   = 1
	tagChange  = 2
	tagMessage = 3
)

// A block of the resolved log holds at most this many outputs or bytes before
// packing; a batch with more makes several blocks in the same commit.
const (
	maxBlockOutputs = 8192
	maxBlockBytes   = 4 << 20
)

var errOutputs = errors.New("block of the resolved log is damaged or of an unknown format")

// The packer and unpacker are stateless, dear to make, and safe for concurrent
// use.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
		if err != nil {
			panic(err)
		}
		return e
	})
	unpacker = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// EncodeOutputs writes outputs as blocks of the resolved log: offsets of that
// log number outputs.
func EncodeOutputs(outputs []Output) []commitlog.Payload {
	var blocks []commitlog.Payload
	var v kv.Value
	n := 0
	flush := func() {
		if n > 0 {
			data := packer().EncodeAll(v, []byte{outputsFormat})
			blocks = append(blocks, commitlog.Payload{Count: n, Data: data})
			v, n = v[:0], 0
		}
	}
	for i := range outputs {
		v = appendOutput(v, &outputs[i])
		n++
		if n == maxBlockOutputs || len(v) >= maxBlockBytes {
			flush()
		}
	}
	flush()
	return blocks
}

func appendOutput(v kv.Value, o *Output) kv.Value {
	tag := byte(tagMessage)
	switch {
	case o.Event != nil:
		tag = tagEvent
	case o.Change != nil:
		tag = tagChange
	}
	v = v.Byte(tag).Varint(o.At).Fixed(o.Profile[:])
	switch tag {
	case tagEvent:
		e := o.Event
		return v.Uvarint(e.Offset).Fixed(e.ID[:]).Byte(byte(e.Type)).String(e.Name).String(e.Source).String(e.MessageID)
	case tagChange:
		c := o.Change
		return v.Byte(byte(c.Kind)).Fixed(c.Cause[:]).Fixed(c.Other[:]).String(c.Subject).String(c.Detail)
	default:
		m := o.Message
		return v.String(m.Destination).String(m.Computation).String(m.MessageID).Bytes(m.Body)
	}
}

// DecodeOutputs reads a block of the resolved log.
func DecodeOutputs(data []byte) ([]Output, error) {
	if len(data) == 0 || data[0] != outputsFormat {
		return nil, errOutputs
	}
	plain, err := unpacker().DecodeAll(data[1:], nil)
	if err != nil {
		return nil, errOutputs
	}
	f := kv.FieldsOf(plain)
	var outputs []Output
	for len(f.Rest()) > 0 {
		var o Output
		tag := f.Byte()
		o.At = f.Varint()
		copy(o.Profile[:], f.Fixed(len(o.Profile)))
		switch tag {
		case tagEvent:
			e := &Resolved{Offset: f.Uvarint()}
			copy(e.ID[:], f.Fixed(len(e.ID)))
			e.Type, e.Name, e.Source, e.MessageID = event.Type(f.Byte()), f.String(), f.String(), f.String()
			o.Event = e
		case tagChange:
			c := &Change{Kind: ChangeKind(f.Byte())}
			copy(c.Cause[:], f.Fixed(len(c.Cause)))
			copy(c.Other[:], f.Fixed(len(c.Other)))
			c.Subject, c.Detail = f.String(), f.String()
			o.Change = c
		case tagMessage:
			o.Message = &Message{Destination: f.String(), Computation: f.String(), MessageID: f.String(), Body: f.Bytes()}
		default:
			f.Fail()
		}
		if !f.OK() {
			return nil, errOutputs
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}
