// Package profile keeps the traits of people and accounts, and answers the
// Profile API (sheet unify_engage_privacy §1.4, §1.8).
//
// Its stage comes behind identity. A trait is any key of the traits of an
// identify call (a person's) or a group call (an account's). Of what was sent
// under a name the newest holds, by effective time, ties by record order; so
// also across a merge. A null removes the trait and stays behind as a dated
// tombstone, so that an older value that comes late, or with a merge, does not
// bring it back. Values are kept as the JSON text they were sent as. A call
// that gives firstName and lastName and no name gives the name too; a name that
// was sent stands before one that was derived, whichever is newer.
//
// The traits of a profile are a page, split in two by a hash of the name, and
// again, when it grows beyond 8 KiB. A page is read at most once a batch, and
// written once when something in it has changed, a newer date among that. A
// merge joins the pages of the child into the survivor's; the child's stay as
// they were.
//
// The traits that a space lists are indexed, for the search: see index.go. The
// index is written only when such a value changes, and filled beside the loop,
// by an Indexer, when another trait is listed.
//
// What is computed of a profile (memberships, computed traits) is not stored
// here: the Profile API is told by computation. Nor are events: it reads them
// from the archive.
package profile
