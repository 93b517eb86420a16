package collect

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
)

// How groups are cut. A block has at most event.MaxBlockRecords records, and
// ends early once its bodies exceed blockBytes: with the largest event on top
// it stays below commitlog.MaxBlockBytes even if nothing of it can be
// compressed.
const (
	blockBytes  = 4 << 20
	groupBytes  = 16 << 20 // of bodies that are encoded together; one request may have more
	appendBytes = 24 << 20 // of blocks in one Append
)

// submission is the events of one request on their way into the log.
type submission struct {
	records []event.Record
	bytes   int        // of their bodies
	done    chan error // one answer; has room for it
}

// appender writes the events of a space to its raw log. One goroutine gathers
// what has arrived, cuts it into blocks and encodes them; another appends. So
// while one group is being made durable the next is encoded and the one after
// that gathers: the slower the disk, the larger the groups.
type appender struct {
	space   uint32
	logs    Logs
	limit   int // of bytes that are not durable yet
	life    context.Context
	metrics *metrics
	queued  *atomic.Int64 // bytes of the submissions of all spaces that have no answer yet

	mu      sync.Mutex
	waiting []*submission
	bytes   int // of all submissions that have no answer yet
	closed  bool

	wake    chan struct{} // has room for one: something waits, or closed
	encoded chan group
	both    sync.WaitGroup
}

// group is what is appended together.
type group struct {
	from   []*submission
	blocks []commitlog.Payload
}

// appender returns the appender of a space and starts it the first time.
func (c *Collector) appender(space uint32) *appender {
	c.appendMu.Lock()
	defer c.appendMu.Unlock()
	a := c.appenders[space]
	if a == nil {
		a = &appender{
			space: space, logs: c.config.Logs, limit: c.limits.QueueBytes, life: c.life, metrics: c.metrics, queued: &c.queued,
			wake: make(chan struct{}, 1), encoded: make(chan group),
		}
		c.appenders[space] = a
		a.both.Go(a.encodeAll)
		a.both.Go(a.appendAll)
	}
	return a
}

// write appends records and returns once they are durable. A full queue is
// fault.RetryAfter.
func (a *appender) write(records []event.Record, bytes int) error {
	s := &submission{records: records, bytes: bytes, done: make(chan error, 1)}
	a.mu.Lock()
	// A request that is larger than the whole queue may still enter an empty one.
	if a.bytes > 0 && a.bytes+bytes > a.limit {
		a.mu.Unlock()
		return &fault.Error{Kind: fault.RetryAfter, Message: "too many events wait to be written", After: time.Second}
	}
	a.waiting = append(a.waiting, s)
	a.bytes += bytes
	a.mu.Unlock()
	a.queued.Add(int64(bytes))
	a.signal()
	return <-s.done
}

// full reports whether there is no room for so many bytes more.
func (a *appender) full(more int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes > 0 && int64(a.bytes)+more > int64(a.limit)
}

// crowded reports whether a request can be turned away before its body is read:
// its space's queue has no room for it. It costs next to nothing while the
// queues are less than half full.
func (c *Collector) crowded(key string, bytes int64) bool {
	if c.queued.Load() < int64(c.limits.QueueBytes)/2 || key == "" {
		return false
	}
	snapshot := c.config.Workspace.Current()
	from := snapshot.SourceByWriteKey(key)
	if from == nil || !from.Enabled {
		return false
	}
	space := snapshot.Space(from.SpaceID)
	return space != nil && c.appender(space.Number).full(max(0, bytes))
}

// close ends the goroutines once everything submitted has its answer. Nobody
// writes any more.
func (a *appender) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.signal()
	a.both.Wait()
}

func (a *appender) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// encodeAll is the first goroutine.
func (a *appender) encodeAll() {
	defer close(a.encoded)
	for {
		from := a.gather()
		if from == nil {
			return
		}
		a.encoded <- group{from, encode(from)}
	}
}

// gather waits until something waits and takes about groupBytes of it; nil
// means the end.
func (a *appender) gather() []*submission {
	for {
		a.mu.Lock()
		n, bytes := 0, 0
		for n < len(a.waiting) && (n == 0 || bytes+a.waiting[n].bytes <= groupBytes) {
			bytes += a.waiting[n].bytes
			n++
		}
		from := a.waiting[:n:n]
		if a.waiting = a.waiting[n:]; len(a.waiting) == 0 {
			a.waiting = nil
		}
		closed := a.closed
		a.mu.Unlock()
		if n > 0 {
			return from
		}
		if closed {
			return nil
		}
		<-a.wake
		// Requests that are ready to submit go first, and share this group's
		// fsync. With nobody else about it costs nothing.
		runtime.Gosched()
	}
}

// encode cuts the events of a group into blocks, on all cores.
func encode(from []*submission) []commitlog.Payload {
	total := 0
	for _, s := range from {
		total += len(s.records)
	}
	all := make([]event.Record, 0, total)
	for _, s := range from {
		all = append(all, s.records...)
	}
	var cuts [][]event.Record
	begin, bytes := 0, 0
	for i := range all {
		if bytes += len(all[i].Body); i-begin+1 == event.MaxBlockRecords || bytes > blockBytes || i == len(all)-1 {
			cuts = append(cuts, all[begin:i+1])
			begin, bytes = i+1, 0
		}
	}
	blocks := make([]commitlog.Payload, len(cuts))
	if len(cuts) == 1 {
		blocks[0] = event.EncodeBlock(cuts[0])
		return blocks
	}
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, cut := range cuts {
		work.Go(func() error {
			blocks[i] = event.EncodeBlock(cut)
			return nil
		})
	}
	_ = work.Wait() // encoding does not fail
	return blocks
}

// appendAll is the second goroutine.
func (a *appender) appendAll() {
	for g := range a.encoded {
		err := a.append(g.blocks)
		outcome := "durable"
		if err != nil {
			outcome = "failed"
		}
		a.metrics.groups.WithLabelValues(outcome).Inc()
		bytes := 0
		for _, s := range g.from {
			bytes += s.bytes
		}
		a.mu.Lock()
		a.bytes -= bytes
		a.mu.Unlock()
		a.queued.Add(-int64(bytes))
		for _, s := range g.from {
			s.done <- err
		}
	}
}

func (a *appender) append(blocks []commitlog.Payload) error {
	log, err := a.logs.Raw(a.space)
	if err != nil {
		return fmt.Errorf("open the raw log of space %d: %w", a.space, err)
	}
	for len(blocks) > 0 {
		n, bytes := 0, 0
		for n < len(blocks) && (n == 0 || bytes+len(blocks[n].Data) <= appendBytes) {
			bytes += len(blocks[n].Data)
			n++
		}
		if _, err := log.Append(a.life, blocks[:n]...); err != nil {
			return fmt.Errorf("append to the raw log of space %d: %w", a.space, err)
		}
		a.metrics.blocks.Add(float64(n))
		blocks = blocks[n:]
	}
	return nil
}
