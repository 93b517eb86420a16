// Package erasure forgets persons and accounts: what is derived from their
// events, in the commit that passes the command; and the events themselves,
// which no reader shows from that commit on and which a job takes out of all
// files within the erase deadline.
//
// Stage is the last door of the row. At an erase command it finds whom the
// command means, has every room forget them, and writes the erasure down in the
// archive, whose readers hide by it. Erasures is the work behind it: it gathers
// the erasures that come together, reads every block once for all of them,
// writes anew those that hold something, has the other rooms take out what they
// keep, has the store scrub its files, and leaves a receipt.
//
// What it needs of the other rooms is the interface Rooms; server puts them
// together.
package erasure
