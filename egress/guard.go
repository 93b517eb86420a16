package egress

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kith/fault"
)

// Flag is the flag that allows more networks, as messages name it.
const Flag = "--egress-allow"

// lookupTime bounds the look-up of a name when its URL is saved.
const lookupTime = time.Second

// Resolver finds the addresses of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Guard knows which addresses may be reached. It is safe for concurrent use.
type Guard struct {
	allow     []netip.Prefix
	resolver  Resolver
	transport *http.Transport
}

// New returns a guard that lets out to public addresses and to allow. Names
// in URLs that are saved are looked up with resolver; nil looks up none.
func New(allow []netip.Prefix, resolver Resolver) *Guard {
	g := &Guard{allow: allow, resolver: resolver}
	g.transport = g.newTransport()
	return g
}

// ParseAllow reads the value of the flag; see ParseNetworks.
func ParseAllow(text string) ([]netip.Prefix, error) { return ParseNetworks(Flag, text) }

// ParseNetworks reads networks ("10.0.0.0/8") and single addresses, with commas
// between them. Nothing gives nothing. Errors, fault.Invalid, name the flag.
func ParseNetworks(flag, text string) ([]netip.Prefix, error) {
	var allow []netip.Prefix
	for _, word := range strings.Split(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, aerr := netip.ParseAddr(word)
			if aerr != nil || a.Zone() != "" {
				return nil, fault.New(fault.Invalid, "%s: %q is no network; write it like 10.0.0.0/8, 192.168.1.5 or fd00::/8", flag, word)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fault.New(fault.Invalid, "%s: %q mixes IPv4 and IPv6 networks; name them apart", flag, word)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		allow = append(allow, p.Masked())
	}
	return allow, nil
}

// Check returns nil for an address that may be reached, and else a
// fault.Denied error that names the flag.
func (g *Guard) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if g.allowed(a) {
		return nil
	}
	inner, embeds := embedded(a)
	if embeds && g.Check(inner) == nil || !embeds && public(a) {
		return nil
	}
	return fault.New(fault.Denied, "%s is %s", a, refusal(a))
}

// refusal says why an address is not reached and what to do about it.
func refusal(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	return "no public address; to reach it, start the server with " + Flag + " " + netip.PrefixFrom(a, a.BitLen()).String()
}

func (g *Guard) allowed(a netip.Addr) bool {
	for _, p := range g.allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// CheckURL checks a URL that is about to be saved. Errors are fault.Invalid.
// A name whose addresses cannot be found now is taken: they are checked again
// when they are dialled.
func (g *Guard) CheckURL(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) { // its text repeats the URL, which may hold a secret
			err = parse.Err
		}
		return fault.New(fault.Invalid, "this is no URL: %v", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fault.New(fault.Invalid, "a URL like https://example.com/path is expected")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fault.New(fault.Invalid, "%s is no port", port)
		}
	}
	host := u.Hostname()
	addrs := g.lookup(ctx, host)
	for _, a := range addrs {
		if g.Check(a) == nil {
			return nil
		}
	}
	switch {
	case len(addrs) == 0:
		return nil
	case addrs[0].String() == host:
		return fault.New(fault.Invalid, "%s is %s", host, refusal(addrs[0]))
	}
	return fault.New(fault.Invalid, "%s is %s, which is %s", host, addrs[0], refusal(addrs[0]))
}

// lookup returns the addresses of a host, or none when they are not known.
func (g *Guard) lookup(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761, 6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if g.resolver == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	return addrs
}
