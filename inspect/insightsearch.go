package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// What one search may read, and the longest page.
const (
	MaxInsights   = 500
	maxSegments   = 400      // read from the log by one call
	maxFilters    = 200_000  // looked at by one call
	filtersAtOnce = 256      // in one moment of the store
	segmentRead   = 32 << 10 // bytes of the resolved log at a time
)

// InsightQuery chooses insights; what is empty or zero matches everything.
type InsightQuery struct {
	Space     uint32
	Kinds     []InsightKind
	Reason    string // whole: the name of a violation
	Type      string // of the identifier
	Value     string // of the identifier, as it is
	Profile   event.ProfileID
	Source    string // the source's id
	MessageID string
	From, To  time.Time // at or after From, before To
	Limit     int       // at most MaxInsights
	After     string    // InsightPage.Next of the page before
}

// InsightPage is a page of insights, newest first.
type InsightPage struct {
	Insights []Insight
	// Next goes on behind the page, which may be shorter than was asked for, or
	// empty, when much had to be looked through. Empty: there is no more.
	Next string
	// Back is how far back the search has come; zero when it is at its end.
	Back time.Time
}

// tokens returns the hashes of what all hits have in common.
func (q *InsightQuery) tokens() (hashes []uint64) {
	for _, t := range []struct {
		kind byte
		text string
	}{{tokenReason, q.Reason}, {tokenType, q.Type}, {tokenValue, q.Value}, {tokenSource, q.Source}, {tokenMessage, q.MessageID}} {
		if t.text != "" {
			hashes = append(hashes, tokenHash(t.kind, t.text))
		}
	}
	if !q.Profile.IsZero() {
		hashes = append(hashes, tokenHash(tokenProfile, string(q.Profile[:])))
	}
	return hashes
}

func (q *InsightQuery) mask() (mask uint64) {
	for _, k := range q.Kinds {
		mask |= 1 << k.number()
	}
	if len(q.Kinds) == 0 {
		mask = ^uint64(0)
	}
	return mask
}

func (q *InsightQuery) takes(x *Insight) bool {
	return (len(q.Kinds) == 0 || slices.Contains(q.Kinds, x.Kind)) &&
		(q.Reason == "" || q.Reason == x.Reason) &&
		(q.Type == "" || q.Type == x.Type) && (q.Value == "" || q.Value == x.Value) &&
		(q.Profile.IsZero() || q.Profile == x.Profile || q.Profile == x.Other) &&
		(q.Source == "" || q.Source == x.Source) && (q.MessageID == "" || q.MessageID == x.MessageID) &&
		(q.From.IsZero() || !x.At.Before(q.From)) && (q.To.IsZero() || x.At.Before(q.To))
}

func (q *InsightQuery) check() (before commitlog.Offset, err error) {
	for _, k := range q.Kinds {
		if k.number() == 0 {
			return 0, fault.Field("kind", "%q is none of %s", k, kindList())
		}
	}
	if q.Limit < 1 || q.Limit > MaxInsights {
		return 0, fault.Field("limit", "want 1 to %d", MaxInsights)
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return 0, fault.Field("from", "want it before to")
	}
	before = ^commitlog.Offset(0)
	if q.After != "" {
		n, err := strconv.ParseUint(q.After, 36, 64)
		if err != nil {
			return 0, fault.Field("next", "%q is not where a page ends: give back the next of a page", q.After)
		}
		before = commitlog.Offset(n)
	}
	return before, nil
}

