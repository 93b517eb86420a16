package collect_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kith/collect"
)

// wire is a server as clients see it, over HTTP/1.1 or HTTP/2.
type wire struct {
	name   string
	server *httptest.Server
	proto  int
}

func wires(t *testing.T, f *front) []wire {
	t.Helper()
	plain := httptest.NewServer(f.handler)
	t.Cleanup(plain.Close)
	tls := httptest.NewUnstartedServer(f.handler)
	tls.EnableHTTP2 = true
	tls.StartTLS()
	t.Cleanup(tls.Close)
	return []wire{{"HTTP/1.1", plain, 1}, {"HTTP/2", tls, 2}}
}

// send posts a body, chunked when it is a stream whose length nobody knows.
func (w wire) send(t *testing.T, path string, body io.Reader, headers ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	response, err := w.server.Client().Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", w.name, path, err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != w.proto {
		t.Fatalf("%s spoke %s", w.name, response.Proto)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// unsized hides how long a body is, so that it is sent in chunks.
type unsized struct{ io.Reader }

// Every route takes events however they are sent: with and without a slash at
// the end, as one piece or in chunks, compressed or not, with the content types
// of all SDKs and none, over HTTP/1.1 and HTTP/2 (sheet connections_protocols
// §8, lines 1 and 2).
func TestEveryRouteOverTheWire(t *testing.T) {
	f := newFront(t, nil)
	call := map[string]string{
		"track": `{"userId":"u","event":"E","writeKey":"key-web"}`, "group": `{"userId":"u","groupId":"g","writeKey":"key-web"}`,
		"alias": `{"userId":"u","previousId":"p","writeKey":"key-web"}`, "": `{"userId":"u","writeKey":"key-web"}`,
		"batch": `{"batch":[{"type":"identify","userId":"u"}],"writeKey":"key-web"}`,
		"set":   `{"collection":"rooms","objects":[{"id":"a","properties":{}}],"writeKey":"key-web"}`,
	}
	kind := map[string]string{"t": "track", "g": "group", "a": "alias", "b": "batch", "import": "batch"}
	contents := []string{"application/json", "application/json; charset=utf-8", "text/plain", "text/plain;charset=UTF-8", ""}
	n := 0
	for _, w := range wires(t, f) {
		for _, route := range strings.Fields("track identify page screen group alias batch t i p s g a b import set") {
			body, ok := call[route]
			if !ok {
				body = call[kind[route]]
			}
			for _, slash := range []string{"", "/"} {
				for _, packed := range []bool{false, true} {
					for _, chunked := range []bool{false, true} {
						sent, headers := body, []string{}
						if content := contents[n%len(contents)]; content != "" {
							headers = append(headers, "Content-Type: "+content)
						}
						if packed {
							sent, headers = zipped(t, body), append(headers, "Content-Encoding: gzip")
						}
						var from io.Reader = strings.NewReader(sent)
						if chunked {
							from = unsized{from}
						}
						n++
						status, answer := w.send(t, "/v1/"+route+slash, from, headers...)
						if status != 200 || answer != `{"success": true}` {
							t.Errorf("%s %s%s, gzip %v, chunked %v: %d %s", w.name, route, slash, packed, chunked, status, answer)
						}
					}
				}
			}
		}
		if status, answer := w.send(t, "/v1/m", strings.NewReader(`{"series":[]}`), "Content-Type: text/plain"); status != 200 || answer != `{"success": true}` {
			t.Errorf("%s m: %d %s", w.name, status, answer)
		}
		response, err := w.server.Client().Get(w.server.URL + "/v1/pixel/track?garbage=%")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 || response.Header.Get("Content-Type") != "image/gif" {
			t.Errorf("%s pixel: %s %v", w.name, response.Status, err)
		}
		response.Body.Close()
	}
	if got := len(f.stored(t)); got != n {
		t.Errorf("%d were kept of %d", got, n)
	}
}

// Batches of half a megabyte, which Ruby, PHP and Java send, are taken on every
// wire; one that is too large is answered with a 400 that its sender gets to
// read, and never with 413.
func TestLargeBatchesOverTheWire(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits.BodyBytes = 600 << 10 })
	batch := func(n int) string {
		item := fmt.Sprintf(`{"type":"track","userId":"u","event":"E","properties":{"pad":%q}},`, strings.Repeat("x", 5000))
		return `{"batch":[` + strings.Repeat(item, n/len(item)) + `{"type":"page","userId":"u"}],"writeKey":"key-web"}`
	}
	for _, w := range wires(t, f) {
		for _, chunked := range []bool{false, true} {
			for _, size := range []int{512_000, 512 << 10} {
				var from io.Reader = strings.NewReader(batch(size))
				if chunked {
					from = unsized{from}
				}
				if status, answer := w.send(t, "/v1/import", from); status != 200 {
					t.Errorf("%s, %d bytes, chunked %v: %d %s", w.name, size, chunked, status, answer)
				}
			}
			var from io.Reader = strings.NewReader(batch(2 << 20))
			if chunked {
				from = unsized{from}
			}
			if status, answer := w.send(t, "/v1/batch", from); status != 400 || !strings.Contains(answer, `"code":"body_too_large"`) {
				t.Errorf("%s, too large, chunked %v: %d %s", w.name, chunked, status, answer)
			}
		}
	}
}

// A client that writes a byte at a time, and several requests on a connection
// before it reads an answer, is served like any other.
func TestSlowAndPipelinedClient(t *testing.T) {
	f := newFront(t, nil)
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packed := zipped(t, `{"userId":"u","event":"E","messageId":"m1","writeKey":"key-web"}`)
	var text bytes.Buffer
	text.WriteString("POST /v1/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i := range len(packed) {
		fmt.Fprintf(&text, "1\r\n%c\r\n", 0)
		text.Bytes()[text.Len()-3] = packed[i]
	}
	text.WriteString("0\r\n\r\n")
	second := `{"userId":"u","event":"E","messageId":"m2"}`
	fmt.Fprintf(&text, "POST /v1/track/ HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n%s", basic, len(second), second)
	wrote := make(chan error, 1)
	go func() {
		for _, b := range text.Bytes() {
			if _, err := conn.Write([]byte{b}); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	in := bufio.NewReader(conn)
	for range 2 {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != 200 || string(body) != `{"success": true}` {
			t.Errorf("answered %s %s %v", response.Status, body, err)
		}
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if stored := f.stored(t); len(stored) != 2 || stored[0].MessageID != "m1" || stored[1].MessageID != "m2" {
		t.Errorf("stored %q", bodies(stored))
	}
}

// A client that breaks off in the middle of a body leaves nothing behind, and
// the server as it was.
func TestBrokenOff(t *testing.T) {
	f := newFront(t, nil)
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	for _, head := range []string{"Content-Length: 1000\r\n\r\n{\"userId\":", "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"use\r\n", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST /v1/track HTTP/1.1\r\nHost: x\r\n%s\r\n%s", basic, head); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && response.StatusCode != 503 && response.StatusCode != 400 {
			t.Errorf("%q: answered %s", head, response.Status)
		}
		conn.Close()
	}
	if stored, rejected := f.stored(t), f.rejected.take(); len(stored) > 0 || len(rejected) > 0 {
		t.Errorf("stored %q, rejected %+v", bodies(stored), rejected)
	}
	if w := f.do(request("POST", "/v1/track", `{"userId":"u","event":"E"}`, basic)); w.Code != 200 || len(f.stored(t)) != 1 {
		t.Errorf("afterwards: %d", w.Code)
	}
}
