// Package egress decides where Kith may send requests of its own accord.
//
// Operators type URLs, remote sides answer with redirects, and names change
// the addresses they stand for; any of these could point into the network that
// the server stands in. A Guard lets requests out to public addresses only,
// and to the networks that the server was started with (--egress-allow). It is
// asked twice: CheckURL when a URL is saved, so that the operator hears of it
// at once, and the dialer of every Client just before it connects, when the
// address is known that a name or a redirect has led to.
//
// Requests do not go through the proxy that environment variables may name:
// what a proxy connects to could not be checked.
//
// The package keeps no keys.
package egress
