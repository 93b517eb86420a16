package auth

import (
	"sync"
	"time"

	"kith/clock"
)

// maxClients is how many clients a throttle remembers.
const maxClients = 10_000

// throttle bounds how often something may happen, for each client: burst times
// at once, and rate times a second for long.
type throttle struct {
	clock       clock.Clock
	rate, burst float64

	mu      sync.Mutex
	clients map[string]*bucket
}

// bucket is what a client has left.
type bucket struct {
	left float64
	at   time.Time
}

func newThrottle(c clock.Clock, rate, burst float64) *throttle {
	return &throttle{clock: c, rate: rate, burst: burst, clients: map[string]*bucket{}}
}

// wait says how long a client has to wait before the next time; zero when it
// need not.
func (t *throttle) wait(client string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.clients[client]
	if b == nil {
		return 0
	}
	t.fill(b)
	if b.left >= 1 {
		return 0
	}
	return time.Duration((1 - b.left) / t.rate * float64(time.Second))
}

// take notes that it has happened.
func (t *throttle) take(client string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.clients[client]
	if b == nil {
		t.makeRoom()
		b = &bucket{left: t.burst, at: t.clock.Now()}
		t.clients[client] = b
	}
	t.fill(b)
	b.left = max(b.left-1, 0)
}

func (t *throttle) fill(b *bucket) {
	now := t.clock.Now()
	if since := now.Sub(b.at); since > 0 {
		b.left = min(t.burst, b.left+since.Seconds()*t.rate)
	}
	b.at = now
}

// makeRoom forgets clients that are full again and, when nearly all are wanting,
// half of them: whoever has ten thousand addresses is not stopped by this bound.
func (t *throttle) makeRoom() {
	if len(t.clients) < maxClients {
		return
	}
	for client, b := range t.clients {
		if t.fill(b); b.left >= t.burst {
			delete(t.clients, client)
		}
	}
	for client := range t.clients {
		if len(t.clients) <= maxClients/2 {
			break
		}
		delete(t.clients, client)
	}
}
