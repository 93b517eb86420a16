package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// scaling builds a store of many people and events, and measures it at three
// sizes on the way. It keeps its folder: what was interrupted goes on where it
// stopped, since every batch is the same whenever it is made, and what is sent
// twice is a duplicate.
type scaling struct {
	*bench
	dir       string
	events    int // in all
	audiences int

	state scaleState
	line  *line
}

// scaleState is what is kept beside the data directory.
type scaleState struct {
	People  int     `json:"people"`
	Events  int     `json:"events"`
	Key     string  `json:"key"`     // of the source
	Sink    string  `json:"sink"`    // its address, which the destination has
	Batches int     `json:"batches"` // that are acknowledged, all from the first on
	Empty   float64 `json:"empty"`   // events a second into the empty store
	Extra   int     `json:"extra"`   // events that were sent to measure, beside the batches
	Written int64   `json:"written"` // bytes by processes that have ended
	Sizes   []sized `json:"sizes"`
}

// sized are the figures at one size.
type sized struct {
	Events  int           `json:"events"`
	All     int           `json:"all"`   // events, those sent to measure among them
	Rate    float64       `json:"rate"`  // events a second, all the way through the row
	Disk    int64         `json:"disk"`  // bytes
	Wrote   int64         `json:"wrote"` // bytes
	RSS     int64         `json:"rss"`
	Reads   float64       `json:"reads"` // a second, beside 5,000 events/s
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	Start   time.Duration `json:"start"` // from the start of the process to ready
	FirstIn time.Duration `json:"first"` // from ready to the first answer of the Profile API
}

const scaleBatch = 100

// scale is the scenario.
func (b *bench) scale(ctx context.Context) error {
	if b.scaleDir == "" {
		return errors.New("name the folder that keeps the store with -dir")
	}
	s := &scaling{bench: b, dir: b.scaleDir, events: b.scaleEvents, audiences: b.scaleAudiences}
	fmt.Printf("scale: %d people, %d events in batches of %d, %d audiences, in %s\n", b.people, s.events, scaleBatch, s.audiences, s.dir)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() { s.shut() }()
	if s.state.Empty == 0 {
		rate, err := s.rate(ctx)
		if err != nil {
			return err
		}
		s.state.Empty = rate
	}
	for _, size := range []int{s.events / 10, s.events / 3, s.events} {
		if slices.ContainsFunc(s.state.Sizes, func(z sized) bool { return z.Events == size }) {
			continue
		}
		if err := s.grow(ctx, size); err != nil {
			return err
		}
		if err := s.measure(ctx, size); err != nil {
			return err
		}
	}
	s.report()
	return nil
}

func (s *scaling) file() string { return filepath.Join(s.dir, "scale.json") }

// load reads the state, and refuses to mix two sizes in one folder.
func (s *scaling) load() error {
	text, err := os.ReadFile(s.file())
	if errors.Is(err, os.ErrNotExist) {
		s.state = scaleState{People: s.people, Events: s.events}
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s.state)
	}
	if err == nil && (s.state.People != s.people || s.state.Events != s.events) {
		err = fmt.Errorf("%s is of %d people and %d events: name another folder with -dir, or remove this one", s.dir, s.state.People, s.state.Events)
	}
	return err
}

func (s *scaling) save() error {
	text, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file()+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.file()+".new", s.file())
}

// open starts the server over the folder, and declares what is needed once.
func (s *scaling) open(ctx context.Context) error {
	s.line = &line{key: s.state.Key}
	var err error
	if s.state.Sink == "" {
		if s.state.Sink, err = freeAddress(); err != nil {
			return err
		}
	}
	if s.line.sink, err = sinkAt(s.state.Sink); err != nil {
		return fmt.Errorf("the sink: %w (somebody else listens there: try again later)", err)
	}
	if s.line.kith, err = start(ctx, s.binary, s.dir); err != nil {
		s.line.sink.close()
		return err
	}
	if s.state.Key != "" {
		return nil
	}
	source, key, err := s.line.source()
	if err != nil {
		return err
	}
	destination, err := s.line.webhook(source, s.line.sink.url, 500, 100)
	if err != nil {
		return err
	}
	for i := range s.audiences {
		days := []int{1, 30, 365}[i/len(names)%3]
		query := fmt.Sprintf("event('%s').within(%d days).count() >= %d", names[i%len(names)], days, 1+i/len(names))
		if err := s.line.audience(fmt.Sprintf("Audience %d", i), query, destination); err != nil {
			return err
		}
	}
	s.line.key, s.state.Key = key, key
	return s.save()
}

