// Package audience is what operators see of audiences: whether a definition
// can stand, how far it has been computed, who is in it, and when that can
// change next.
//
// An audience itself is a declaration of the workspace, and computation is what
// computes it. This package keeps no keys and computes nothing: it checks
// definitions against each other before a snapshot is accepted, and reads.
package audience
