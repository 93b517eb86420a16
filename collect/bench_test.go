package collect_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kith/clock"
	"kith/collect"
	"kith/commitlog"
	"kith/kv"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
)

// These benchmarks run over real connections, with the generator on the same
// cores. The generator writes requests made before, so that what is measured
// is the server; Bare is a server that reads the body and answers, the limit.
//
//	go test ./collect -run xxx -bench Collect
const (
	hundred = "batches of 100 at 16 connections"
	single  = "single events at 64 connections"
)

func BenchmarkCollect(b *testing.B) {
	stores := map[string]func(b *testing.B) kv.DB{
		"memkv": func(b *testing.B) kv.DB { return memkv.New() },
		"pebblekv": func(b *testing.B) kv.DB {
			db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
			if err != nil {
				b.Fatal(err)
			}
			return db
		},
	}
	for _, name := range []string{"memkv", "pebblekv"} {
		for _, load := range []string{hundred, single} {
			b.Run(name+"/"+load, func(b *testing.B) {
				db := stores[name](b)
				logs := newLogs(db)
				c, err := collect.New(collect.Config{Workspace: someWorkspace(), Logs: logs, Clock: clock.System{}, Random: rand.Reader})
				if err != nil {
					b.Fatal(err)
				}
				generate(b, c.Handler(), load)
				blocks, records := logs.count(b, 7)
				b.ReportMetric(float64(records)/float64(blocks), "events/block")
				if err := c.Close(context.Background()); err != nil {
					b.Fatal(err)
				}
				logs.close(b)
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// count returns how many blocks and records a log has.
func (l *logs) count(b *testing.B, space uint32) (blocks, records int) {
	log, err := l.Raw(space)
	if err != nil {
		b.Fatal(err)
	}
	for at := commitlog.Offset(0); at < log.End(); {
		some, err := log.Read(context.Background(), at, 16<<20)
		if err != nil {
			b.Fatal(err)
		}
		for _, block := range some {
			at = block.End()
			blocks++
			records += block.Count
		}
	}
	return blocks, records
}

func BenchmarkBare(b *testing.B) {
	for _, load := range []string{hundred, single} {
		b.Run(load, func(b *testing.B) {
			generate(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					b.Error(err)
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"success": true}`))
			}), load)
		})
	}
}

// generate sends b.N requests.
func generate(b *testing.B, handler http.Handler, load string) {
	connections, events := 64, 1
	if load == hundred {
		connections, events = 16, 100
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	requests := make([][]byte, 200)
	bytes := 0
	for i := range requests {
		path, body := "/v1/track", benchEvent(i)
		if events > 1 {
			items := make([]string, events)
			for j := range items {
				items[j] = benchEvent(i*events + j)
			}
			path, body = "/v1/batch", `{"sentAt":"2026-01-02T03:04:05.678Z","batch":[`+strings.Join(items, ",")+`]}`
		}
		bytes += len(body)
		requests[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, basic, len(body), body)
	}
	b.SetBytes(int64(bytes / len(requests)))
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var work sync.WaitGroup
	for range connections {
		work.Go(func() {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if _, err := conn.Write(requests[int(i)%len(requests)]); err != nil {
					b.Error(err)
					return
				}
				if err := readAnswer(answers); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// readAnswer reads an answer without the allocations of http.ReadResponse,
// which would be the generator's.
func readAnswer(r *bufio.Reader) error {
	length := 0
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case n == 0 && string(line[9:12]) != "200":
			return fmt.Errorf("answered %s", line)
		case strings.HasPrefix(string(line), "Content-Length: "):
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[16:]))); err != nil {
				return err
			}
		case len(line) == 2:
			_, err := r.Discard(length)
			return err
		}
	}
}

// benchEvent is an event of about 1 KB.
func benchEvent(i int) string {
	random := mathrand.New(mathrand.NewSource(int64(i)))
	person := random.Intn(5000)
	return fmt.Sprintf(`{"type":"track","messageId":"node-next-1767323045678-%08x-%04x-4%03x-a%03x-%012x","anonymousId":"anon-%08d","userId":"user-%08d","timestamp":"2026-01-02T03:04:05.%03dZ",`+
		`"event":"Booking Completed","properties":{"booking_value":%d.%02d,"currency":"EUR","nights":%d,"room_type":"double","check_in_date":"2026-12-24","products":[{"product_id":"p%d","price":%d,"quantity":1}]},`+
		`"context":{"library":{"name":"@segment/analytics-node","version":"2.1.0"},"locale":"en-GB","userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",`+
		`"page":{"path":"/rooms/sea-view-double","referrer":"https://www.example.com/search?q=hotel","search":"?utm_source=newsletter&utm_campaign=spring","title":"Sea view double room","url":"https://www.example.com/rooms/sea-view-double"},`+
		`"campaign":{"source":"newsletter","name":"spring","medium":"email"},"timezone":"Europe/Lisbon"}}`,
		random.Uint32(), random.Intn(1<<16), random.Intn(1<<12), random.Intn(1<<12), random.Int63n(1<<48), person, person, random.Intn(678),
		random.Intn(900), random.Intn(100), 1+random.Intn(9), random.Intn(500), random.Intn(300))
}
