package collect_test

import (
	"fmt"
	"testing"

	"kith/collect"
)

func TestBots(t *testing.T) {
	const (
		google  = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
		firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0"
	)
	in := func(agent string) string { return fmt.Sprintf(`,"context":{"userAgent":%q,"locale":"de-DE"}`, agent) }
	tests := []struct {
		name, path, agent, context string
		bot                        bool
	}{
		{"said by the event", "/v1/track", "", in(google), true},
		{"said by the event of a device", "/v1/t", firefox, in(google), true},
		{"the event before the request", "/v1/t", google, in(firefox), false},
		{"said by the request", "/v1/t", google, "", true},
		{"said by the request of a server", "/v1/track", google, "", false},
		{"a person", "/v1/t", firefox, in(firefox), false},
		{"a mobile SDK", "/v1/t", "okhttp/4.9.2", "", false},
		{"a server SDK", "/v1/track", "python-requests/2.31", "", false},
		{"nobody says it", "/v1/t", "", "", false},
		{"no text", "/v1/track", "", `,"context":{"userAgent":{}}`, false},
	}
	for _, filter := range []bool{true, false} {
		f := newFront(t, func(c *collect.Config) {
			w := someWorkspace()
			w.s.Source("src_web").Tracking.FilterBots = filter
			c.Workspace = w
		})
		for _, tt := range tests {
			r := request("POST", tt.path, `{"userId":"u","event":"E"`+tt.context+`}`, basic)
			r.Header.Set("User-Agent", tt.agent)
			if w := f.do(r); w.Code != 200 {
				t.Fatalf("%s: answered %d %s", tt.name, w.Code, w.Body)
			}
			stored, rejected := f.stored(t), f.rejected.take()
			refused := len(rejected) == 1 && rejected[0].Code == collect.CodeBot && len(stored) == 0
			if want := tt.bot && filter; refused != want || !want && len(stored) != 1 {
				t.Errorf("%s, filter %v: stored %d, rejected %+v", tt.name, filter, len(stored), rejected)
			}
		}
		// A batch whose context is for all, and a pixel, which says nothing itself.
		f.do(request("POST", "/v1/batch", `{"batch":[{"type":"page","userId":"u"},{"type":"page","userId":"u"}],"context":{"userAgent":"`+google+`"}}`, basic))
		f.do(request("GET", "/v1/pixel/track?writeKey=key-web&userId=u&event=E", "", "User-Agent: curl/8.5.0"))
		f.do(request("GET", "/v1/pixel/track?writeKey=key-web&userId=u&event=E", "", "User-Agent: Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"))
		stored, rejected := len(f.stored(t)), len(f.rejected.take())
		if filter && (stored != 1 || rejected != 4) || !filter && (stored != 4 || rejected != 0) {
			t.Errorf("filter %v: stored %d, rejected %d", filter, stored, rejected)
		}
	}
}
