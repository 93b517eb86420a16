// Package certificatetest runs a certificate authority for tests: pebble, Let's
// Encrypt's own small ACME server, in the process of the test, with a name
// server for which every name is this machine.
package certificatetest
