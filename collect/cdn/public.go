package cdn

import (
	"net/http"
	"regexp"
	"strings"
)

// host is what a Host header may be: a name or an address, with a port or
// without. It goes into scripts and settings, so nothing else may.
var host = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// Base returns the URL under which a request's client reaches this server,
// without a slash at the end: the public URL, or the scheme and host that the
// request came with. Of a trusted proxy X-Forwarded-Proto and X-Forwarded-Host
// are believed, of several the last, which that proxy has added. It is empty when
// the request names no host that could be one.
func (c *CDN) Base(r *http.Request) string {
	if c.config.PublicURL != "" {
		return c.config.PublicURL
	}
	scheme, name := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if c.config.TrustedProxies.Peer(r) {
		if proto := last(r.Header.Values("X-Forwarded-Proto")); proto == "http" || proto == "https" {
			scheme = proto
		}
		if forwarded := last(r.Header.Values("X-Forwarded-Host")); forwarded != "" {
			name = forwarded
		}
	}
	if !host.MatchString(name) {
		return ""
	}
	return scheme + "://" + strings.ToLower(name)
}

// shared says how long a file that has the base in it may be kept. Where the
// base is what a request said, only by who asked: with one header that a cache
// in front does not tell requests apart by, somebody could else have it hand
// everybody a script that sends to them.
func (c *CDN) shared(keep string) string {
	if c.config.PublicURL == "" {
		return strings.Replace(keep, "public", "private", 1)
	}
	return keep
}

// last returns the last element of a header that is a list.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	text := values[len(values)-1]
	return strings.TrimSpace(text[strings.LastIndexByte(text, ',')+1:])
}

// noHost is the answer to a request from whose Host header nothing can be made.
func noHost() *refusal {
	return &refusal{http.StatusBadRequest, "the Host header is no name of a host: start the server with --public-url, or ask with a proper one"}
}
