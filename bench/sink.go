package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
)

// sink is a webhook that counts what it gets, and how long it took to come.
type sink struct {
	url      string
	server   *http.Server
	requests atomic.Int64
	events   atomic.Int64

	mu      sync.Mutex
	watch   bool            // read the events, not only count them
	latency []time.Duration // from an event's own timestamp to its arrival
	changes []time.Duration // the same for audience changes
}

func newSink() (*sink, error) { return sinkAt("127.0.0.1:0") }

// sinkAt returns a sink that listens there.
func sinkAt(addr string) (*sink, error) {
	s := &sink{}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s.url = "http://" + listener.Addr().String() + "/"
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	go s.server.Serve(listener) //nolint:errcheck // it ends with Close
	return s, nil
}

// ServeHTTP takes one event or an array of them.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	now := time.Now()
	s.requests.Add(1)
	s.mu.Lock()
	watch := s.watch
	s.mu.Unlock()
	if !watch {
		// Every event has one messageId, and no property is called so.
		s.events.Add(int64(bytes.Count(body, []byte(`"messageId":"`))))
		return
	}
	root := gjson.ParseBytes(body)
	items := []gjson.Result{root}
	if root.IsArray() {
		items = root.Array()
	}
	s.events.Add(int64(len(items)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		sent, err := time.Parse(time.RFC3339Nano, item.Get("originalTimestamp").String())
		if err != nil {
			continue
		}
		if item.Get("context.personas").Exists() {
			s.changes = append(s.changes, now.Sub(sent))
		} else {
			s.latency = append(s.latency, now.Sub(sent))
		}
	}
}

// watching sets whether events are read, and forgets the latencies so far.
func (s *sink) watching(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch, s.latency, s.changes = on, nil, nil
}

// latencies returns what was seen since watching began, sorted.
func (s *sink) latencies() (events, changes result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.latency)
	slices.Sort(s.changes)
	return result{latency: s.latency}, result{latency: s.changes}
}

func (s *sink) close() { s.server.Close() }

// serveBare is the limit that collect is compared with: a server that reads the
// body and answers 200. It writes its address on a line and serves until it is
// stopped.
func serveBare(answer int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	fixed := bytes.Repeat([]byte("x"), answer)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			w.Write(fixed) //nolint:errcheck // likewise
			return
		}
		io.WriteString(w, `{"success": true}`) //nolint:errcheck // the client may be gone
	})}
	return server.Serve(listener)
}

// bare starts serveBare in a process of its own, as Kith is one.
//
// It answers reads with that many bytes.
func bare(ctx context.Context, answer int) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-bare", "-answer", strconv.Itoa(answer))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	}
	url, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start the bare server: %w", err)
	}
	return strings.TrimSpace(url), stop, nil
}
