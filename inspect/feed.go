package inspect

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"kith/fault"
)

// Stage says where on its way something was seen.
type Stage string

// The stages, in the order of the way.
const (
	Accepted  Stage = "accepted"  // durable in the raw log
	Rejected  Stage = "rejected"  // refused by collect
	Admitted  Stage = "admitted"  // passed intake
	Duplicate Stage = "duplicate" // its messageId was seen before
	Blocked   Stage = "blocked"   // refused by the tracking plan, now in quarantine
	Discarded Stage = "discarded" // admitted to no profile and sent nowhere
	Changed   Stage = "changed"   // something happened to a profile
	Announced Stage = "announced" // a message for a destination was made
	Sent      Stage = "sent"      // delivered to a destination
	Retrying  Stage = "retrying"  // an attempt failed and another follows
	Dead      Stage = "dead"      // given up; now a dead letter
)

// Stages returns all stages in the order of the way.
func Stages() []Stage {
	return []Stage{Accepted, Rejected, Admitted, Duplicate, Blocked, Discarded, Changed, Announced, Sent, Retrying, Dead}
}

// Item is one thing that was seen. Everything but Stage and At may be empty.
type Item struct {
	Seq         uint64    `json:"seq"` // given by the feed, from 1; gaps are items the filter left out
	At          time.Time `json:"at"`
	Stage       Stage     `json:"stage"`
	Space       string    `json:"space,omitempty"`       // the space's slug
	Source      string    `json:"source,omitempty"`      // the source's id
	Destination string    `json:"destination,omitempty"` // the destination's id
	Type        string    `json:"type,omitempty"`        // the call: "track"
	Name        string    `json:"name,omitempty"`        // the event's name, or what changed
	MessageID   string    `json:"messageId,omitempty"`
	Who         string    `json:"who,omitempty"`     // an identifier of the person, as "type:value"
	Profile     string    `json:"profile,omitempty"` // "use_…"
	Detail      string    `json:"detail,omitempty"`  // why, in plain words
	// Body is the event. The feed keeps no bodies for those who come later;
	// see Feed.Watched.
	Body json.RawMessage `json:"body,omitempty"`
	// IDs are what Filter.ID is compared with beside MessageID and Profile: the
	// record's id, the values of identifiers.
	IDs []string `json:"-"`
}

// Filter chooses items. Empty fields choose all.
type Filter struct {
	Stages      []Stage
	Space       string
	Source      string
	Destination string
	Profile     string
	ID          string // a messageId, a profile, or one of an item's IDs
}

func (f *Filter) takes(i *Item) bool {
	return (len(f.Stages) == 0 || slices.Contains(f.Stages, i.Stage)) &&
		(f.Space == "" || f.Space == i.Space) &&
		(f.Source == "" || f.Source == i.Source) &&
		(f.Destination == "" || f.Destination == i.Destination) &&
		(f.Profile == "" || f.Profile == i.Profile) &&
		(f.ID == "" || f.ID == i.MessageID || f.ID == i.Profile || slices.Contains(i.IDs, f.ID))
}

