// Package client is the Go client of a Kith server: the control API, the
// Profile API, the Tracking API and the feed of live events, over plain HTTP.
//
// The command line and the end-to-end tests use it and have no side doors.
// Errors carry the fault kind that the status code stands for, and the server's
// own words; an unreachable server is fault.Unavailable. Nothing is tried again
// here: the caller knows whether it may be.
package client
