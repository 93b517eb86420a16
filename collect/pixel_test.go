package collect_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/gif"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/collect"
)

// checkPixel holds an answer to what every image must have.
func checkPixel(t failing, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != 200 || w.Header().Get("Content-Type") != "image/gif" || !strings.Contains(w.Header().Get("Cache-Control"), "no-store") {
		t.Fatalf("answered %d %v", w.Code, w.Header())
	}
	image, err := gif.Decode(bytes.NewReader(w.Body.Bytes()))
	if err != nil || image.Bounds().Dx() != 1 || image.Bounds().Dy() != 1 {
		t.Fatalf("no image of one point: %v", err)
	}
	if _, _, _, alpha := image.At(0, 0).RGBA(); alpha != 0 {
		t.Fatalf("the point can be seen")
	}
}

func TestPixel(t *testing.T) {
	encode := func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }
	odd := `{"writeKey":"key-web","messageId":"m","userId":"ü>?~","event":"E"}` // has + and / in one alphabet, - and _ in the other
	ctx := `"context":{"ip":"203.0.113.9","userAgent":"Mail/1.0"},`
	tests := []struct {
		name, path, query string
		stored, rejected  []string
	}{
		{name: "url-safe", path: "track", query: "data=" + encode(`{"writeKey":"key-web","messageId":"m","userId":"u","event":"Email Opened","properties":{"subject":"Hi"}}`),
			stored: []string{`{"messageId":"m","userId":"u","event":"Email Opened","properties":{"subject":"Hi"},"type":"track",` + ctx + tail}},
		{name: "without padding", path: "track/", query: "data=" + strings.TrimRight(encode(odd), "="),
			stored: []string{`{"messageId":"m","userId":"ü>?~","event":"E","type":"track",` + ctx + tail}},
		{name: "standard alphabet, escaped", path: "track", query: "data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(odd))),
			stored: []string{`{"messageId":"m","userId":"ü>?~","event":"E","type":"track",` + ctx + tail}},
		{name: "standard alphabet, not escaped", path: "track", query: "data=" + base64.StdEncoding.EncodeToString([]byte(odd)),
			stored: []string{`{"messageId":"m","userId":"ü>?~","event":"E","type":"track",` + ctx + tail}},
		{name: "the text itself", path: "track", query: "data=" + url.QueryEscape(odd),
			stored: []string{`{"messageId":"m","userId":"ü>?~","event":"E","type":"track",` + ctx + tail}},
		{name: "parameters", path: "track", query: "userId=user_123&event=Email%20Opened&properties.subject=The+Electric+Daily&properties.email=jane.kim@example.com&writeKey=key-web&messageId=m",
			stored: []string{`{"userId":"user_123","event":"Email Opened","properties":{"subject":"The Electric Daily","email":"jane.kim@example.com"},"messageId":"m","type":"track",` + ctx + tail}},
		{name: "AMP", path: "page",
			query:  "writeKey=key-web&context.library.name=amp&anonymousId=amp-1&context.locale=de-de&context.page.path=%2Frooms&context.page.url=https%3A%2F%2Fexample.com%2Frooms&context.page.referrer=&context.page.title=Rooms&context.screen.width=390&context.screen.height=844&name=&messageId=m",
			stored: []string{`{"context":{"library":{"name":"amp"},"locale":"de-de","page":{"path":"/rooms","url":"https://example.com/rooms","referrer":"","title":"Rooms"},"screen":{"width":"390","height":"844"},"ip":"203.0.113.9","userAgent":"Mail/1.0"},"anonymousId":"amp-1","name":"","messageId":"m","type":"page",` + tail}},
		{name: "what is there stays", path: "identify", query: "writeKey=key-web&userId=u&messageId=m&context.ip=0.0.0.0&context.userAgent=x",
			stored: []string{`{"userId":"u","messageId":"m","context":{"ip":"0.0.0.0","userAgent":"x"},"type":"identify",` + tail}},
		{name: "truth values", path: "group", query: "writeKey=key-web&userId=u&groupId=g&messageId=m&integrations.All=false&integrations.Mail.list=true&traits.vip=true&context.consent.categoryPreferences.ads=false&context.ip=",
			stored: []string{`{"userId":"u","groupId":"g","messageId":"m","integrations":{"All":false,"Mail":{"list":true}},"traits":{"vip":"true"},"context":{"consent":{"categoryPreferences":{"ads":false}},"ip":"","userAgent":"Mail/1.0"},"type":"group",` + tail}},
		{name: "the last counts", path: "screen", query: "writeKey=key-web&userId=a&userId=u&messageId=m&x=1&x.y=2&z.a.b=1&z=2&%22=%5C&context.ip=",
			stored: []string{`{"userId":"u","messageId":"m","x":{"y":"2"},"z":"2","\"":"\\","context":{"ip":"","userAgent":"Mail/1.0"},"type":"screen",` + tail}},
		{name: "many", path: "alias", query: "writeKey=key-web&userId=u&previousId=p&messageId=m&" + many(40) + "&context.ip=",
			stored: []string{`{"userId":"u","previousId":"p","messageId":"m",` + manyJSON(40) + `,"context":{"ip":"","userAgent":"Mail/1.0"},"type":"alias",` + tail}},
		{name: "basic authentication has no place here but is no harm", path: "track", query: "userId=u&event=E&messageId=m&context.ip=&writeKey=key-web&",
			stored: []string{`{"userId":"u","event":"E","messageId":"m","context":{"ip":"","userAgent":"Mail/1.0"},"type":"track",` + tail}},

		{name: "nothing", path: "track", rejected: []string{"project_not_found"}},
		{name: "no write key", path: "track", query: "userId=u&event=E", rejected: []string{"project_not_found"}},
		{name: "nobody", path: "track", query: "writeKey=key-web&event=E", rejected: []string{"no_user_anon_id"}},
		{name: "garbage", path: "track", query: "data=%%%", rejected: []string{"invalid_query"}},
		{name: "no base64", path: "track", query: "data=!!!!", rejected: []string{"invalid_query"}},
		{name: "no JSON", path: "track", query: "data=" + encode("hello"), rejected: []string{"invalid_json"}},
		{name: "no object", path: "track", query: "data=" + encode("[1]"), rejected: []string{"invalid_json"}},
		{name: "dots", path: "track", query: strings.Repeat("a.", 300) + "=1&writeKey=key-web", rejected: []string{"invalid_query"}},
		{name: "too long", path: "track", query: "writeKey=key-web&x=" + strings.Repeat("x", 128<<10), rejected: []string{"event_too_large"}},
		{name: "too long decoded", path: "track", query: "data=" + encode(`{"writeKey":"key-web","userId":"u","event":"`+strings.Repeat("x", 32<<10)+`"}`), rejected: []string{"event_too_large"}},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request("GET", "/v1/pixel/"+tt.path, "", "User-Agent: Mail/1.0")
			r.URL.RawQuery = tt.query
			checkPixel(t, f.do(r))
			records := f.stored(t)
			if diff := cmp.Diff(tt.stored, bodies(records)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			for _, r := range records {
				checkRecord(t, r)
			}
			var codes []string
			for _, x := range f.rejected.take() {
				codes = append(codes, x.Code)
				if x.Message == "" || bytes.Contains(x.Sample, []byte("key-web")) {
					t.Errorf("rejection %+v", x)
				}
			}
			if diff := cmp.Diff(tt.rejected, codes); diff != "" {
				t.Errorf("rejected (-want +got):\n%s", diff)
			}
		})
	}
}

