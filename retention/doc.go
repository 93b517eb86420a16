// Package retention lets the bodies of events go by their age.
//
// A space says how long it keeps its events. Once a day Retention looks, by the
// injected clock, how far the horizon of each space may move: to the first record
// that is young enough, but not past what somebody has still to read (Hold). It
// asks for the base to be led there (Base), which moves the horizon; and then a
// job takes what lies behind the horizon out of the blocks, forgets the outputs
// that are older, and has the store scrub its files.
//
// What happened is kept under one key; see keys.go.
package retention
