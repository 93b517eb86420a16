// Package workspace holds what an operator declares: spaces, sources,
// destinations and their subscriptions, tracking plans, audiences.
//
// All of it together is a Snapshot: numbered, immutable, replaced whole by
// every change. Everyone reads the snapshot that is current for them: collect
// and delivery the newest, a space's loop the one that the last config record
// of its sequence names, so that a rebuild sees each event under the
// configuration it met. The types here are plain data with the field names of
// Segment's Public API; what runs on them lives in the rooms.
package workspace