func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("p%d=%d", i, i))
	}
	return strings.Join(all, "&")
}

func manyJSON(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"p%d":"%d"`, i, i))
	}
	return strings.Join(all, ",")
}

func TestPixelMethods(t *testing.T) {
	f := newFront(t, nil)
	head := request("HEAD", "/v1/pixel/track?writeKey=key-web&userId=u&event=E", "")
	if w := f.do(head); w.Code != 200 || w.Header().Get("Content-Type") != "image/gif" || w.Header().Get("Content-Length") != "43" {
		t.Errorf("HEAD answered %d %v", w.Code, w.Header())
	}
	if w := f.do(request("OPTIONS", "/v1/pixel/page/", "", "Origin: https://example.com")); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://example.com" {
		t.Errorf("OPTIONS answered %d %v", w.Code, w.Header())
	}
	if w := f.do(request("POST", "/v1/pixel/track", `{}`)); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("POST answered %d %v", w.Code, w.Header())
	}
	if got := f.stored(t); len(got) > 0 {
		t.Errorf("stored %q", bodies(got))
	}
}

// A pixel is never sent again, so what cannot be kept for a fault of ours is a
// rejection as well.
func TestPixelWithoutRoom(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits = collect.Limits{InflightBytes: 100} })
	checkPixel(t, f.do(request("GET", "/v1/pixel/track?writeKey=key-web&userId=u&event=E", "")))
	if all := f.rejected.take(); len(all) != 1 || all[0].Code != collect.CodeTooManyRequests || all[0].Type != "track" {
		t.Errorf("rejected %+v", all)
	}
}
