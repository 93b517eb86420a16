package script

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/tidwall/gjson"
)

// Limits of a Receiver.
const (
	maxDelivery  = 64 << 20 // bytes of one request
	maxDelivered = 1 << 20  // events kept in all
)

// Receiver stands in for the webhooks of a workspace's destinations: what is
// posted to /SLUG was delivered to the destination of that slug. It is an
// http.Handler and safe for concurrent use.
type Receiver struct {
	mu        sync.Mutex
	delivered map[string][]json.RawMessage
	status    map[string]int
	total     int
}

// ServeHTTP keeps the events of one request, an object or a list of them, and
// answers with the status set for the destination. An answer that is no 2xx
// means that nothing was received.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	slug := strings.Trim(q.URL.Path, "/")
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxDelivery))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if !gjson.ValidBytes(body) {
		http.Error(w, "the body is not JSON", http.StatusBadRequest)
		return
	}
	events := []gjson.Result{gjson.ParseBytes(body)}
	if events[0].IsArray() {
		events = events[0].Array()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if status := r.status[slug]; status >= 300 {
		w.WriteHeader(status)
		return
	}
	if r.total+len(events) > maxDelivered {
		http.Error(w, "the script has received more than it can keep", http.StatusInsufficientStorage)
		return
	}
	if r.delivered == nil {
		r.delivered = map[string][]json.RawMessage{}
	}
	for _, e := range events {
		r.delivered[slug] = append(r.delivered[slug], json.RawMessage(e.Raw))
		r.total++
	}
	w.WriteHeader(max(r.status[slug], http.StatusOK))
}

// Delivered returns what a destination has received, in order.
func (r *Receiver) Delivered(destination string) []json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]json.RawMessage(nil), r.delivered[destination]...)
}

// Answer sets the status with which a destination answers from here on.
func (r *Receiver) Answer(destination string, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		r.status = map[string]int{}
	}
	r.status[destination] = status
}
