package demo

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// tools stands in for the tools that the hotel group feeds: it counts what each
// receives.
type tools struct {
	url    string
	server *http.Server
	done   chan struct{}
	tally  *tally
}

const maxDelivery = 16 << 20 // bytes of one request

// newTools listens on a free port of this machine.
func newTools(t *tally) (*tools, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	s := &tools{url: "http://" + listener.Addr().String(), tally: t, done: make(chan struct{})}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(listener) // it ends with close
	}()
	return s, nil
}

func (s *tools) close() {
	_ = s.server.Close()
	<-s.done
}

// ServeHTTP takes one event or a list of them for the tool that the path names.
func (s *tools) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDelivery))
	if err != nil || !gjson.ValidBytes(body) {
		http.Error(w, "want JSON", http.StatusBadRequest)
		return
	}
	events := gjson.ParseBytes(body).Array() // an object is a list of one
	slug := strings.Trim(r.URL.Path, "/")
	s.tally.change(func(f *Figures) {
		i := slices.IndexFunc(f.Deliveries, func(d DeliveryFigures) bool { return d.Slug == slug })
		if i < 0 || len(events) == 0 {
			return
		}
		f.Deliveries[i].Events += len(events)
		f.Deliveries[i].Last = describe(events[len(events)-1])
	})
	w.WriteHeader(http.StatusOK)
}

// describe says in a few words what an event is.
func describe(e gjson.Result) string {
	who := e.Get("userId").String()
	if who == "" {
		who = e.Get("anonymousId").String()
	}
	what := e.Get("event").String()
	if key := e.Get("properties.audience_key").String(); key != "" {
		what += " " + key
	} else if key := e.Get("context.personas.computation_key").String(); key != "" {
		what = fmt.Sprintf("%s %s=%s", e.Get("type"), key, e.Get("traits."+gjson.Escape(key)))
	}
	return who + " " + what
}
