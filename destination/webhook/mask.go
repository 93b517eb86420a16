package webhook

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// hidden stands for a secret in what the webhook says.
const hidden = "•••"

// shortest is the length from which on a part of the URL or of a header may
// be a secret.
const shortest = 6

// newMask returns what takes secrets out of reasons: a server may repeat in
// its answer what it was sent. Secret are the shared secret, the values of
// headers, and of the URL all that follows the host, since many services put
// a key there.
func newMask(s *settings, u *url.URL) *strings.Replacer {
	words := []string{s.SharedSecret, s.URL, u.RequestURI(), u.RawQuery, u.EscapedPath(), u.Path, u.Fragment}
	for _, value := range s.Headers {
		words = append(words, value)
		if _, credentials, ok := strings.Cut(value, " "); ok { // "Bearer …"
			words = append(words, credentials)
		}
	}
	if password, ok := u.User.Password(); ok {
		user := u.User.Username()
		words = append(words, password, user, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	for _, values := range u.Query() {
		words = append(words, values...)
	}
	words = append(words, strings.Split(u.EscapedPath(), "/")...)
	for _, word := range slices.Clone(words) {
		if quoted, err := json.Marshal(word); err == nil {
			words = append(words, string(quoted[1:len(quoted)-1]))
		}
	}
	// The longest first, so that no part of it is left. Words too short to be
	// secrets would only make reasons unreadable.
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range words {
		if len(word) >= shortest || word != "" && word == s.SharedSecret {
			pairs = append(pairs, word, hidden)
		}
	}
	return strings.NewReplacer(pairs...)
}
