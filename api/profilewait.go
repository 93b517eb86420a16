package api

import (
	"context"
	"net/http"
	"time"

	"kith/fault"
)

// How long a read waits for a message, and how many do at a time.
const (
	defaultWait = 5 * time.Second
	maxWait     = 30 * time.Second
	maxWaiting  = 1024
	// maxAppsWaiting is how many of them come with client tokens, which anybody
	// may hold: the others' places are not theirs to take.
	maxAppsWaiting = 256
)

// wait holds a read until the message that it asks for is in what it will see:
// wait_for, or the header Kith-Wait-For, names a messageId that was accepted
// before; wait_timeout says for how many seconds at most.
func (a *API) wait(q *asked) error {
	id := q.query.Get("wait_for")
	if id == "" {
		id = q.r.Header.Get("Kith-Wait-For")
	}
	limit := defaultWait
	if n := q.query.number("wait_timeout"); n > 0 {
		limit = time.Duration(n) * time.Second
		if n > int(maxWait/time.Second) {
			return fault.Field("wait_timeout", "%d is too long: want 1 to %d seconds", n, int(maxWait/time.Second))
		}
	}
	if id == "" || q.query.err != nil {
		return q.query.err
	}
	if a.waiting.Add(1) > maxWaiting {
		a.waiting.Add(-1)
		return &fault.Error{Kind: fault.RetryAfter, Message: "too many requests wait for messages"}
	}
	defer a.waiting.Add(-1)
	if q.grant != nil {
		defer a.appsWaiting.Add(-1)
		if a.appsWaiting.Add(1) > maxAppsWaiting {
			return &fault.Error{Kind: fault.RetryAfter, Message: "too many apps wait for messages"}
		}
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), limit)
	defer cancel()
	err := a.cfg.Waiter.WaitFor(ctx, q.target.Space.Number, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return &refusal{http.StatusNotFound, "message_not_found", err.Error()}
	case fault.Is(err, fault.Unavailable):
		return &refusal{http.StatusGatewayTimeout, "wait_timeout", err.Error()}
	case err != nil:
		return err
	}
	// The epoch may have been swapped meanwhile.
	q.target.Epoch, err = a.cfg.Epoch(q.r.Context(), q.target.Space.Number)
	return err
}
