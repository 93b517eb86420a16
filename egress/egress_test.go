package egress_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"kith/egress"
	"kith/fault"
)

func TestAddresses(t *testing.T) {
	g := egress.New(nil, nil)
	for _, public := range []string{
		"8.8.8.8", "1.1.1.1", "93.184.215.14", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "223.255.255.255",
		"2606:2800:220:1:248:1893:25c8:1946", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2620:4f:8001::",
	} {
		if err := g.Check(netip.MustParseAddr(public)); err != nil {
			t.Errorf("%s: %v", public, err)
		}
	}
	for _, private := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "168.63.129.16",
		"172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
		"203.0.113.9", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1",
		"fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1", "2001::1", "3fff::1", "5f00::1", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1",
		"64:ff9b:1::8.8.8.8", "2002:7f00:1::1", "2002:a00:1::", "4000::1",
	} {
		err := g.Check(netip.MustParseAddr(private))
		if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), egress.Flag) {
			t.Errorf("%s: %v", private, err)
		}
	}
	if g.Check(netip.Addr{}) == nil {
		t.Error("no address at all is let out")
	}
}

func TestAllow(t *testing.T) {
	allow, err := egress.ParseAllow(" 10.0.0.0/8, 192.168.1.5 ,fd00::/8,::ffff:172.16.0.0/108,")
	if err != nil {
		t.Fatal(err)
	}
	g := egress.New(allow, nil)
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "192.168.1.5": true, "192.168.1.6": false, "fd12::1": true, "fd12::1%lan": true,
		"fc00::1": false, "172.16.9.9": true, "127.0.0.1": false, "8.8.8.8": true,
	} {
		if got := g.Check(netip.MustParseAddr(addr)) == nil; got != want {
			t.Errorf("%s: let out %v, want %v", addr, got, want)
		}
	}
	for _, bad := range []string{"10.0.0.0/33", "localhost", "10.0.0", "::ffff:0:0/32", "fe80::1%eth0", "10.0.0.0/8;::1"} {
		if _, err := egress.ParseAllow(bad); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), egress.Flag) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if allow, err := egress.ParseAllow(""); err != nil || len(allow) != 0 {
		t.Errorf("nothing: %v, %v", allow, err)
	}
}

type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := n[host]; ok {
		return a, nil
	}
	return nil, errors.New("no such host")
}

func TestCheckURL(t *testing.T) {
	g := egress.New([]netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, names{
		"example.com":       {netip.MustParseAddr("93.184.215.14")},
		"inside.example":    {netip.MustParseAddr("10.0.0.7")},
		"allowed.example":   {netip.MustParseAddr("10.9.0.7")},
		"both.example":      {netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("93.184.215.14")},
		"localhost.example": {netip.MustParseAddr("127.0.0.1")},
	})
	for raw, want := range map[string]string{
		"https://example.com/hook?token=s3cret": "",
		"http://example.com:8080":               "",
		"https://unknown.example/":              "",
		"http://allowed.example/":               "",
		"http://both.example/":                  "",
		"http://10.9.1.1/":                      "",
		"http://10.0.0.1/x":                     "10.0.0.1 is no public address; to reach it, start the server with --egress-allow 10.0.0.1/32",
		"http://inside.example/x":               "inside.example is 10.0.0.7, which is no public address",
		"http://localhost:9000/hook":            "localhost is 127.0.0.1, which is",
		"http://LOCALHOST.:9000/hook":           "LOCALHOST. is 127.0.0.1",
		"http://a.localhost/":                   "a.localhost is",
		"http://localhost.example/":             "--egress-allow",
		"http://[::1]/":                         "--egress-allow ::1/128",
		"http://[::ffff:127.0.0.1]/":            "--egress-allow 127.0.0.1/32",
		"http://169.254.169.254/latest":         "--egress-allow",
		"ftp://example.com/":                    "a URL like https://example.com/path is expected",
		"example.com/hook":                      "a URL like",
		"":                                      "a URL like",
		"https://":                              "a URL like",
		"http://example.com:99999/":             "99999 is no port",
		"http://user:s3cret@ex ample.com/":      "this is no URL",
		"http://example.com/%zz?token=s3cret":   "this is no URL",
		"javascript:alert(1)":                   "a URL like",
		"file:///etc/passwd":                    "a URL like",
	} {
		err := g.CheckURL(context.Background(), raw)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", raw, err)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error repeats the secret: %v", raw, err)
		}
	}
}

