package workspace

import (
	"encoding/binary"

	"kith/kv"
)

// room is the room byte of the workspace's keys, in the workspace scope.
const room = 'c'

// fence is the fence of all writes to the workspace's keys.
const fence kv.Fence = "workspace"

// snapshotFormat is the first byte of a stored snapshot: what follows is a
// zstd frame of the Snapshot's JSON.
const snapshotFormat = 1

// snapshotKey is the key of a snapshot.
//
//	form:    'w' 'c' number:u64
//	value:   format 1, zstd(JSON of Snapshot); written once, never changed
//	fence:   "workspace"
//	epoch:   no
//	erasure: none (it holds no people; secrets in it are sealed)
func snapshotKey(number uint64) kv.Key { return kv.WorkspaceKey(room).Uint64(number) }

// newestSnapshot returns the number of the newest stored snapshot, zero when
// there is none.
func newestSnapshot(r kv.Reader) (uint64, error) {
	all := kv.Prefix(kv.WorkspaceKey(room))
	all.Reverse, all.Limit = true, 1
	for pair, err := range r.Scan(all) {
		if err != nil {
			return 0, err
		}
		return binary.BigEndian.Uint64(pair.Key[len(pair.Key)-8:]), nil
	}
	return 0, nil
}
