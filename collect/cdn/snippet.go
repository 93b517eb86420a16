package cdn

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"kith/fault"
)

// snippet is the text of Snippet, with KEY and CDN in it.
//
//go:embed snippet.html
var snippet string

// Snippet returns what a page needs in its head to send to the server at base
// ("https://events.example.com") with a write key: a script that keeps the calls
// of the page until analytics.js is there, loads it, and notes the page view. It
// ends with a line feed.
func Snippet(base, writeKey string) (string, error) {
	key, err := json.Marshal(writeKey) // < and > are escaped, as in a script they must be
	if err != nil {
		return "", fmt.Errorf("write the snippet: %w", err)
	}
	cdn, err := json.Marshal(strings.TrimRight(base, "/"))
	if err != nil {
		return "", fmt.Errorf("write the snippet: %w", err)
	}
	return strings.NewReplacer(`"KEY"`, string(key), `"CDN"`, string(cdn)).Replace(snippet), nil
}

// SnippetFor returns the snippet for a write key, and the URL in it, which is
// that under which whoever asks reaches this server. When the request names no
// host, and no public URL is set, the error is fault.Invalid.
func (c *CDN) SnippetFor(r *http.Request, writeKey string) (html, base string, err error) {
	if base = c.Base(r); base == "" {
		return "", "", fault.New(fault.Invalid, "the Host header is no name of a host: start the server with --public-url, or ask with a proper one")
	}
	html, err = Snippet(base, writeKey)
	return html, base, err
}
