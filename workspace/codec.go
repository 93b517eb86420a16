package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"kith/fault"
)

// MaxSnapshotBytes is the most JSON a whole workspace may be.
const MaxSnapshotBytes = 32 << 20

// Encoder and decoder are stateless values that are dear to make; they are
// safe for concurrent use.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxSnapshotBytes+1<<20))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// encode writes a snapshot in its stored form.
func encode(s *Snapshot) ([]byte, error) {
	doc, err := marshal(s)
	if err != nil {
		return nil, err
	}
	if len(doc) > MaxSnapshotBytes {
		return nil, fault.New(fault.Invalid, "the workspace is %d bytes of JSON; at most %d are kept: remove what is not in use", len(doc), MaxSnapshotBytes)
	}
	return encoder().EncodeAll(doc, []byte{snapshotFormat}), nil
}

// decode reads what encode wrote and seals the snapshot's lookups.
func decode(stored []byte) (*Snapshot, error) {
	if len(stored) == 0 || stored[0] != snapshotFormat {
		return nil, fmt.Errorf("workspace snapshot is of an unknown format: a newer Kith may have written it")
	}
	doc, err := decoder().DecodeAll(stored[1:], nil)
	if err != nil {
		return nil, fmt.Errorf("workspace snapshot is damaged: %w", err)
	}
	s := new(Snapshot)
	if err := json.Unmarshal(doc, s); err != nil {
		return nil, fmt.Errorf("workspace snapshot is damaged: %w", err)
	}
	s.Seal()
	return s, nil
}

// marshal is json.Marshal that leaves <, > and & as they are, so that raw
// documents keep their text.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
