// Sends the calls of e2e/sdk through the unmodified analytics-go. What it is to
// do comes in the environment: ENDPOINT, WRITE_KEY, PERSON, COUNT, and MODE,
// basic or retry (small batches). It ends with status 1 if the SDK gave
// anything up.
//
// It is a module of its own, so that Kith does not depend on the SDK.
package main
