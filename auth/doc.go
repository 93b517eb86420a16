// Package auth says who may call the APIs.
//
// There are four kinds of token. The admin token, one a server, may do
// everything; it comes from the environment or from a file that is made at the
// first start. Profile tokens, any number a space, read the profiles of that
// space and do nothing else, unless they were made to delete identifiers too;
// each is shown once, when it is made, and kept as its SHA-256 only. Both are
// random with 192 bits, so a fast hash is enough.
//
// Access tokens let servers write to the Tracking API. Senders get them by
// themselves, for some hours or days, from OAuth, which is the authorization
// server that the SDKs know (RFC 6749 and 7523; sheet connections_protocols
// §1.8): an application has public keys, a sender signs with the private half,
// which never comes here. Access tokens are signed and not kept.
//
// Client tokens let an app read one profile for some minutes: whoever has a
// profile token asks for them. They are signed under the same secret, and not
// kept; what is kept is which web pages may use some (CORS).
//
// Wrong tokens and assertions are bounded by client. The package never logs a
// token or an assertion, and knows no path but that of the token endpoint. Its
// keys are in keys.go; its file is Name in the data directory (erasure class
// none).
package auth
