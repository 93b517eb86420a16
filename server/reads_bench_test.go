package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"kith/client"
)

// cpuTime returns the processor time of this process, which other processes of
// the machine do not lengthen as they do the time of day.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discarded is an answer that nobody reads.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header              { return d.header }
func (d *discarded) Write(p []byte) (int, error)      { return len(p), nil }
func (d *discarded) WriteHeader(status int)           { d.status = status }
func (d *discarded) SetWriteDeadline(time.Time) error { return nil }
func (d *discarded) SetReadDeadline(time.Time) error  { return nil }

// hundred asks for the traits of a hundred people.
func hundred(people int) string {
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprintf(`"user_id:u%d"`, i*people/100))
	}
	return `{"read":"traits","ids":[` + strings.Join(ids, ",") + `]}`
}

// BenchmarkTraits reads the traits of 2,000 people with 20 audiences from the
// embedded store: by the handler alone, and over HTTP by a client that does no
// more than write fixed bytes and read the answer. cpu-µs/op is the processor
// time of all of the process.
func BenchmarkTraits(b *testing.B) {
	const people = 2000
	cfg := onDisk(b.TempDir())
	cfg.AdminToken = "bench-admin-token"
	s, base, _ := running(b, cfg)
	c, err := client.New(base, cfg.AdminToken, nil)
	if err != nil {
		b.Fatal(err)
	}
	var yaml strings.Builder
	yaml.WriteString("sources: [{slug: web, writeKeys: [web-write-key]}]\naudiences:\n")
	for i := range 20 {
		fmt.Fprintf(&yaml, "- {key: audience_%02d, name: Audience %d, definition: {query: \"event('Order Completed').count() >= %d\"}}\n", i, i, 1+i%5)
	}
	if _, err := c.Apply(b.Context(), []byte(yaml.String()), nil, false, false); err != nil {
		b.Fatal(err)
	}
	var batch []json.RawMessage
	last := ""
	for i := range people {
		last = fmt.Sprintf("m-%d", i)
		batch = append(batch,
			json.RawMessage(fmt.Sprintf(`{"type":"track","event":"Order Completed","userId":"u%d","properties":{"total":12.5}}`, i)),
			json.RawMessage(fmt.Sprintf(`{"type":"identify","userId":"u%d","messageId":%q,"traits":{"email":"u%d@example.com","plan":"gold","age":33,"firstName":"Jo","lastName":"Sample","address":{"city":"Sampleton","zip":"12345"},"tags":["a","b"],"vip":true}}`, i, last, i)))
		if len(batch) == 500 {
			if err := c.SendBatch(b.Context(), "web-write-key", batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if _, _, err := c.Traits(b.Context(), client.Profile{Space: "default", ID: fmt.Sprintf("user_id:u%d", people-1)}, client.Page{Wait: client.Wait{For: last, Limit: 30}}); err != nil {
		b.Fatal(err)
	}
	_, token, err := s.keeper.Create(b.Context(), 1, "bench", false)
	if err != nil {
		b.Fatal(err)
	}
	ask := func(token string, i int) []byte {
		r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/v1/spaces/default/collections/users/profiles/user_id:u%d/traits?limit=50", base, i%people), nil)
		if err != nil {
			b.Fatal(err)
		}
		r.SetBasicAuth(token, "")
		var out bytes.Buffer
		if err := r.Write(&out); err != nil {
			b.Fatal(err)
		}
		return out.Bytes()
	}
	measure := func(b *testing.B, one func(i int)) {
		b.ReportAllocs()
		before := cpuTime(b)
		for i := 0; b.Loop(); i++ {
			one(i)
		}
		b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
	}
	for _, by := range []struct{ name, token string }{{"profile token", token}, {"admin token", cfg.AdminToken}} {
		b.Run("handler, "+by.name, func(b *testing.B) {
			h := s.httpServer().Handler
			requests := make([]*http.Request, people)
			for i := range requests {
				if requests[i], err = http.ReadRequest(bufio.NewReader(bytes.NewReader(ask(by.token, i)))); err != nil {
					b.Fatal(err)
				}
				requests[i].RemoteAddr = "127.0.0.1:1234"
			}
			measure(b, func(i int) {
				w := &discarded{header: http.Header{}}
				if h.ServeHTTP(w, requests[i%people]); w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			})
		})
	}
	// The other reads, which have no budget, by the handler alone.
	for _, read := range []struct{ name, method, path, body string }{
		{"external_ids", "GET", "/user_id:u%d/external_ids", ""},
		{"metadata", "GET", "/user_id:u%d/metadata", ""},
		{"links", "GET", "/user_id:u%d/links", ""},
		{"events", "GET", "/user_id:u%d/events", ""},
		{"search by identifier", "GET", "?external_id=u%d&type=user_id&traits=email", ""},
		{"search by trait", "GET", "?trait.email=u%d@example.com&traits=plan", ""},
		{"batch of 100", "POST", "/batch", hundred(people)},
	} {
		b.Run(read.name, func(b *testing.B) {
			h := s.httpServer().Handler
			measure(b, func(i int) {
				path := read.path
				if strings.Contains(path, "%d") {
					path = fmt.Sprintf(path, i%people)
				}
				r := httptest.NewRequest(read.method, "/v1/spaces/default/collections/users/profiles"+path, strings.NewReader(read.body))
				r.SetBasicAuth(token, "")
				w := &discarded{header: http.Header{}}
				if h.ServeHTTP(w, r); w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			})
		})
	}
	b.Run("http", func(b *testing.B) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		var requests [][]byte
		for i := range people {
			requests = append(requests, ask(cfg.AdminToken, i))
		}
		measure(b, func(i int) {
			if _, err := conn.Write(requests[i%people]); err != nil {
				b.Fatal(err)
			}
			length := 0
			for {
				line, err := in.ReadSlice('\n')
				if err != nil {
					b.Fatal(err)
				}
				if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
					if _, err := fmt.Sscan(string(n), &length); err != nil {
						b.Fatal(err)
					}
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := io.CopyN(io.Discard, in, int64(length)); err != nil || length == 0 {
				b.Fatal(err, length)
			}
		})
	})
}
