// Package kvtest holds every kv driver to the contract of package kv, and the
// rooms' use of a store to its rule.
//
// Run is the suite that each driver's tests call. Replay runs a random script
// and writes down every answer, so that two stores can be compared: memkv, the
// reference model, with a plain map, and every other driver with memkv. Watch
// wraps the store of a test and reports transactions that read what another
// fence changes.
package kvtest
