// Package dedup is the index of the messageIds of a space: it says exactly
// whether an id came before within a window of time, and where its first
// record is.
//
// Every id that counts is one key in the store, in the bucket of its at (5
// days wide), written in the transaction of its batch. A bucket that has left
// the window is dropped as a range. The answer always comes from these keys;
// where a bucket ends and when it goes changes no answer.
//
// Most ids are new, and nothing is slower to find in the store than what is
// not there. So each bucket has a Bloom filter in memory, 12 bits an id, and
// the store is asked only for what a filter cannot rule out. A filter is a
// help and nothing else: while one is missing, the store is asked for every
// id. There are two kinds. What the loop adds goes into a filter that grows
// and is nowhere but in memory. When a bucket has passed, its keys are read
// once, and the filter made of them is kept in the store beside them. After a
// start these are loaded, and the keys of the bucket that goes on are read
// once, while the loop is already at work.
//
// The filters of an index together take at most Config.FilterBytes; what finds
// no room there does without, which costs a look into the store for every id
// and such bucket.
package dedup
