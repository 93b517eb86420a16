package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// DefaultInsightsRetention is how long insights are searched unless a server is
// told otherwise (sheet unify_engage_privacy §1.14).
const DefaultInsightsRetention = 30 * 24 * time.Hour

// How Insights works. A segment is what one search reads when its filter says
// that something may be there.
const (
	segmentInsights = 1024
	segmentOutputs  = 65_536
	insightChunk    = 16 * segmentInsights // insights in one transaction, about
	insightRead     = 1 << 20              // bytes of the resolved log at a time
	maxInsightKinds = 10_000               // tallies of one transaction; what is beyond is counted without source and reason
	insightsSweep   = time.Hour
)

// InsightsConfig is what Insights is made of. All but Retention and Untyped is
// required.
type InsightsConfig struct {
	DB kv.DB
	// Resolved returns the resolved log of a space.
	Resolved func(space uint32) (commitlog.Log, error)
	// Spaces returns the numbers of the spaces there are.
	Spaces func() []uint32
	Clock  clock.Clock
	// Pace is the clock by which it rests: the machine's, also where Clock
	// stands still.
	Pace clock.Clock
	// Retention is how long insights can be searched; 30 days when it is zero.
	Retention time.Duration
	// Untyped are the reasons under which types of identifiers are not told
	// apart in counts: those of types that are no rule's, which anybody can
	// send.
	Untyped []string
	Logger  *slog.Logger
}

// Insights follows the resolved logs behind the loops, where identity and
// profile tell what they have done and refused, counts it, and keeps an index
// of it. It keeps no identifiers: what a search finds is read from the resolved
// log, so what an erasure takes from there is gone from insights too. An event
// that changes nothing costs it less than a microsecond, and the loop nothing.
type Insights struct {
	follower
	cfg  InsightsConfig
	open map[uint32]*openSegment // by space; owned by Run
}

// openSegment is the segment of a space that is not full yet.
type openSegment struct {
	segment
	next   commitlog.Offset
	tokens map[uint64]struct{}
	cause  *pipeline.Resolved // the last event
}

// NewInsights returns one that stands where its predecessor stopped. It does
// nothing before Run.
func NewInsights(cfg InsightsConfig) *Insights {
	if cfg.Retention <= 0 {
		cfg.Retention = DefaultInsightsRetention
	}
	n := &Insights{cfg: cfg, open: map[uint32]*openSegment{}}
	n.follower = follower{
		clock: cfg.Clock, pace: cfg.Pace, logger: cfg.Logger, spaces: cfg.Spaces, chunk: n.chunk, sweep: n.sweep, every: insightsSweep,
		failed: func(space uint32) { delete(n.open, space) }, what: "insights",
	}
	n.start()
	return n
}

// chunk takes the next outputs of a space in one transaction, and reports
// whether there may be more.
func (n *Insights) chunk(ctx context.Context, space uint32) (more bool, err error) {
	log, err := n.cfg.Resolved(space)
	if err != nil {
		return false, err
	}
	open := n.open[space]
	if open == nil {
		if open, err = n.resume(ctx, space, log); err != nil {
			return false, err
		}
		n.open[space] = open
	}
	from, end := open.next, log.End()
	if from >= end {
		return false, nil
	}
	var full []segment
	counts, taken := map[insightTally]uint64{}, 0
	for open.next < end && taken < insightChunk {
		blocks, err := log.Read(ctx, open.next, insightRead)
		if fault.Is(err, fault.NotFound) {
			// It was trimmed before it was read: go on where it begins.
			if open.next, err = logBegin(ctx, log, open.next, end); err == nil {
				*open = openSegment{next: open.next, tokens: map[uint64]struct{}{}}
				open.first, open.end = open.next, open.next
				continue
			}
		}
		if err != nil {
			return false, err
		}
		if len(blocks) == 0 {
			break
		}
		for _, b := range blocks {
			err := open.read(b, func(x *Insight) {
				t := tallyOf(x, n.cfg.Untyped)
				if _, known := counts[t]; !known && len(counts) >= maxInsightKinds {
					t.reason, t.idType, t.from = "", "", ""
				}
				counts[t]++
				taken++
			}, func(s segment) { full = append(full, s) })
			if err != nil {
				return false, err
			}
		}
	}
	if err := n.write(ctx, space, from, open, full, counts); err != nil {
		return false, err
	}
	return open.next < end, nil
}

// resume opens the segment that was not full when somebody stopped.
func (n *Insights) resume(ctx context.Context, space uint32, log commitlog.Log) (*openSegment, error) {
	var at insightCursor
	err := n.cfg.DB.View(ctx, func(r kv.Reader) (err error) {
		at, err = readInsightCursor(r, space)
		return err
	})
	if err != nil {
		return nil, err
	}
	open := &openSegment{next: at.first, tokens: map[uint64]struct{}{}}
	open.first, open.end = at.first, at.first
	for open.next < at.next {
		blocks, err := log.Read(ctx, open.next, insightRead)
		if fault.Is(err, fault.NotFound) || err == nil && len(blocks) == 0 {
			break // trimmed since: its beginning is not searched any more
		}
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			if b.First >= at.next {
				break
			}
			if err := open.read(cut(b, at.next), func(*Insight) {}, func(segment) {}); err != nil {
				return nil, err
			}
		}
	}
	open.next = max(open.next, at.next)
	return open, nil
}

// cut makes a block end early: what follows was not there when it was read.
func cut(b commitlog.Block, before commitlog.Offset) commitlog.Block {
	if b.End() > before {
		b.Count = int(before - b.First)
	}
	return b
}

