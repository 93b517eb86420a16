package demo

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Figures are what the view shows.
type Figures struct {
	Elapsed time.Duration

	Sent       int // calls that the server has taken
	Again      int // of them, sent a second time
	Late       int // of them, long after they happened
	Odd        int // of them, with something wrong
	Unsent     int // calls that the server has not taken
	PerSecond  []int
	IDs        int // different identifiers sent
	Profiles   int
	Merges     int
	Protected  int // identifiers that an event carried and could not use
	Duplicates int // dropped as duplicates
	Blocked    int // by the tracking plan
	Rejected   int // at the door
	Backlog    int

	Audiences  []AudienceFigures
	Deliveries []DeliveryFigures
}

// AudienceFigures is how an audience moves.
type AudienceFigures struct {
	Key, Name     string
	Members       int
	Entered, Left int
}

// DeliveryFigures is what a tool has received.
type DeliveryFigures struct {
	Slug, Name string
	Events     int
	Last       string // the newest event, in a few words
}

// window is how many seconds the view looks back.
const window = 40

// tally gathers figures from many sides. It is safe for concurrent use.
type tally struct {
	mu  sync.Mutex
	f   Figures
	ids map[string]bool
	now int // sent within the second that runs
}

// change adjusts the figures.
func (t *tally) change(fn func(f *Figures)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fn(&t.f)
}

// sent notes calls that the server has taken.
func (t *tally) sent(calls []Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil {
		t.ids = map[string]bool{}
	}
	for i := range calls {
		c := &calls[i]
		t.f.Sent++
		t.now++
		for fact, n := range map[*int]bool{&t.f.Again: c.Again, &t.f.Late: c.Late, &t.f.Odd: c.Odd} {
			if n {
				*fact++
			}
		}
		for _, id := range c.Identifiers() {
			t.ids[id] = true
		}
	}
	t.f.IDs = len(t.ids)
}

// second ends a second.
func (t *tally) second(elapsed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.f.Elapsed = elapsed
	t.f.PerSecond = append(t.f.PerSecond, t.now)
	if len(t.f.PerSecond) > window {
		t.f.PerSecond = t.f.PerSecond[len(t.f.PerSecond)-window:]
	}
	t.now = 0
}

// audience adjusts the figures of one audience.
func (t *tally) audience(key string, fn func(*AudienceFigures)) {
	t.change(func(f *Figures) {
		i := slices.IndexFunc(f.Audiences, func(a AudienceFigures) bool { return a.Key == key })
		if i >= 0 {
			fn(&f.Audiences[i])
		}
	})
}

// figures returns a copy of the figures.
func (t *tally) figures() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.f
	f.PerSecond = slices.Clone(f.PerSecond)
	f.Audiences = slices.Clone(f.Audiences)
	f.Deliveries = slices.Clone(f.Deliveries)
	return f
}

// changed takes a change from the live feed.
func (t *tally) changed(what, detail string) {
	subject, _, _ := strings.Cut(detail, " ")
	switch what {
	case "profile created":
		t.change(func(f *Figures) { f.Profiles++ })
	case "profiles merged":
		t.change(func(f *Figures) { f.Profiles--; f.Merges++ })
	case "identifier refused":
		t.change(func(f *Figures) { f.Protected++ })
	case "audience entered":
		t.audience(subject, func(a *AudienceFigures) { a.Entered++; a.Members++ })
	case "audience exited":
		t.audience(subject, func(a *AudienceFigures) { a.Left++; a.Members-- })
	}
}
