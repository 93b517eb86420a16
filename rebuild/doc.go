// Package rebuild works out again what is derived of a space, from its first
// record on, while the live state goes on beside it; and then lets the new take
// the place of the old.
//
// What is derived carries an epoch. A rebuild is a job that replays the past
// into the next epoch, through a row of its own, and swaps when that has caught
// up: from one commit on everybody reads the new epoch, and events go on being
// taken all the while. What was told to destinations is under no epoch: after
// the swap a second job compares it with the new state and tells the difference.
// The old epoch is kept for a while, for swapping back: then it is replayed from
// where it stood.
//
// This package keeps the list of epochs, and the jobs. How a replay is put
// together, and what a swap takes, is the server's business: see House. Nothing
// that a job does is lost in a crash: before the swap the rebuild goes on from
// its position, after it the new epoch is the live one.
//
// Keys: keys.go.
package rebuild
