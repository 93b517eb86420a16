// Package proxy says on whose behalf a request comes: it knows which peers are
// proxies of the operator's, whose X-Forwarded headers may be believed, and
// whose may not. It decides nothing else and keeps nothing.
package proxy