// shut stops the server, and keeps count of what it wrote.
func (s *scaling) shut() {
	if s.line == nil {
		return
	}
	if u, err := s.line.usage(); err == nil {
		s.state.Written += u.written
	}
	s.line.close()
	s.line = nil
	if err := s.save(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: keep the state:", err)
	}
}

// batch is the body of batch n, the same whenever it is made but for the instants.
// Each event is about somebody on one of two devices. People
// come at random, so that nearly every event meets a profile that no cache
// holds; a device is often seen before its person has said who they are.
func (s *scaling) batch(n int, now time.Time) string {
	random := rand.New(rand.NewPCG(uint64(n), 17))
	// The events lie in the last 90 days, in order.
	at := now.Add(-90*24*time.Hour + time.Duration(float64(n)/float64(max(1, s.events/scaleBatch))*90*24*float64(time.Hour)))
	var b strings.Builder
	b.Grow(1100 * scaleBatch)
	b.WriteString(`{"batch":[`)
	for i := range scaleBatch {
		if i > 0 {
			b.WriteByte(',')
		}
		person := random.IntN(s.people)
		fmt.Fprintf(&b, `{"messageId":"scale-%d-%d","anonymousId":"device-%08d-%d","timestamp":"%s",`, n, i, person, random.IntN(2), at.Format("2006-01-02T15:04:05.000Z"))
		user := ""
		if random.IntN(10) < 7 {
			user = fmt.Sprintf(`"userId":"user-%08d",`, person)
		}
		switch k := random.IntN(10); {
		case k == 0:
			fmt.Fprintf(&b, `"type":"identify","userId":"user-%08d","traits":{"email":"guest%d@example.com","firstName":"Jo","plan":"gold","lifetime_value":%d},`, person, person, random.IntN(2000))
		case k < 3:
			fmt.Fprintf(&b, `"type":"page",%s"name":"Room","properties":{"path":"/rooms/sea-view-double","room":%d},`, user, random.IntN(400))
		default:
			fmt.Fprintf(&b, `"type":"track",%s"event":%q,"properties":{"booking_value":%d.%02d,"currency":"EUR","nights":%d,"room_type":"double","products":[{"product_id":"p%d","price":%d,"quantity":1}]},`,
				user, names[random.IntN(len(names))], random.IntN(900), random.IntN(100), 1+random.IntN(9), random.IntN(500), random.IntN(300))
		}
		b.WriteString(page)
		b.WriteByte('}')
	}
	b.WriteString("]}")
	return b.String()
}

