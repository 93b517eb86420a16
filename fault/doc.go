// Package fault names the few kinds of error that Kith tells apart.
//
// The rooms wrap an error once with what they were doing and let its kind pass
// through; only the edges (HTTP, CLI, delivery) translate a kind into a status
// code, an exit code or a retry. Nothing decides by the text of an error.
package fault
