// Package secret seals credentials at rest.
//
// A server has one key, in a file of its own beside the data, made at the first
// start and readable by its owner only. What is sealed with it is text that may
// be stored and copied with the rest; without the key file it is lost. Sealed
// text is never shown, and no error says what was in it.
//
// The package keeps no keys in the store; its file is Name in the data
// directory (erasure class none: it holds nothing of a person).
package secret
