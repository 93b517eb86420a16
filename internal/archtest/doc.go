// Package archtest holds the walls of the house as tests: which room may know
// which, and the habits that keep the rooms readable. docs/architecture.md
// draws the same walls for people.
//
// A wall is a function from a parsed source tree to a list of complaints. Each
// is run twice: on this repository, where it must find nothing, and on a small
// tree in testdata that breaks it, where it must find what is wrong there, so
// that no wall can pass because it looks at nothing.
package archtest
