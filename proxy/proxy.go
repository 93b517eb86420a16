package proxy

import (
	"net/http"
	"net/netip"
	"strings"
)

// Trusted are the networks of the proxies that are believed. Nil trusts nobody.
type Trusted []netip.Prefix

// Peer reports whether a request comes straight from a trusted proxy.
func (t Trusted) Peer(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && t.has(plain(peer.Addr()))
}

// Client returns the address of who has sent a request: its peer, or whom a
// trusted proxy speaks for, which is the last address of X-Forwarded-For that is
// no trusted proxy itself. It is the zero Addr when the peer has no address.
// IPv4 in IPv6 comes as IPv4, and none has a zone.
func (t Trusted) Client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := plain(peer.Addr())
	if !t.has(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && t.has(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = plain(hop)
	}
	return addr
}

func (t Trusted) has(a netip.Addr) bool {
	for _, p := range t {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