// grow sends the batches up to a size, and waits until the row and the sink
// have had them.
func (s *scaling) grow(ctx context.Context, size int) error {
	const connections = 16
	total := size / scaleBatch
	if s.state.Batches >= total {
		return nil
	}
	began, first := time.Now(), s.state.Batches
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	next, done := s.state.Batches, map[int]bool{}
	var failed error
	var wg sync.WaitGroup
	saved, said := time.Now(), time.Now()
	sent := func(n int) error { // holds mu
		done[n] = true
		for done[s.state.Batches] {
			delete(done, s.state.Batches)
			s.state.Batches++
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			fmt.Fprintf(os.Stderr, "\r  %d of %d events, %.0f/s   ", s.state.Batches*scaleBatch, s.events, float64((s.state.Batches-first)*scaleBatch)/time.Since(began).Seconds())
		}
		if time.Since(saved) > 5*time.Second {
			saved = time.Now()
			return s.save()
		}
		return nil
	}
	for range connections {
		wg.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				stop := n >= total || failed != nil || ctx.Err() != nil
				mu.Unlock()
				if stop {
					return
				}
				err := s.line.send(ctx, client, s.line.key, s.batch(n, began))
				if err == nil {
					err = s.wait(ctx)
				}
				mu.Lock()
				if err == nil {
					err = sent(n)
				}
				if err != nil && failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Fprintln(os.Stderr)
	if err := errors.Join(failed, ctx.Err()); err != nil {
		return err
	}
	return s.line.drain(ctx, 0)
}

// maxBehind is how far the row may be behind.
const maxBehind = 500_000

// wait waits while the row is far behind: what is measured is the row, and not
// how much the disk holds.
func (s *scaling) wait(ctx context.Context) error {
	if rand.IntN(200) > 0 { // it is asked now and then
		return nil
	}
	for {
		behind, err := s.line.backlog()
		if err != nil || behind < maxBehind {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// measure takes the figures at a size: the rate of the row, the reads beside
// 5,000 events/s, what is on disk, and a restart.
func (s *scaling) measure(ctx context.Context, size int) error {
	z := sized{Events: size}
	var err error
	if z.Rate, err = s.rate(ctx); err != nil {
		return err
	}
	beside := load{base: s.line.base, key: s.line.key, batch: scaleBatch, connections: 4, people: s.people, rate: 5000}
	answers, written, err := s.readBeside(ctx, s.line.kith, beside, s.people)
	if err != nil {
		return err
	}
	s.state.Extra += written.accepted
	z.Reads, z.P50, z.P99 = answers.perSecond(), answers.percentile(.5), answers.percentile(.99)
	u, err := s.line.usage()
	if err != nil {
		return err
	}
	z.All = size + s.state.Extra
	z.RSS, z.Wrote = u.rss, s.state.Written+u.written
	s.shut()
	began := time.Now()
	if err := s.open(ctx); err != nil {
		return err
	}
	z.Start = time.Since(began)
	began = time.Now()
	if _, _, err := s.line.traits(ctx, http.DefaultClient, "user-00000000"); err != nil {
		return err
	}
	z.FirstIn = time.Since(began)
	if z.Disk, err = s.line.size(); err != nil {
		return err
	}
	s.state.Sizes = append(s.state.Sizes, z)
	return s.save()
}

// rate is how many events a second go through the whole line, from the first
// call until the sink has had the last.
func (s *scaling) rate(ctx context.Context) (float64, error) {
	began := time.Now()
	r, err := s.send(ctx, load{base: s.line.base, key: s.line.key, batch: scaleBatch, connections: 16, people: s.people})
	if err != nil {
		return 0, err
	}
	if err := s.line.drain(ctx, 0); err != nil {
		return 0, err
	}
	s.state.Extra += r.accepted
	return float64(r.accepted) / time.Since(began).Seconds(), nil
}

func (s *scaling) report() {
	row("the whole line on an empty store", "%8.0f events/s", s.state.Empty)
	for _, z := range s.state.Sizes {
		people := float64(min(z.Events, s.people)) // most have been seen
		fmt.Printf("  at %d events\n", z.Events)
		row("  the whole line", "%8.0f events/s, %.2f of the empty store", z.Rate, z.Rate/s.state.Empty)
		row("  /traits beside 5,000 events/s", "%8.0f a second; p50 %v p99 %v", z.Reads, ms(z.P50), ms(z.P99))
		row("  on disk", "%8.0f B an event, %.0f B a person; written %.0f B an event", float64(z.Disk)/float64(z.All), float64(z.Disk)/people, float64(z.Wrote)/float64(z.All))
		row("  memory", "%8.0f MB", float64(z.RSS)/1e6)
		row("  restart", "%8v to ready, %v to the first answer", z.Start.Round(time.Millisecond), ms(z.FirstIn))
	}
}
