// Package identity decides whose an event is: it finds the identifiers on an
// event, looks up whom they belong to, creates, extends and merges profiles,
// and protects profiles from merges that their space's rules do not allow
// (sheet unify_engage_privacy §1.1–1.3).
//
// It is a stage of the row. What it decided about a record is its Resolution,
// in the slot that the rooms behind it read; they never read its keys. Reader
// reads the identity graph outside the row.
//
// How it decides, in short. The identifiers that are left after blocked values
// are taken away are put in the order of their priority. From the highest
// down, each is kept if the profile that would come of it, together with those
// kept before, stays within the limits of every type; otherwise the event does
// not use it, and it stays with whoever owns it. So what is dropped is what
// cannot stand beside something of a higher rank, and nothing else. The owners
// of what was kept become one profile, the one created first; what nobody
// owned is attached to it.
//
// Two choices of detail. A limit refuses what an event would bring, it never
// takes apart what is there: a profile that came to be beyond a limit (the
// rules were tightened, a merge under older rules) goes on as it is, but gets
// no further value of that type. With a window, an identifier counts when it
// was first attached, by effective time, within the window that ends with the
// event: after time−window and not after time.
//
// A merge is a link from child to survivor. The child's own record stays as it
// was; the survivor's record gets a copy of the child's identifiers, and the
// index of identifiers, which says who owns an identifier now, is pointed at
// the survivor: a merge costs what its identifiers cost, and an event that
// brings nothing new costs one look-up for each of its identifiers and no
// write at all.
//
// It never uses a clock, a network or chance: a profile's id derives from the
// record that created it, its instants are those of its records.
package identity