func kindList() string {
	var names []string
	for _, k := range InsightKinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// InsightReader searches insights and reads their counts. It is safe for
// concurrent use, also where no Insights runs.
type InsightReader struct {
	db       kv.DB
	resolved func(space uint32) (commitlog.Log, error)
}

// NewInsightReader returns a reader over the store that Insights writes to, and
// the resolved logs.
func NewInsightReader(db kv.DB, resolved func(space uint32) (commitlog.Log, error)) *InsightReader {
	return &InsightReader{db, resolved}
}

// Search returns insights, newest first. It looks as far back as Insights keeps
// its index.
func (r *InsightReader) Search(ctx context.Context, q InsightQuery) (InsightPage, error) {
	before, err := q.check()
	if err != nil {
		return InsightPage{}, err
	}
	log, err := r.resolved(q.Space)
	if err != nil {
		return InsightPage{}, err
	}
	page := InsightPage{Insights: []Insight{}}
	filters, read := 0, 0
	for {
		segments, last, err := r.candidates(ctx, &q, before, &filters)
		if err != nil {
			return page, err
		}
		for _, s := range segments {
			hits, err := readSegment(ctx, log, &s, before, q.takes)
			if err != nil {
				return page, err
			}
			read++
			for i := len(hits) - 1; i >= 0; i-- {
				page.Insights = append(page.Insights, hits[i])
				if len(page.Insights) == q.Limit {
					page.Next, page.Back = mark(hits[i].Place), hits[i].At
					return page, nil
				}
			}
			before, page.Back = s.first, time.UnixMilli(s.from).UTC()
			if read == maxSegments {
				page.Next = mark(before)
				return page, nil
			}
		}
		if last == nil {
			page.Back = time.Time{}
			return page, nil
		}
		before, page.Back = last.first, time.UnixMilli(last.from).UTC()
		if filters >= maxFilters {
			page.Next = mark(before)
			return page, nil
		}
	}
}

func mark(at commitlog.Offset) string { return strconv.FormatUint(uint64(at), 36) }

// candidates returns the next segments, backwards, in which there may be hits,
// and the last segment that was looked at; nil when there are no more.
func (r *InsightReader) candidates(ctx context.Context, q *InsightQuery, before commitlog.Offset, looked *int) (list []segment, last *segment, err error) {
	mask, tokens := q.mask(), q.tokens()
	err = r.db.View(ctx, func(reader kv.Reader) error {
		list, last = nil, nil
		rng := kv.Prefix(segmentStem(q.Space))
		rng.Reverse, rng.Limit = true, filtersAtOnce
		if before != ^commitlog.Offset(0) {
			rng.To = segmentKey(q.Space, before)
		}
		n := 0
		for pair, err := range reader.Scan(rng) {
			if err != nil {
				return err
			}
			s, err := decodeSegment(pair.Key, pair.Value, q.Space)
			if err != nil {
				return err
			}
			n++
			last = &s
			if !q.From.IsZero() && s.to < q.From.UnixMilli() {
				last = nil // and so are all before it
				return nil
			}
			if s.kinds&mask == 0 || !q.To.IsZero() && s.from >= q.To.UnixMilli() ||
				slices.ContainsFunc(tokens, func(h uint64) bool { return !filterHas(s.filter, h) }) {
				continue
			}
			if list = append(list, s); len(list) == 16 {
				break
			}
		}
		*looked += n
		return nil
	})
	return list, last, err
}

// readSegment returns the insights of a segment that lie before an offset and
// are wanted, in their order. What was trimmed is passed over.
func readSegment(ctx context.Context, log commitlog.Log, s *segment, before commitlog.Offset, wanted func(*Insight) bool) ([]Insight, error) {
	var hits []Insight
	var cause *pipeline.Resolved
	for at, end := s.first, min(s.end, before); at < end; {
		blocks, err := log.Read(ctx, at, segmentRead)
		if fault.Is(err, fault.NotFound) {
			if at, err = logBegin(ctx, log, at, end); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if len(blocks) == 0 {
			break
		}
		for _, b := range blocks {
			if b.First >= end {
				return hits, nil
			}
			outputs, err := pipeline.DecodeOutputs(b.Data)
			if err != nil {
				return nil, fmt.Errorf("the block at %d of the resolved log: %w", b.First, err)
			}
			for i := range outputs {
				place, o := b.First+commitlog.Offset(i), &outputs[i]
				if o.Event != nil {
					cause = o.Event
				}
				if o.Change == nil || place < s.first || place >= end {
					continue
				}
				if x, ok := insightOf(place, o, cause); ok && wanted(&x) {
					hits = append(hits, x)
				}
			}
			at = b.End()
		}
	}
	return hits, nil
}

// InsightCount is how many insights of one sort there were in one bucket.
type InsightCount struct {
	Start  time.Time // of the bucket
	Kind   InsightKind
	Reason string // of violations, drops and traits
	Type   string // of the identifier
	Source string // the source's id; empty for what no message has brought about
	Count  uint64
}

// InsightCountQuery chooses buckets: those that begin at or after From, rounded
// down to the beginning of its bucket, and before To.
type InsightCountQuery struct {
	Space    uint32
	From, To time.Time
	Grain    Grain
	Kinds    []InsightKind // nil means all
	// BySource and ByType tell sources and types of identifiers apart; otherwise
	// their counts are added up.
	BySource, ByType bool
}

var errManyCounts = errors.New("inspect: too many counts")

// Counts returns what there was, by bucket, in the order of time. It is exact
// and a moment behind (see Insights.Settle). Minutes are kept for 49 hours,
// hours for 32 days, days for 400. More than a million rows are fault.Invalid.
func (r *InsightReader) Counts(ctx context.Context, q InsightCountQuery) ([]InsightCount, error) {
	if !slices.Contains(grains(), q.Grain) {
		return nil, fault.Field("grain", "want MINUTE, HOUR or DAY, not %q", q.Grain)
	}
	if !q.From.Before(q.To) {
		return nil, fault.Field("from", "want it before to")
	}
	var list []InsightCount
	err := r.db.View(ctx, func(reader kv.Reader) error {
		list = nil
		places := map[InsightCount]int{}
		stem := insightCountStem(q.Grain)
		for pair, err := range reader.Scan(between(stem, VolumeQuery{From: q.From, To: q.To, Grain: q.Grain})) {
			if err != nil {
				return err
			}
			t, space, ok := readInsightTally(pair.Key, stem)
			if !ok {
				return errDamaged("count of insights")
			}
			c := InsightCount{Start: startOf(t.minute), Kind: insightKindAt(t.kind), Reason: t.reason, Type: t.idType, Source: t.from}
			if space != q.Space || len(q.Kinds) > 0 && !slices.Contains(q.Kinds, c.Kind) {
				continue
			}
			n, err := decodeCount(pair.Value)
			if err != nil {
				return err
			}
			if !q.BySource {
				c.Source = ""
			}
			if !q.ByType {
				c.Type = ""
			}
			at, known := places[c]
			if !known {
				if len(list) == maxVolumes {
					return errManyCounts
				}
				at = len(list)
				places[c] = at
				list = append(list, c)
			}
			list[at].Count += n
		}
		return nil
	})
	if errors.Is(err, errManyCounts) {
		return nil, errTooMany()
	}
	return list, err
}
