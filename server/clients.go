package server

import (
	"net/http"
	"strings"

	"kith/auth"
)

// client names who has sent a request, for bounds that are held by client.
func (s *Server) client(r *http.Request) string {
	if addr := s.cfg.TrustedProxies.Client(r); addr.IsValid() {
		return auth.ClientName(addr)
	}
	return ""
}

// audiences returns the URLs that an assertion may be meant for: the public
// one, and the one that was asked. That the sender names the host itself does
// no harm: an assertion is for one application, whose id no other server has.
func (s *Server) audiences(r *http.Request) []string {
	list := []string{s.publicURL()}
	if host := strings.ToLower(r.Host); host != "" && len(host) <= 255 {
		for _, scheme := range []string{"https://", "http://"} {
			if url := scheme + host; url != list[0] {
				list = append(list, url)
			}
		}
	}
	return list
}
