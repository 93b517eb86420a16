// Package webhook is the destination that sends events to a URL as they are.
//
// A request is a POST of application/json. Its body is the event in Segment's
// shape, or, with batching, a JSON array of such events. With a shared secret
// the header X-Signature is the hex HMAC-SHA1 of the body. The header
// X-Kith-Resent: true marks a dead letter that a person has sent again; it
// comes in a request of its own.
//
// Any 2xx is delivered. 408, 423, 429 and 5xx but 501 are tried again, after
// Retry-After if there is one, and so is what got no answer at all (sheet
// connections_protocols §3.2). Everything else is permanent, redirects that
// would lose the body and addresses that egress refuses among them.
package webhook
