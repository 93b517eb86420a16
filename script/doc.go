// Package script is the small language in which Kith's behaviour is written
// down: send this, order that, let time pass, expect such a profile. docs/scripts.md
// is its description and grammar.
//
// Parse reads a script and finds every mistake in it before anything is sent.
// Run leads it against a Target; Server is the Target that speaks to a running
// server over its public APIs, and Receiver stands in for the webhooks of its
// destinations. "kith test" puts them together. The package knows no room: what
// it sees is what a user of the APIs sees.
//
// It keeps no keys.
package script
