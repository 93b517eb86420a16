// Package timer keeps durable wake-ups in kv. A space's loop fires them between
// records, each at the instant at which it was due.
//
// A timer is a key (due, room, subject) under space and epoch. Rooms arm one
// timer a subject for its earliest instant: an earlier instant replaces the
// key; a later one is left to the firing, which looks and arms itself again.
// Beside them one key holds an instant before which none is armed.
package timer
