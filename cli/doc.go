// Package cli is the command line: what people type after "kith".
//
// Results go to stdout, progress and logs to stderr. The exit code is 0 when
// the work is done, 1 when it failed, 2 when the command was wrong. Every flag
// can be given as KITH_ and its name in capitals too; the flag wins. --json
// makes results machine-readable.
//
// All commands but serve, test and version talk to a running server through
// package client and have no other way in.
package cli
