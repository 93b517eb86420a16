// Package server is the plan of the house: the one place that knows all rooms
// and puts them together.
//
// New opens the data directory and builds every part; Run serves until its
// context ends and then stops the parts in the order of an event's walk:
// collect takes nothing more, the loops finish what is in the logs, delivery
// finishes what it has begun. All of that is bounded in time, and none of it is
// needed: after kill -9 the next start goes on from the last commit.
//
// Drivers and connectors are handed in as values (see package standard), so a
// test, or "kith test", runs the same server on memory.
//
// Keys (keys.go): workspace scope, room 'm'; space scope, rooms 'r' and 'o',
// the stems of the two logs. Files (files.go): everything in the data
// directory.
package server
