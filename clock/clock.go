package clock

import (
	"sync"
	"time"
)

// Clock tells the time and wakes callers when an instant has come. It is safe
// for concurrent use.
type Clock interface {
	// Now returns the present instant in UTC, to the millisecond: Kith's
	// instants are milliseconds everywhere.
	Now() time.Time
	// Until returns a channel that is closed once Now has reached t, and a
	// function that gives up waiting and frees what the wait holds. stop may
	// be called more than once.
	Until(t time.Time) (reached <-chan struct{}, stop func())
}

// System is the machine's clock.
type System struct{}

// Now returns the machine's time.
func (System) Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Until waits on the machine's clock.
func (s System) Until(t time.Time) (<-chan struct{}, func()) {
	ch := make(chan struct{})
	timer := time.AfterFunc(t.Sub(s.Now()), func() { close(ch) })
	return ch, func() { timer.Stop() }
}

// Manual is a clock that moves only when it is told to. Its zero value stands
// at the zero time; use NewManual.
type Manual struct {
	mu    sync.Mutex
	now   time.Time
	waits map[chan struct{}]time.Time
}

// NewManual returns a clock that stands at start.
func NewManual(start time.Time) *Manual {
	return &Manual{now: start.UTC().Truncate(time.Millisecond), waits: make(map[chan struct{}]time.Time)}
}

// Now returns the instant at which the clock stands.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Until waits until the clock has been moved to t or beyond.
func (m *Manual) Until(t time.Time) (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan struct{})
	if !t.After(m.now) {
		close(ch)
		return ch, func() {}
	}
	m.waits[ch] = t
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waits, ch)
	}
}

// Set moves the clock to t and wakes everyone whose instant has come. A clock
// never goes back: an earlier t is ignored.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t = t.UTC().Truncate(time.Millisecond)
	if t.Before(m.now) {
		return
	}
	m.now = t
	for ch, due := range m.waits {
		if !due.After(t) {
			close(ch)
			delete(m.waits, ch)
		}
	}
}
