// Package model is the naive model of identity and profile: plain lists and
// maps, every history evaluated from its beginning, nothing kept between two
// answers. It is slow and meant to be obviously right; tests compare the rooms
// of the row with it.
//
// It reads events with encoding/json and by the words of sheet
// unify_engage_privacy §1.1–1.5, and shares no code with the rooms but the
// types of event and workspace. What it does not model are the rooms' bounds on
// absurd input: the length of values and names, the number of types,
// identifiers and traits.
package model
