// Package pebblekv is the kv store on the local disk: the embedded default. It
// stands on Pebble, a log-structured merge tree.
//
// A transaction gathers what it writes in memory, looks there first when it
// reads, and goes to Pebble as one batch when it commits. Durable commits wait
// for the fsync of Pebble's write-ahead log, which commits that arrive together
// share; Lazy ones do not, and ride on the next. Views read a snapshot, which
// those share that begin between two commits; what they have read lately is kept
// beside Pebble and is exact; and so is what updates have read, under fences
// that ask for it.
//
// One process at a time may have a directory open. When the disk refuses a
// write (full, broken) the process ends: what was acknowledged is safe, and
// nothing more can be.
//
// It keeps no keys of its own.
package pebblekv
