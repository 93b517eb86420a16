// Package event holds the words that every room speaks: the Event and its six
// calls, the Record that carries it through Kith, its ids, and the Block in
// which records are written to a space's raw log.
//
// An event's body is JSON in Segment's shape and is kept as it was accepted:
// numbers stay the text they were sent as, sub-documents are looked into only
// when somebody asks. Its Head holds the few things that decide whose event it
// is and when it happened, so that history can be read without bodies.
//
// The forms written here are read for as long as the data lives. Each begins
// with a format byte; docs/keys.md names the readers.
package event
