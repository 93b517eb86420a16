// Package memkv is the kv store in memory: the reference model that the other
// drivers are compared with, and the store of tests and of `kith test`.
//
// It is meant to be obviously right. All pairs are in one sorted tree that is
// copied on write, so a View is simply the tree as it was, and a transaction
// works on a copy of its own whose writes are put into the tree when it
// commits. It never touches a disk; what a disk would have lost in a crash it
// can tell (DB.Crash), because it remembers which commits are durable. For
// simulation it can refuse calls, lose the answer of a commit, and run a
// transaction's function twice (Options).
//
// It keeps no keys of its own.
package memkv
