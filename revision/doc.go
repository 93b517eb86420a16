// Package revision works out again what standing commands change of the past:
// an un-merge, a value that identifies nobody, and the lifting of either.
//
// identity holds to such a command from its record on, and leaves a note. The
// Reviser takes the note and finds the set of profiles that the command may
// have made others of: those that own its identifiers, and all that share an
// event with them. It leads the events of that set, in the order of the
// sequence and with all standing commands in force, through a row of its own
// over a store in memory, the scratch, under the same epoch number, so that the
// keys there are those of the live epoch. Then, in one transaction of the
// space's loop, it catches up with what came meanwhile and puts the keys of the
// scratch in the place of those of the set. What comes out is what a rebuild of
// the whole space would give: every event goes where its identifiers go, parts
// keep the ids that they were created with.
//
// What destinations must be told of it is compared afterwards, profile by
// profile, by activation, which knows what they were told. A note of who is
// still to be looked at stays until all are, so that a crash neither loses nor
// doubles anything.
//
// A set that is too large for this waits for a rebuild of the space, and its
// state says so. See docs/undo.md for people, keys.go for the keys.
package revision
