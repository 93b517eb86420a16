package proxy_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"kith/proxy"
)

func TestClient(t *testing.T) {
	trusted := proxy.Trusted{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
		isProxy   bool
	}{
		{"192.0.2.1:9", nil, "192.0.2.1", false},
		{"192.0.2.1:9", []string{"198.51.100.7"}, "192.0.2.1", false}, // nobody's proxy
		{"10.0.0.1:9", nil, "10.0.0.1", true},
		{"10.0.0.1:9", []string{"198.51.100.7"}, "198.51.100.7", true},
		{"10.0.0.1:9", []string{"203.0.113.9, 198.51.100.7, 10.2.3.4"}, "198.51.100.7", true}, // what came before is the client's word
		{"10.0.0.1:9", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7", true},
		{"10.0.0.1:9", []string{"198.51.100.7, rubbish"}, "10.0.0.1", true},
		{"[::ffff:10.0.0.1]:9", []string{"::ffff:198.51.100.7"}, "198.51.100.7", true},
		{"[2001:db8:1::5]:9", []string{"fe80::1%eth0"}, "fe80::1", true},
		{"@", []string{"198.51.100.7"}, "invalid IP", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := trusted.Client(r).String(); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
		if got := trusted.Peer(r); got != c.isProxy {
			t.Errorf("%s is a proxy: %v", c.peer, got)
		}
	}
}
