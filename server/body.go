package server

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// How long the body of a request may take: bodyGrace, and a second more for
// every bodyRate bytes of it that have come. Whoever is slower holds memory and
// a connection of everybody's, and is cut off.
const (
	bodyGrace = 30 * time.Second
	bodyRate  = 4 << 10
)

// fetchTime is how long a GET outside of the control API may take, which asks
// for a token. Nobody else gets more than some hundred kilobytes.
const fetchTime = 2 * time.Minute

// timely holds requests to that. A limit on whole requests would not do: files
// of objects take minutes, and streams of events last as long as somebody looks.
func timely(next http.Handler, grace time.Duration, rate int64, fetch time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && !strings.HasPrefix(r.URL.Path, "/api/") {
			conn := http.NewResponseController(w)
			_ = conn.SetWriteDeadline(time.Now().Add(fetch))
			defer func() { _ = conn.SetWriteDeadline(time.Time{}) }() // the connection's next request begins anew
		}
		if r.Body != nil && r.Body != http.NoBody {
			b := &timedBody{ReadCloser: r.Body, conn: http.NewResponseController(w), last: time.Now().Add(grace), rate: rate}
			_ = b.conn.SetReadDeadline(b.last) // every connection of this server has deadlines
			r.Body = b
		}
		next.ServeHTTP(w, r)
	})
}

// timedBody is a body that must come in time.
type timedBody struct {
	io.ReadCloser
	conn *http.ResponseController
	last time.Time // when it must have come
	rate int64     // bytes that are worth a second
	more int64     // bytes that have come and have not been counted yet
}

// Read reads on. Behind the end there is no deadline any more: it would end the
// context of a request that is being worked on.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.more += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		_ = b.conn.SetReadDeadline(time.Time{})
	case err == nil && b.more >= b.rate:
		b.last = b.last.Add(time.Duration(b.more/b.rate) * time.Second)
		b.more %= b.rate
		_ = b.conn.SetReadDeadline(b.last)
	}
	return n, err
}

// loud logs a panic of a handler as the defect of ours that it is. The client's
// connection breaks, which every sender takes for a reason to try again.
func loud(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					// Not the path, in which a write key may stand.
					logger.Error("a handler panicked", "method", r.Method, "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
