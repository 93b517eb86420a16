package delivery

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/destination"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// Config is what New is handed. All but Tap, Limits and Retention is required.
type Config struct {
	DB        kv.DB
	Clock     clock.Clock
	Random    io.Reader // spreads retries
	Workspace Workspace
	Registry  *destination.Registry
	HTTP      *http.Client // what connectors send with; package egress
	// Unseal returns a destination's settings with their secrets in plain.
	Unseal func(settings json.RawMessage) (json.RawMessage, error)
	// Logs returns the resolved log of a space.
	Logs   func(space uint32) (commitlog.Log, error)
	Bodies Bodies
	Logger *slog.Logger
	// Tap is told what became of each attempt, many at a time, by the
	// goroutine of the destination: it must be quick. Nil: nobody asks.
	Tap    func([]Report)
	Limits Limits
	// Retention says how long a space keeps its events; zero: for ever. Dead
	// letters that are older go. Nil: all are kept for ever.
	Retention func(space uint32) time.Duration
}

// Workspace is where the configuration comes from. Current returns the newest.
type Workspace interface {
	Current() *workspace.Snapshot
	// Watch sends each new snapshot until ctx is done.
	Watch(ctx context.Context) <-chan *workspace.Snapshot
}

// Bodies is where the bodies of events rest.
type Bodies interface {
	// Body returns the body of an admitted event by the offset of its raw
	// record. It is fault.NotFound when the event is no longer kept. The slice
	// is not changed by either side.
	Body(ctx context.Context, space uint32, offset commitlog.Offset) ([]byte, error)
}

// Limits bound what delivery does. Zero values mean the defaults.
type Limits struct {
	// MaxAge is how long an event is tried, from its first attempt on: 4 h
	// (sheet connections_protocols §3.2).
	MaxAge time.Duration
	// MaxBehind is how many events of a profile wait behind one that waits for
	// a retry, at one destination: 1,000.
	MaxBehind int
	// MaxWaiting is how many events wait at one destination in all: 100,000.
	MaxWaiting int
	// Backoff is how long the first retry waits, about; each further one waits
	// twice as long, up to MaxBackoff: 1 s, 15 min.
	Backoff, MaxBackoff time.Duration
	// MaxPending and MaxPendingBytes bound what one destination has read and
	// not sent yet: 4,096 events, 32 MiB. A destination with large batches
	// gets room for four of them.
	MaxPending, MaxPendingBytes int
	// Grace is how long requests under way may take after Run was told to
	// stop: 5 s.
	Grace time.Duration
	// Ledger is how long the ledger says of each output what became of it:
	// 30 days. The counts stay.
	Ledger time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, otherwise int) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	setTime := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	set(&l.MaxBehind, 1000)
	set(&l.MaxWaiting, 100_000)
	set(&l.MaxPending, 4096)
	set(&l.MaxPendingBytes, 32<<20)
	setTime(&l.MaxAge, 4*time.Hour)
	setTime(&l.Backoff, time.Second)
	setTime(&l.MaxBackoff, 15*time.Minute)
	setTime(&l.Grace, 5*time.Second)
	setTime(&l.Ledger, 30*24*time.Hour)
	return l
}

// Report says what became of an attempt, or of what was never tried.
type Report struct {
	Destination  string
	Subscription string // its id; empty without one
	Space        uint32
	Offset       commitlog.Offset // of the output in the resolved log
	At           time.Time
	Status       destination.Status // Retry: it waits; Permanent: it is a dead letter now
	Reason       string
	Attempts     int
	Resent       bool
	Profile      event.ProfileID
	// Output is what was sent, nil where it was not looked at again, and Body
	// its event, nil where it is not at hand. Neither may be changed or kept.
	Output *pipeline.Output
	Body   []byte
}

// Counts are the numbers of a destination, over all spaces.
type Counts struct {
	Delivered uint64
	Filtered  [GateCount]uint64
	Dead      uint64 // dead letters now, without those sent again since
	Waiting   uint64 // waiting now: for a retry, or behind one of their profile

	Attempts uint64 // events in requests
	Failures uint64 // of them not delivered
}

// Accepted is how many the destination has taken off the logs; every one of
// them is delivered, filtered, dead or waiting.
func (c *Counts) Accepted() uint64 { return c.Delivered + c.AllFiltered() + c.Dead + c.Waiting }

// AllFiltered is how many were kept back, by whatever gate.
func (c *Counts) AllFiltered() (n uint64) {
	for _, f := range c.Filtered {
		n += f
	}
	return n
}

func (c *Counts) add(other *Counts) {
	c.Delivered += other.Delivered
	c.Dead += other.Dead
	c.Waiting += other.Waiting
	c.Attempts += other.Attempts
	c.Failures += other.Failures
	for i, n := range other.Filtered {
		c.Filtered[i] += n
	}
}

// Status is how a destination is doing.
type Status struct {
	Destination string
	Counts      Counts
	Backlog     uint64    // outputs in the logs that it has not read
	Pending     int       // read, and not settled yet
	InFlight    int       // requests under way
	NextRetry   time.Time // when the next retry is due; zero: none waits
	LastFailure string    // why an attempt failed last, since the start; empty: none did
	LastSuccess time.Time // of a request; zero: none since the start
	Problem     string    // why nothing is sent at all; empty: it is sent
}
