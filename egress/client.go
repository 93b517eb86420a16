package egress

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"kith/fault"
)

// Limits of what a remote side may take of this one.
const (
	MaxRedirects     = 5
	MaxResponseBytes = 1 << 20 // what is read of a response's body
	maxHeaderBytes   = 64 << 10
	dialTime         = 10 * time.Second
	idleTime         = 90 * time.Second
)

// Client returns a client whose every connection is checked. All clients of a
// guard share their connections. How long a request may take is the caller's
// business (the request's context). Reading more than MaxResponseBytes of a
// body is a fault.Permanent error.
//
// A redirect is followed when it keeps the method and the body (307 and 308;
// of a GET, all) and does not leave TLS. To another host it takes along no
// header that could hold a credential. Any other redirect is the response.
func (g *Guard) Client() *http.Client {
	return &http.Client{Transport: bounded{g.transport}, CheckRedirect: checkRedirect}
}

// Close closes the connections that nobody uses.
func (g *Guard) Close() { g.transport.CloseIdleConnections() }

func (g *Guard) newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second, Control: g.control}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    dialTime,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ExpectContinueTimeout:  time.Second,
	}
}

// control is called with the address that is about to be connected to.
func (g *Guard) control(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fault.New(fault.Denied, "%q is no address", address)
	}
	return g.Check(a.Addr())
}

// unsuspicious are the headers that go along to another host.
var unsuspicious = []string{"Content-Type", "Content-Length", "User-Agent", "Accept"}

func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > MaxRedirects:
		return fault.New(fault.Permanent, "more than %d redirects", MaxRedirects)
	case req.Method != first.Method, first.URL.Scheme == "https" && req.URL.Scheme != "https":
		return http.ErrUseLastResponse
	}
	if req.URL.Host != first.URL.Host {
		kept := http.Header{}
		for _, name := range unsuspicious {
			if v := req.Header.Values(name); len(v) > 0 {
				kept[name] = v
			}
		}
		req.Header = kept
	}
	return nil
}

// bounded bounds the bodies of responses.
type bounded struct{ base http.RoundTripper }

// RoundTrip passes the request on and puts a bound on the answer.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: MaxResponseBytes}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

var errTooLong = errors.New("the response is too long")

// Read reads up to the bound; one byte more is an error.
func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if n > b.left {
		return b.left, fault.Wrap(fault.Permanent, errTooLong)
	}
	b.left -= n
	return n, err
}
