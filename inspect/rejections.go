package inspect

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"kith/clock"
	"kith/fault"
	"kith/kv"
)

// What of rejected messages is kept.
const (
	PerSource    = 1000               // the newest of a source
	KeptFor      = 7 * 24 * time.Hour // and none that is older
	maxBody      = 8 << 10            // the beginning of a message
	queueLength  = 1024
	batchLength  = 256
	sweepEvery   = time.Hour
	maxListLimit = 200
)

// Rejection is a message that was not accepted, and why.
type Rejection struct {
	ID        string    `json:"id"` // given when it is listed
	At        time.Time `json:"at"`
	Source    string    `json:"source"`             // the source's id; empty when it is not known
	WriteKey  string    `json:"writeKey,omitempty"` // the beginning of the key that was used
	Code      string    `json:"code"`               // a short name of the reason
	Message   string    `json:"message"`
	Field     string    `json:"field,omitempty"`
	Type      string    `json:"type,omitempty"`
	MessageID string    `json:"messageId,omitempty"`
	Count     int       `json:"count"`               // how many messages it stands for, at least one
	Warning   bool      `json:"warning,omitempty"`   // nothing was lost by it: it is kept, and counted nowhere
	Body      string    `json:"body"`                // one of them as it came, cut at 8 KiB
	Truncated bool      `json:"truncated,omitempty"` // the body was longer
}

// Rejections keeps what was rejected. Reject may be called by anyone; Run, by
// its owner, does the writing.
type Rejections struct {
	db     kv.DB
	clock  clock.Clock
	logger *slog.Logger

	queue   chan Rejection
	flush   chan chan struct{}
	stopped chan struct{}
	lost    atomic.Uint64

	mu      sync.Mutex
	pending map[rejectedCount]uint64 // not written yet; see counts.go

	// Owned by Run.
	next    uint64
	sources map[string]int // how many of a source are stored
}

