// Package archive is the events themselves, for everyone who reads the past:
// the Profile API, first computations, delivery, replay.
//
// On the embedded store the events are the very blocks of a space's raw log;
// archive adds, in the loop's own commit, what became of them: the verdicts of
// intake, which hold for ever, and under each epoch the profile of every event
// and an index from a profile to its events in the order of their time.
//
// It never decides anything: it records what the row decided, and reads. See
// keys.go for its keys.
package archive
