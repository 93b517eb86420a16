// Package certificate keeps the TLS certificate that a server shows.
//
// It comes from one of three: Files, which somebody else renews and which are
// read again when they change; Local, of an authority made on this machine for
// development; ACME (RFC 8555), where a public authority is asked for it and
// for its renewal. Whatever goes wrong with a new certificate, the one that
// there is stays in use and the log says what happened.
//
// Each has the same three methods: TLS returns the configuration of a
// listener, TLS 1.2 or later with the ciphers that Go's crypto/tls takes by
// itself; Run keeps the certificate fresh until its context ends; Shown says
// which certificates are shown and until when they hold.
//
// Time here is that of the world, in which certificates are judged: the clock
// passed in is the machine's even where a server's own clock stands.
package certificate