// read takes the outputs of a block, from where it stands.
func (s *openSegment) read(b commitlog.Block, tell func(*Insight), full func(segment)) error {
	outputs, err := pipeline.DecodeOutputs(b.Data)
	if err != nil {
		return fmt.Errorf("the block at %d of the resolved log: %w", b.First, err)
	}
	for i := range outputs[:min(len(outputs), b.Count)] {
		at, o := b.First+commitlog.Offset(i), &outputs[i]
		if o.Event != nil {
			s.cause = o.Event
		}
		if at < s.next {
			continue
		}
		// A segment begins with an event, so that its changes have their cause.
		large := s.count >= segmentInsights || s.count > 0 && at-s.first >= segmentOutputs
		if large && (o.Event != nil || s.count >= 2*segmentInsights) {
			full(s.close())
			s.open(at)
		}
		s.next, s.end = at+1, at+1
		if o.Change == nil {
			continue
		}
		x, ok := insightOf(at, o, s.cause)
		if !ok {
			continue
		}
		s.take(&x)
		tell(&x)
	}
	if s.count == 0 { // nothing to be found so far
		s.first = s.next
	}
	return nil
}

func (s *openSegment) open(at commitlog.Offset) {
	s.segment = segment{first: at, end: at}
	clear(s.tokens)
}

func (s *openSegment) take(x *Insight) {
	at := x.At.UnixMilli()
	if s.count == 0 {
		s.from, s.to = at, at
	}
	s.from, s.to = min(s.from, at), max(s.to, at)
	s.kinds |= 1 << x.Kind.number()
	s.count++
	x.tokens(func(kind byte, text string) { s.tokens[tokenHash(kind, text)] = struct{}{} })
}

func (s *openSegment) close() segment {
	s.filter = newFilter(s.tokens)
	return s.segment
}

// write stores segments, counts and the cursor together.
func (n *Insights) write(ctx context.Context, space uint32, from commitlog.Offset, open *openSegment, full []segment, counts map[insightTally]uint64) error {
	return n.cfg.DB.Update(ctx, insightsFence, kv.Lazy, func(tx kv.Tx) error {
		stored, err := readInsightCursor(tx, space)
		if err != nil {
			return err
		}
		if stored.next != from {
			return fault.New(fault.Conflict, "somebody else follows the resolved log, too")
		}
		if open.count > 0 {
			full = append(full[:len(full):len(full)], open.close())
		}
		for i := range full {
			if err := tx.Set(segmentKey(space, full[i].first), full[i].encode()); err != nil {
				return err
			}
		}
		for _, g := range grains() {
			sums := map[insightTally]uint64{}
			for t, count := range counts {
				t.minute = bucketOf(g, startOf(t.minute))
				sums[t] += count
			}
			for t, count := range sums {
				if err := addCount(tx, t.at(g, space), count); err != nil {
					return err
				}
			}
		}
		return tx.Set(insightCursorKey(space), insightCursor{open.first, open.next}.encode())
	})
}

// logBegin returns the first offset from which a log can be read, between one
// that was trimmed and its end.
func logBegin(ctx context.Context, log commitlog.Log, trimmed, end commitlog.Offset) (commitlog.Offset, error) {
	for trimmed+1 < end {
		middle := trimmed + (end-trimmed)/2
		_, err := log.Read(ctx, middle, 1)
		switch {
		case err == nil:
			end = middle
		case fault.Is(err, fault.NotFound):
			trimmed = middle
		default:
			return 0, err
		}
	}
	return end, nil
}

// Lag returns how many outputs of a space are not in insights yet.
func (n *Insights) Lag(ctx context.Context, space uint32) (uint64, error) {
	log, err := n.cfg.Resolved(space)
	if err != nil {
		return 0, err
	}
	var at insightCursor
	err = n.cfg.DB.View(ctx, func(r kv.Reader) (err error) {
		at, err = readInsightCursor(r, space)
		return err
	})
	return uint64(log.End() - min(at.next, log.End())), err
}

var errSwept = errors.New("inspect: enough was removed")

// sweep removes what is too old: segments behind the retention, and old buckets
// of counts.
func (n *Insights) sweep(ctx context.Context, now time.Time) error {
	for _, g := range grains() {
		for more := true; more; {
			old := kv.Range{From: insightCountStem(g), To: insightCountStem(g).Uint32(bucketOf(g, now.Add(-g.kept())))}
			err := n.cfg.DB.Update(ctx, insightsFence, kv.Lazy, func(tx kv.Tx) (err error) {
				more = false
				for range tx.Scan(kv.Range{From: old.From, To: old.To, Limit: 1}) {
					more = true
				}
				return dropBuckets(tx, insightCountStem(g), g, now)
			})
			if err != nil {
				return fmt.Errorf("remove old counts of insights: %w", err)
			}
		}
	}
	oldest := now.Add(-n.cfg.Retention).UnixMilli()
	for _, space := range n.cfg.Spaces() {
		var keys []kv.Key
		err := n.cfg.DB.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(kv.Prefix(segmentStem(space))) {
				if err != nil {
					return err
				}
				s, err := decodeSegment(pair.Key, pair.Value, space)
				if err != nil {
					return err
				}
				if s.to >= oldest || len(keys) == maxSwept {
					return errSwept
				}
				keys = append(keys, kv.Key(pair.Key).Clone())
			}
			return nil
		})
		if err != nil && !errors.Is(err, errSwept) {
			return err
		}
		if len(keys) == 0 {
			continue
		}
		err = n.cfg.DB.Update(ctx, insightsFence, kv.Lazy, func(tx kv.Tx) error {
			for _, k := range keys {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove old insights: %w", err)
		}
	}
	return nil
}