// OpenRejections finds what is stored.
func OpenRejections(ctx context.Context, db kv.DB, c clock.Clock, logger *slog.Logger) (*Rejections, error) {
	r := &Rejections{
		db: db, clock: c, logger: logger, sources: map[string]int{}, next: 1, pending: map[rejectedCount]uint64{},
		queue: make(chan Rejection, queueLength), flush: make(chan chan struct{}), stopped: make(chan struct{}),
	}
	err := db.View(ctx, func(reader kv.Reader) error {
		for pair, err := range reader.Scan(kv.Prefix(kv.WorkspaceKey(room).Byte(rejections))) {
			if err != nil {
				return err
			}
			source, seq, ok := readRejectionKey(pair.Key)
			if !ok {
				return fault.New(fault.Internal, "a key of a rejected message is damaged")
			}
			r.sources[source]++
			r.next = max(r.next, seq+1)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("rejected messages: %w", err)
	}
	return r, nil
}

// Reject keeps a message and counts it. It never waits: when the writer is
// behind, the message is counted, but lost.
func (r *Rejections) Reject(x Rejection) {
	if len(x.Body) > maxBody {
		cut := maxBody
		for cut > 0 && !utf8.RuneStart(x.Body[cut]) {
			cut--
		}
		x.Body, x.Truncated = x.Body[:cut], true
	}
	x.Count = max(x.Count, 1)
	// Also: nothing of it holds on to the request.
	x.Body = string(MaskKeys(bytes.ToValidUTF8([]byte(x.Body), []byte("\uFFFD")), nil))
	x.MessageID, x.Type = strings.Clone(x.MessageID), strings.Clone(x.Type)
	if !x.Warning {
		r.count(&x)
	}
	select {
	case r.queue <- x:
	default:
		r.lost.Add(1)
	}
}

// Lost returns how many rejected messages were not kept since the start.
func (r *Rejections) Lost() uint64 { return r.lost.Load() }

// Run writes until ctx ends, then writes what waits and returns.
func (r *Rejections) Run(ctx context.Context) error {
	defer close(r.stopped)
	if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	due := r.clock.Now().Add(sweepEvery)
	told := uint64(0)
	for {
		reached, stop := r.clock.Until(due)
		var err error
		select {
		case x := <-r.queue:
			err = r.write(r.gather(x))
		case done := <-r.flush:
			err = r.write(r.gather())
			close(done)
		case <-reached:
			err = r.sweep(ctx)
			due = r.clock.Now().Add(sweepEvery)
			if lost := r.Lost(); lost > told {
				r.logger.Warn("rejected messages came faster than they can be kept", "lost", lost-told)
				told = lost
			}
		case <-ctx.Done():
			stop()
			for batch := r.gather(); ; batch = r.gather() {
				if err := r.write(batch); err != nil || len(batch) == 0 {
					return err
				}
			}
		}
		stop()
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// gather takes what waits.
func (r *Rejections) gather(batch ...Rejection) []Rejection {
	for len(batch) < batchLength {
		select {
		case x := <-r.queue:
			batch = append(batch, x)
		default:
			return batch
		}
	}
	return batch
}

// write stores a batch and removes what is too much of its sources.
func (r *Rejections) write(batch []Rejection) error {
	added := map[string]int{}
	for i := range batch {
		added[batch[i].Source]++
	}
	removed := map[string]int{}
	counts := r.takeCounts()
	// Not bounded by Run's context: what was rejected before the end is kept.
	err := r.db.Update(context.Background(), fence, kv.Lazy, func(tx kv.Tx) error {
		if err := writeCounts(tx, counts); err != nil {
			return err
		}
		for i := range batch {
			value, err := encodeRejection(&batch[i])
			if err != nil {
				return err
			}
			if err := tx.Set(rejectionKey(batch[i].Source, r.next+uint64(i)), value); err != nil {
				return err
			}
		}
		for source, n := range added {
			removed[source] = 0
			excess := r.sources[source] + n - PerSource
			if excess <= 0 {
				continue
			}
			keys, err := oldest(tx, source, excess, nil)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			removed[source] = len(keys)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep rejected messages: %w", err)
	}
	r.next += uint64(len(batch))
	for source, n := range added {
		r.sources[source] += n - removed[source]
	}
	return nil
}

// sweep removes what is too old, or will be before the next sweep.
func (r *Rejections) sweep(ctx context.Context) error {
	before := r.clock.Now().Add(sweepEvery - KeptFor)
	removed := map[string]int{}
	err := r.db.Update(ctx, fence, kv.Lazy, func(tx kv.Tx) error {
		for source := range r.sources {
			keys, err := oldest(tx, source, 0, func(x *Rejection) bool { return !x.At.After(before) })
			if err != nil {
				return err
			}
			for _, k := range keys {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			removed[source] = len(keys)
		}
		return sweepCounts(tx, r.clock.Now())
	})
	if err != nil {
		return fmt.Errorf("remove old rejected messages: %w", err)
	}
	for source, n := range removed {
		if r.sources[source] -= n; r.sources[source] <= 0 {
			delete(r.sources, source)
		}
	}
	return nil
}

// oldest returns the keys of a source's oldest rejections: at most limit of
// them (zero means all), as long as while says so (nil: always).
func oldest(tx kv.Tx, source string, limit int, while func(*Rejection) bool) ([]kv.Key, error) {
	all := kv.Prefix(sourceStem(source))
	all.Limit = limit
	var keys []kv.Key
	for pair, err := range tx.Scan(all) {
		if err != nil {
			return nil, err
		}
		if while != nil {
			x, err := decodeRejection(pair.Value)
			if err != nil {
				return nil, err
			}
			if !while(x) {
				break
			}
		}
		keys = append(keys, kv.Key(pair.Key).Clone())
	}
	return keys, nil
}

// List returns a source's rejected messages, newest first, at most limit (1 to
// 200; zero means 50), and the cursor of the next page, which is empty at the
// end. What was rejected before the call is in it.
func (r *Rejections) List(ctx context.Context, source, cursor string, limit int) (page []Rejection, next string, err error) {
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, maxListLimit)
	all := kv.Prefix(sourceStem(source))
	all.Reverse, all.Limit = true, limit+1
	if cursor != "" {
		seq, err := strconv.ParseUint(cursor, 36, 64)
		if err != nil {
			return nil, "", fault.Field("cursor", "%q is not a cursor that this list has given", cursor)
		}
		all.To = rejectionKey(source, seq)
	}
	if err := r.settle(ctx); err != nil {
		return nil, "", err
	}
	err = r.db.View(ctx, func(reader kv.Reader) error {
		page, next = nil, ""
		for pair, err := range reader.Scan(all) {
			if err != nil {
				return err
			}
			if len(page) == limit {
				next = page[limit-1].ID
				break
			}
			x, err := decodeRejection(pair.Value)
			if err != nil {
				return err
			}
			_, seq, _ := readRejectionKey(pair.Key)
			x.ID = rejectionID(seq)
			page = append(page, *x)
		}
		return nil
	})
	return page, next, err
}

// settle waits until what waits in the queue now is stored.
func (r *Rejections) settle(ctx context.Context) error {
	for range queueLength/batchLength + 1 {
		done := make(chan struct{})
		select {
		case r.flush <- done:
		case <-r.stopped:
			return nil
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err())
		}
		<-done
	}
	return nil
}

// rejectionID is a rejection's number in the form that people pass around.
func rejectionID(seq uint64) string { return strconv.FormatUint(seq, 36) }
