// Package computation is the one engine behind audiences: it keeps what
// definitions count, evaluates them, and says who entered and who left.
//
// All definitions of a space are one graph. A definition compiles to aggregates
// (an event, a filter, how much is kept), conditions over them and over traits,
// and membership; an audience may read another's membership as a trait. An
// aggregate is shared by all that count the same, and keeps what the most
// demanding of them needs. Indexes lead from an event's name to the aggregates
// it can touch and from a trait to the definitions that read it; nothing else
// is looked at, so what an event costs does not depend on how many definitions
// there are beside those it concerns.
//
// # What is kept
//
// Per aggregate and profile a cell: of a count over the whole history a number;
// of one over a window that ends now and is compared with n the n+1 newest
// effective times, which is exact for late events too; of any other window all
// times in it; and where the filter depends on a trait, or on how far a date is
// away, also the fields it reads. The last two are bounded at query.MaxKept
// entries a profile, the newest by effective time. The cells of one event lie
// together on shelves, since they change together. Per profile a page: its
// memberships, and for each the next instant at which it can change.
//
// An event at t counts for within(d) while t <= now < t+d, for between(a, b)
// while t+a <= now < t+b; a day is 24 hours, instants are milliseconds.
//
// # Time
//
// now is the record's instant. Every evaluation yields the next instant at
// which its answer can change without an event; one timer a profile is armed
// for the earliest. An instant that moves away is left to the firing, which
// evaluates what is due and arms the next. A late event changes what is true
// from now on and takes nothing back.
//
// # Builds
//
// Each version of an audience is a build. From the config record that brings
// it on, at offset C, its aggregates are fed; a Builder joins what lies before
// C from the archive, profile by profile, has every profile evaluated quietly,
// and makes the build live in one commit. From then on its changes are
// announced, and a last walk announces those that were made quietly. The
// version before stays live until then. Builds that come together are computed
// together, with one scan; those that come meanwhile are fed and wait.
//
// Disabled, an audience stands still: its members stay, nothing is announced,
// and enabling it again is a new build, of which only the difference goes out.
// Deleted, its members are let go one by one, with an exit each: a destination
// should not keep a list that nobody keeps up. (Segment announces nothing and
// leaves the key behind as a trait.)
//
// Everything here is a function of the records: no clock, no randomness.
package computation