// loopback is a guard that lets out to 127.0.0.1 alone.
func loopback() *egress.Guard {
	return egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, nil)
}

func TestDialIsChecked(t *testing.T) {
	reached := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer srv.Close()
	closed := egress.New(nil, nil)
	for _, url := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)} {
		_, err := closed.Client().Get(url)
		if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), egress.Flag) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if reached {
		t.Error("a refused request has reached the server")
	}
	resp, err := loopback().Client().Get(srv.URL)
	if err != nil || !reached {
		t.Fatalf("allowed: %v", err)
	}
	resp.Body.Close()
}

func TestRedirects(t *testing.T) {
	type seen struct{ method, auth, custom, body string }
	var got []seen
	var other *httptest.Server
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, seen{r.Method, r.Header.Get("Authorization"), r.Header.Get("X-Custom"), string(body)})
		switch r.URL.Path {
		case "/inside":
			http.Redirect(w, r, "http://127.0.0.2:9/", http.StatusTemporaryRedirect)
		case "/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusPermanentRedirect)
		case "/same":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/other":
			http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
		case "/get":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		case "/scheme":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	other = httptest.NewServer(srv.Config.Handler)
	defer other.Close()
	post := func(path string) (*http.Response, []seen, error) {
		got = nil
		req, err := http.NewRequest(http.MethodPost, srv.URL+path, strings.NewReader("payload"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer s3cret")
		req.Header.Set("X-Custom", "s3cret")
		resp, err := loopback().Client().Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return resp, got, err
	}
	for _, path := range []string{"/inside", "/metadata"} {
		if _, _, err := post(path); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, seen, err := post("/same"); err != nil || len(seen) != 2 || seen[1] != seen[0] || seen[1].body != "payload" {
		t.Errorf("/same: %v, %v", seen, err)
	}
	if _, seen, err := post("/other"); err != nil || len(seen) != 2 || seen[1].auth+seen[1].custom != "" || seen[1].body != "payload" {
		t.Errorf("/other: %v, %v", seen, err)
	}
	if resp, seen, err := post("/get"); err != nil || resp.StatusCode != http.StatusFound || len(seen) != 1 {
		t.Errorf("/get: a redirect that drops the body was followed: %v, %v", seen, err)
	}
	if _, seen, err := post("/loop"); !fault.Is(err, fault.Permanent) || len(seen) != egress.MaxRedirects+1 {
		t.Errorf("/loop: %d requests, %v", len(seen), err)
	}
	if _, _, err := post("/scheme"); err == nil {
		t.Error("/scheme: a redirect to a file was followed")
	}
}

func TestResponseIsBounded(t *testing.T) {
	size := egress.MaxResponseBytes
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}))
	defer srv.Close()
	read := func() (int, error) {
		resp, err := loopback().Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return len(b), err
	}
	if n, err := read(); n != size || err != nil {
		t.Errorf("at the bound: %d, %v", n, err)
	}
	size++
	if n, err := read(); n != egress.MaxResponseBytes || !fault.Is(err, fault.Permanent) {
		t.Errorf("beyond the bound: %d, %v", n, err)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"http://localhost", "http://[::1%25lo]/", "http://0x7f.1/", "https://a@b:c/", "http://127.0.0.1:80"} {
		f.Add(s)
	}
	g := egress.New(nil, nil)
	f.Fuzz(func(t *testing.T, raw string) {
		if err := g.CheckURL(context.Background(), raw); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
