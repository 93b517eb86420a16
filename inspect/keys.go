package inspect

import (
	"encoding/json"

	"kith/fault"
	"kith/kv"
)

// Keys, all written under the fence "inspect":
//
//	w x r source seq:u64 → format 1, JSON of the Rejection
//
// seq rises with every rejection of the server. Erasure class: expires (after
// 7 days, and sooner when a source has more than 1,000).
const (
	room            = 'x'
	rejections byte = 'r'
)

const fence kv.Fence = "inspect"

const rejectionFormat = 1

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
