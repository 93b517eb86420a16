// Package clock is the one place where time enters.
//
// Rooms receive a Clock and never call time.Now. System is the machine's
// clock. Manual stands still until it is moved: tests and the server's
// --test-clock use it.
package clock
