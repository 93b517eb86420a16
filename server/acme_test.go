package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kith/certificate/certificatetest"
)

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestACMEGetsACertificate(t *testing.T) {
	for name, over := range map[string]func(http, tls, nobody int) (int, int){
		"over TLS":  func(_, tls, nobody int) (int, int) { return nobody, tls },
		"over HTTP": func(http, _, nobody int) (int, int) { return http, nobody },
	} {
		t.Run(name, func(t *testing.T) {
			plain, secure := freePort(t), freePort(t)
			httpPort, tlsPort := over(plain, secure, freePort(t))
			authority := certificatetest.Start(t, httpPort, tlsPort, 0)
			cfg := onDisk(t.TempDir())
			cfg.Listen = fmt.Sprintf("127.0.0.1:%d", secure)
			cfg.TLS = TLS{
				Domains: []string{"events.example.com"}, ACMEAccept: true, ACMEDirectory: authority.Directory, ACMERoots: authority.RootsFile,
				Redirect: fmt.Sprintf("127.0.0.1:%d", plain),
			}
			s, _, _ := running(t, cfg)
			look := time.NewTicker(50 * time.Millisecond)
			defer look.Stop()
			for late := time.After(time.Minute); len(s.certs.Shown()) == 0; {
				select {
				case <-look.C:
				case <-late:
					t.Fatal("no certificate came")
				}
			}
			if _, err := authority.Dial(cfg.Listen, "events.example.com"); err != nil {
				t.Error(err)
			}
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			response, err := client.Post("http://"+cfg.TLS.Redirect+"/v1/track", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if to := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect || to != "https://events.example.com/v1/track" {
				t.Errorf("plain HTTP: %d to %q", response.StatusCode, to)
			}
		})
	}
}
