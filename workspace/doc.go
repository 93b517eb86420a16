// Package workspace holds what an operator declares: spaces, sources,
// destinations and their subscriptions, tracking plans, audiences.
//
// All of it together is a Snapshot: numbered, immutable, replaced whole by
// every change. Everyone reads the snapshot that is current for them: collect
// and delivery the newest, a space's loop the one that the last config record
// of its sequence names, so that a rebuild sees each event under the
// configuration it met. The types here are plain data with the field names of
// Segment's Public API; what runs on them lives in the rooms.
//
// Store keeps the snapshots and is the only way to change them: it checks the
// whole, seals secrets, gives the number, writes, announces, and only then lets
// others see it. ParseFile, Export and Apply turn a workspace into a file and
// back.
//
// The package never runs an event, never talks to the network, and knows no
// connector, query or trigger: it is handed their checks in Options.
//
// Its keys are in keys.go.
package workspace
