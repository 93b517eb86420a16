// Package activation is the last door of the row: it knows what each
// destination should know of a profile, what it was told, and sends the
// difference as Segment's payloads.
//
// For every identifier ever sent it keeps, outside every epoch, what was last
// announced under it to each destination for each audience. One function uses
// that, reconcile: it compares memberships with what was told, emits the
// difference as messages and updates the record, in the loop's own commit. A
// changed membership, a new identifier, a merge, a destination connected later
// and a finished first computation are all this function, so nothing is
// announced twice and no exit is forgotten. The first sync of a destination is
// a job (Syncs) that hands the members to the loop in pieces.
//
// It never sends anything: delivery does. See keys.go for its keys.
package activation
