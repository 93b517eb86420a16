// Package kvlog keeps a log in any kv store.
//
// A block is one pair, written once; the log is the run of them in the order
// of their offsets. Append hands its blocks to one committer, which writes all
// that wait in one durable transaction, so that appends that arrive together
// share an fsync. AppendTx writes into a transaction of the caller instead; a
// log used that way never starts its committer. Nothing is kept in memory but
// the end of the log, and readers see nothing beyond it, because a store may
// show a commit before it is durable.
//
// A log has one Log value at a time that appends to it; many may read it
// through that value. What is in a block is not this package's business.
//
// Its keys begin with a stem that the caller owns; see keys.go.
package kvlog
