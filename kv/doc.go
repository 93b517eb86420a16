// Package kv is the first seam: an ordered store of bytes with fenced
// transactions. Everything durable in Kith is kept behind it.
//
// A driver (memkv, pebblekv) implements DB. Reads go through View, which sees
// one moment of the store, or through the transaction of Update. Updates under
// one Fence run one after another; updates under different fences run at the
// same time and are never compared with each other, so a transaction may read
// only keys that its own fence writes and keys that never change once written
// (workspace snapshots, log blocks). No engine is asked to detect conflicts:
// there is one owner of everything, and the transaction is there for atomicity
// and fencing. kvtest holds every driver, and the rooms' use of it, to this.
//
// Keys are built with WorkspaceKey, SpaceKey and EpochKey, so that all that
// belongs to a space, or to one epoch of its derived state, lies in one range
// and can be dropped by range. docs/keys.md lists who owns which room byte.
package kv