// Count is how often something of a stage was seen at a source or destination
// since the server started.
type Count struct {
	Stage       Stage  `json:"stage"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	N           uint64 `json:"count"`
}

// Limits of a feed.
const (
	recentItems = 1000 // kept for those who come later
	watchBuffer = 1024 // items that a slow watcher may be behind
	maxWatches  = 64
	maxCounters = 10_000 // distinct counts; more are counted without their source and destination
)

// Feed is the live feed. All methods are safe for concurrent use.
type Feed struct {
	mu      sync.Mutex
	seq     uint64
	ring    []Item // the newest recentItems, at seq % recentItems
	watches map[*Watch]struct{}
	counts  map[counter]uint64
	closed  bool
}

type counter struct {
	stage               Stage
	source, destination string
}

// NewFeed returns an empty feed.
func NewFeed() *Feed {
	return &Feed{watches: map[*Watch]struct{}{}, counts: map[counter]uint64{}, ring: make([]Item, recentItems)}
}

// Publish shows items to those who watch. It never waits. It does not count:
// see Count.
func (f *Feed) Publish(items ...Item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range items {
		item := &items[i]
		f.seq++
		item.Seq = f.seq
		for w := range f.watches {
			w.offer(item)
		}
		f.ring[f.seq%recentItems] = item.kept()
	}
}

// kept returns what is kept of an item for those who come later. Its strings are
// its own: they may be parts of a request or of a block of the log, which would
// be held with them.
func (i *Item) kept() Item {
	own := *i
	own.Body, own.IDs = nil, slices.Clone(i.IDs)
	parts := []*string{&own.Source, &own.Destination, &own.Type, &own.Name, &own.MessageID, &own.Who, &own.Profile, &own.Detail}
	for n := range own.IDs {
		parts = append(parts, &own.IDs[n])
	}
	var all strings.Builder // one piece of memory for them all
	for _, s := range parts {
		all.WriteString(*s)
	}
	text := all.String()
	for _, s := range parts {
		*s, text = text[:len(*s)], text[len(*s):]
	}
	return own
}

// Count adds n to what was seen of a stage at a source or a destination.
func (f *Feed) Count(stage Stage, source, destination string, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := counter{stage, source, destination}
	if _, known := f.counts[c]; !known && len(f.counts) >= maxCounters {
		c.source, c.destination = "", ""
	}
	f.counts[c] += n
}

// Watched reports whether anybody watches: when nobody does, whoever publishes
// may leave bodies out, and much of a large batch.
func (f *Feed) Watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watches) > 0
}

// Counts returns all counters, sorted.
func (f *Feed) Counts() []Count {
	f.mu.Lock()
	list := make([]Count, 0, len(f.counts))
	for c, n := range f.counts {
		list = append(list, Count{Stage: c.stage, Source: c.source, Destination: c.destination, N: n})
	}
	f.mu.Unlock()
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	})
	return list
}

// Recent returns up to n of the newest items that the filter takes, oldest
// first.
func (f *Feed) Recent(filter Filter, n int) []Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recent(filter, n)
}

func (f *Feed) recent(filter Filter, n int) []Item {
	var list []Item
	for seq := f.seq; seq > 0 && f.seq-seq < recentItems && len(list) < n; seq-- {
		if item := &f.ring[seq%recentItems]; filter.takes(item) {
			list = append(list, *item)
		}
	}
	slices.Reverse(list)
	return list
}

// Watch is one person's view of the feed.
type Watch struct {
	feed    *Feed
	filter  Filter
	items   chan Item
	dropped uint64 // guarded by feed.mu
}

// Watch starts watching; the first items are up to recent of those that were
// there already. The caller calls Close. More than 64 watches at once are
// refused with fault.RetryAfter.
func (f *Feed) Watch(filter Filter, recent int) (*Watch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fault.New(fault.Unavailable, "the server is stopping")
	}
	if len(f.watches) >= maxWatches {
		return nil, &fault.Error{Kind: fault.RetryAfter, After: 5 * time.Second,
			Message: "too many people are watching live events (64): close another one"}
	}
	w := &Watch{feed: f, filter: filter, items: make(chan Item, watchBuffer)}
	for _, item := range f.recent(filter, min(recent, watchBuffer)) {
		w.items <- item
	}
	f.watches[w] = struct{}{}
	return w, nil
}

// offer hands an item on unless the watcher is too far behind. The caller
// holds the feed's mu.
func (w *Watch) offer(item *Item) {
	if !w.filter.takes(item) {
		return
	}
	select {
	case w.items <- *item:
	default:
		w.dropped++
	}
}

// Items is where the items come. It is closed by Close.
func (w *Watch) Items() <-chan Item { return w.items }

// Dropped returns how many items the watcher was too slow for.
func (w *Watch) Dropped() uint64 {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.dropped
}

// Close ends the watch. It may be called more than once.
func (w *Watch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	w.close()
}

func (w *Watch) close() {
	if _, open := w.feed.watches[w]; open {
		delete(w.feed.watches, w)
		close(w.items)
	}
}

// Close ends all watches and refuses new ones with fault.Unavailable, so that
// the streams that show them end. Publishing and counting go on.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.watches {
		w.close()
	}
}
