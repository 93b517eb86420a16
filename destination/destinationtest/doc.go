// Package destinationtest holds every connector to the contract of package
// destination.
//
// A connector's test is a dozen lines: how its settings point to a URL, what
// its remote side answers when it takes, refuses or puts off events, and
// Run.
package destinationtest
