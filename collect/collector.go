package collect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"kith/clock"
	"kith/collect/bot"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/proxy"
	"kith/workspace"
)

// Workspace is where sources are found by their write keys.
type Workspace interface {
	// Current returns the newest snapshot. It is asked once a request.
	Current() *workspace.Snapshot
}

// Logs gives out the raw logs.
type Logs interface {
	// Raw returns the open raw log of a space. It is asked for every group of
	// events and must be quick.
	Raw(space uint32) (commitlog.Log, error)
}

// Config is what a Collector is made of. Workspace, Logs, Clock and Random are
// required.
type Config struct {
	Workspace Workspace
	Logs      Logs
	Clock     clock.Clock // gives receivedAt
	Random    io.Reader   // for record ids and missing messageIds; read by one goroutine at a time
	Logger    *slog.Logger
	Limits    Limits

	// StrictWriteKeys answers 401 to unknown write keys, which makes the SDKs
	// drop what they sent. Otherwise the answer is 200 and the events are
	// counted as rejected.
	StrictWriteKeys bool
	// Tokens judges access tokens. Without it they are ignored, and a source
	// that requires one takes nothing.
	Tokens Tokens
	// TrustedProxies are peers whose X-Forwarded-For names the client.
	TrustedProxies proxy.Trusted

	// Rejections is told what was not kept. May be nil.
	Rejections Rejections
	// Accepted is called with the events of a request once they are durable
	// and before it is answered, by many goroutines at once. It must be quick
	// and must keep neither the slice nor the bodies, whose memory is used
	// again; strings and identifiers it may keep. May be nil.
	Accepted func(space uint32, records []event.Record)
	// Metrics is where the package's metrics are registered. May be nil.
	Metrics prometheus.Registerer
}

// Limits bound what comes in from outside and what waits inside. Zero fields
// have the default.
type Limits struct {
	EventBytes    int // of one event as sent: 32 KiB; at most 4 MiB
	BodyBytes     int // of a request, compressed and decompressed: 1 MiB, so that no official SDK loses a batch
	BatchEvents   int // in one batch: 2,500
	MessageIDLen  int // characters of a messageId: 100
	SampleBytes   int // of a rejected event that goes into its Rejection: 8 KiB
	QueueBytes    int // of events of a space that wait to be durable: 64 MiB; above, 429
	InflightBytes int // of all requests that are being worked on, bodies and events: 256 MiB; above, 429
}

const (
	maxEventBytes   = 4 << 20
	maxMessageIDLen = 1000
)

func (l *Limits) complete() error {
	for _, f := range []struct {
		name       string
		value      *int
		byDefault  int
		upperBound int
	}{
		{"EventBytes", &l.EventBytes, 32 << 10, maxEventBytes},
		{"BodyBytes", &l.BodyBytes, 1 << 20, 256 << 20},
		{"BatchEvents", &l.BatchEvents, 2500, 1 << 20},
		{"MessageIDLen", &l.MessageIDLen, 100, maxMessageIDLen},
		{"SampleBytes", &l.SampleBytes, 8 << 10, 1 << 20},
		{"QueueBytes", &l.QueueBytes, 64 << 20, 1 << 40},
		{"InflightBytes", &l.InflightBytes, 256 << 20, 1 << 40},
	} {
		if *f.value == 0 {
			*f.value = f.byDefault
		}
		if *f.value < 1 || *f.value > f.upperBound {
			return fault.Field("limits."+f.name, "%d is not between 1 and %d", *f.value, f.upperBound)
		}
	}
	if l.BodyBytes < l.EventBytes {
		return fault.Field("limits.BodyBytes", "%d is less than the %d of one event", l.BodyBytes, l.EventBytes)
	}
	return nil
}

// Collector is the Tracking API. Its methods are safe for concurrent use.
type Collector struct {
	config  Config
	limits  Limits
	logger  *slog.Logger
	debug   bool // the logger takes debug records
	metrics *metrics
	random  *source
	bots    func() *bot.List
	bulk    bulk
	held    atomic.Int64 // bytes of requests that are being worked on
	queued  atomic.Int64 // bytes of events that wait to be durable, of all spaces

	bodies    sync.Pool // of *bytes.Buffer
	unzips    sync.Pool // of *gzip.Reader
	intakes   sync.Pool // of *intake
	appendMu  sync.Mutex
	appenders map[uint32]*appender // by space
	life      context.Context      // of the appends
	abandon   context.CancelFunc   // ends life

	gate    sync.Mutex
	closing bool
	running sync.WaitGroup // requests
}

// New returns a Collector. A limit out of its range is fault.Invalid.
func New(config Config) (*Collector, error) {
	c := &Collector{
		config: config, limits: config.Limits, logger: config.Logger,
		random:    &source{r: bufio.NewReader(config.Random)},
		appenders: map[uint32]*appender{}, bots: sync.OnceValue(bot.New),
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	c.debug = c.logger.Enabled(context.Background(), slog.LevelDebug)
	if err := c.limits.complete(); err != nil {
		return nil, err
	}
	var err error
	if c.metrics, err = newMetrics(config.Metrics, c); err != nil {
		return nil, fmt.Errorf("register the metrics of collect: %w", err)
	}
	c.life, c.abandon = context.WithCancel(context.Background())
	return c, nil
}

// Handler returns the Tracking API's routes as one handler.
func (c *Collector) Handler() http.Handler {
	mux := http.NewServeMux()
	c.Register(mux)
	return mux
}

// Close refuses new requests with 503, waits until all that have begun are
// durable and answered, and ends the Collector's goroutines. When ctx ends
// before that, what the log has not begun to write is given up and the answer
// of its requests is 503; the error is then the context's. What the log has
// begun is waited for. It closes no log.
func (c *Collector) Close(ctx context.Context) error {
	c.gate.Lock()
	c.closing = true
	c.gate.Unlock()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		c.running.Wait()
		c.appendMu.Lock()
		defer c.appendMu.Unlock()
		for _, a := range c.appenders {
			a.close()
		}
	}()
	stop := context.AfterFunc(ctx, c.abandon)
	defer stop()
	<-drained
	c.abandon()
	return ctx.Err()
}

// enter begins a request, unless the Collector is closing; c.running.Done ends
// it.
func (c *Collector) enter() bool {
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.closing {
		return false
	}
	c.running.Add(1)
	return true
}

// hold counts the memory of one request against Limits.InflightBytes.
type hold struct {
	c *Collector
	n int64
}

// grow adds n bytes and reports whether there is room for them.
func (h *hold) grow(n int) bool {
	h.n += int64(n)
	return h.c.held.Add(int64(n)) <= int64(h.c.limits.InflightBytes)
}

func (h *hold) release() {
	h.c.held.Add(-h.n)
	h.n = 0
}

// source is a source of randomness that many goroutines may read.
type source struct {
	mu sync.Mutex
	r  *bufio.Reader
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return io.ReadFull(s.r, p)
}
