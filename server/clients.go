package server

import (
	"net/http"
	"net/netip"
	"strings"

	"kith/auth"
)

// client names who has sent a request, for bounds that are held by client: its
// peer, or whom a trusted proxy speaks for, which is the last address of
// X-Forwarded-For that is no trusted proxy itself.
func (s *Server) client(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
	}
	return auth.ClientName(addr)
}

func (s *Server) trusts(a netip.Addr) bool {
	for _, p := range s.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
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
