package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/commitlog"
	"kith/delivery"
	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// numbered is an event that says whose it is and the how manyeth of theirs.
type numbered struct {
	Who int `json:"who"`
	N   int `json:"n"`
}

// chaos is a sink that answers by chance, and what was sent to it.
type chaos struct {
	t      *testing.T
	mu     sync.Mutex
	random *rand.Rand
	// taken is what arrived since the last crash, by person, in the order of
	// arrival.
	taken map[int][]int
	under map[int]bool
	times map[numbered]int
	calm  atomic.Bool
}

func newChaos(t *testing.T, seed uint64) *chaos {
	return &chaos{t: t, random: rand.New(rand.NewPCG(seed, 2)), taken: map[int][]int{}, under: map[int]bool{}, times: map[numbered]int{}}
}

// send checks that no person is in two requests at once.
func (c *chaos) send(_ context.Context, items []destination.Item) []destination.Outcome {
	var list []numbered
	for _, item := range items {
		var n numbered
		if err := json.Unmarshal(item.Body, &n); err != nil {
			c.t.Error(err)
		}
		list = append(list, n)
	}
	c.mu.Lock()
	here := map[int]bool{}
	for _, n := range list {
		if c.under[n.Who] && !here[n.Who] {
			c.t.Errorf("person %d is in two requests at once", n.Who)
		}
		here[n.Who], c.under[n.Who] = true, true
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for who := range here {
			delete(c.under, who)
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	dice := c.random.IntN(100)
	o := destination.Outcome{Status: destination.Delivered}
	switch {
	case c.calm.Load(), dice < 70:
	case dice < 92:
		o = destination.Outcome{Status: destination.Retry, Reason: "not now"}
	default:
		o = destination.Outcome{Status: destination.Permanent, Reason: "never", Regardless: dice > 96}
	}
	if o.Status == destination.Delivered {
		for _, n := range list {
			c.times[n]++
			c.taken[n.Who] = append(c.taken[n.Who], n.N)
		}
	}
	return destination.All(len(items), o)
}

// inOrder checks that everybody's events have arrived in their order since the
// last crash, and begins anew.
func (c *chaos) inOrder() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for who, taken := range c.taken {
		if !slices.IsSorted(taken) {
			c.t.Errorf("person %d: events arrived in the order %v", who, taken)
		}
	}
	clear(c.taken)
}

// TestAccounting sends events of many people through a destination that fails
// by chance, with restarts and crashes in between that lose lazy commits, and
// then accounts for every one: it has arrived or is a dead letter, the numbers
// say the same, and each person's events have first arrived in their order.
func TestAccounting(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { account(t, seed) })
	}
}

func account(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	w.limits = delivery.Limits{MaxBehind: 40, MaxAge: time.Minute, MaxPending: 50, MaxWaiting: 150}
	c := newChaos(t, seed)
	d := &scripted{send: c.send, batching: destination.Batching{Size: 1}}
	if seed%2 == 1 {
		d.batching = destination.Batching{Size: 20, MaxAge: 50 * time.Millisecond, Whole: true}
	}
	subscriptions := 1 + int(seed%3)
	w.conns = []destination.Connector{d.connector(4)}
	w.destination("dst", "scripted", "{}", func(dest *workspace.Destination) {
		for i := range subscriptions {
			dest.Subscriptions = append(dest.Subscriptions, workspace.Subscription{
				ID: fmt.Sprint("sub", i), ActionID: "send", Enabled: true, Trigger: `type != "other"`,
			})
		}
		if subscriptions == 1 {
			dest.Subscriptions = nil
		}
	})
	w.run()
	const people = 30
	sent := map[int]int{}
	total := 0
	for range 60 {
		switch random.IntN(10) {
		case 0:
			w.restart()
		case 1:
			w.crash(random.IntN(w.db.AtRisk()+1), func() {
				c.inOrder()
				w.audit("dst") // what a crash leaves agrees, wherever it comes
			})
		case 2, 3:
			w.advance(time.Duration(random.IntN(10_000)) * time.Millisecond)
		default:
			var outputs []pipeline.Output
			for range random.IntN(40) {
				who := random.IntN(people)
				if random.IntN(5) == 0 {
					who = 0 // one of them does a lot
				}
				outputs = append(outputs, w.event(byte(who+1), fmt.Sprintf(`{"who":%d,"n":%d}`, who, sent[who])))
				sent[who]++
				total++
			}
			if len(outputs) > 0 {
				w.append(1, outputs...)
			}
		}
		w.audit("dst")
	}
	w.finish()
	c.inOrder()
	w.audit("dst")
	counts := w.status("dst").Counts
	if got := counts.Accepted(); got != uint64(total*subscriptions) || counts.Waiting != 0 || counts.AllFiltered() != 0 {
		t.Errorf("accepted %d of %d: %+v", got, total*subscriptions, counts)
	}
	dead := map[numbered]int{}
	var letters []delivery.DeadLetter
	for after := ""; ; {
		page, err := w.d.DeadLetters(context.Background(), "dst", after, 100, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		letters = append(letters, page...)
		after = page[len(page)-1].ID
	}
	for i := range letters {
		body, err := w.d.Body(context.Background(), &letters[i])
		if err != nil {
			t.Fatal(err)
		}
		var n numbered
		if err := json.Unmarshal(body, &n); err != nil {
			t.Fatal(err)
		}
		dead[n]++
	}
	if uint64(len(letters)) != counts.Dead {
		t.Errorf("%d dead letters, counted %d", len(letters), counts.Dead)
	}
	if len(letters) == 0 || counts.Delivered == 0 {
		t.Errorf("nothing was delivered, or nothing failed: %+v", counts)
	}
	for who, n := range sent {
		for i := range n {
			// Each is delivered or dead for each subscription, and never less.
			e := numbered{who, i}
			if c.times[e]+dead[e] < subscriptions {
				t.Errorf("event %d of person %d: arrived %d times, %d dead letters", i, who, c.times[e], dead[e])
			}
		}
	}
	if n := w.keys(kv.WorkspaceKey('d').String("dst").Byte('w')); n != 0 {
		t.Errorf("%d waiting records are left", n)
	}

	// All dead letters sent again to a sink that takes them arrive.
	c.calm.Store(true)
	for more := true; more; {
		var err error
		if _, more, err = w.d.Resend(context.Background(), "dst", nil); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	w.finish()
	w.audit("dst")
	if counts = w.status("dst").Counts; counts.Delivered != uint64(total*subscriptions) || counts.Dead != 0 {
		t.Errorf("after sending all again: %+v, want %d delivered", counts, total*subscriptions)
	}
}

func TestStoreFails(t *testing.T) {
	var failing atomic.Bool
	var failures atomic.Int64
	w := newWorld(t)
	w.db = memkv.NewWith(memkv.Options{
		Fault: func(op string) error {
			if failing.Load() && (op == memkv.OpCommit || op == memkv.OpCommitted) && failures.Add(1)%3 == 0 {
				return errors.New("the disk said no")
			}
			return nil
		},
		Rerun: func(kv.Fence) bool { return failing.Load() },
	})
	w.openLogs()
	s := w.sink()
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	for i := range 50 {
		failing.Store(false) // what is appended is appended
		w.append(1, w.event(byte(i%5+1), fmt.Sprintf(`{"n":%d}`, i)))
		failing.Store(true)
		w.eventually("it has arrived", func() bool {
			w.clock.Set(w.clock.Now().Add(100 * time.Millisecond))
			return slices.Contains(s.got(), fmt.Sprintf(`{"n":%d}`, i))
		})
	}
	failing.Store(false)
	w.eventually("the session is back", func() bool {
		w.clock.Set(w.clock.Now().Add(time.Second))
		return w.status("dst").Problem == ""
	})
	w.finish()
	if failures.Load() < 10 {
		t.Errorf("the store failed only %d times", failures.Load()/3)
	}
	w.counts("dst", 50, 0, 0, 0)
}

func TestMaxWaitingStopsTheCursor(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxWaiting = 20
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	for i := range 100 {
		w.append(1, w.event(byte(i+1), fmt.Sprintf(`{"n":%d}`, i)))
	}
	w.settle()
	st := w.status("dst")
	if st.Counts.Waiting < 20 || st.Counts.Waiting > 40 || st.Backlog == 0 {
		t.Errorf("%d wait, backlog %d", st.Counts.Waiting, st.Backlog)
	}
	s.status(200)
	w.finish()
	w.counts("dst", 100, 0, 0, 0)
}

func TestHotProfileThatHangsLeavesRoomForOthers(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxPending = 10
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], "hot") {
			return 503, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"hot":0}`))
	w.settle()
	for i := range 200 {
		w.append(1, w.event(1, `{"hot":1}`), w.event(byte(2+i%100), fmt.Sprintf(`{"n":%d}`, i)))
	}
	w.settle()
	if n := len(s.got()); n != 200 {
		t.Errorf("%d of 200 others have arrived", n)
	}
	w.counts("dst", 200, 0, 0, 201)
}

// TestRetriesUnderWayKeepNothingAtHand: while the retry of a hot profile's
// event hangs, what comes after it does not fill the room for others.
func TestRetriesUnderWayKeepNothingAtHand(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxPending = 10
	s := w.sink()
	release, hangs := make(chan struct{}), atomic.Bool{}
	var tries atomic.Int64
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], "hot") {
			if tries.Add(1) > 1 {
				hangs.Store(true)
				<-release
			}
			return 503, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"hot":0}`))
	w.settle()
	due, _ := w.d.NextDue()
	w.clock.Set(due)
	w.eventually("the retry hangs", hangs.Load)
	for i := range 200 {
		w.append(1, w.event(1, `{"later":1}`), w.event(byte(2+i%100), fmt.Sprintf(`{"n":%d}`, i)))
	}
	w.eventually("others arrive", func() bool { return len(s.got()) == 200 })
	if n := w.status("dst").Counts.Failures; n != 1 {
		t.Errorf("others have waited until the retry had failed: %d failures", n)
	}
	close(release)
	w.settle()
	w.counts("dst", 200, 0, 0, 201)
}

func TestOutageIsNotMadeWorse(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":100}`))
	w.run()
	var outputs []pipeline.Output
	for i := range 1000 {
		o := w.event(1, `{}`)
		o.Profile[2], o.Profile[3] = byte(i), byte(i>>8)
		outputs = append(outputs, o)
	}
	w.append(1, outputs...)
	w.advance(12 * time.Second)
	w.counts("dst", 0, 0, 0, 1000)
	// Events that failed together are tried again together.
	c := w.status("dst").Counts
	if n := len(s.seen()); c.Attempts < 4000 || n > 300 {
		t.Errorf("%d requests for %d attempts", n, c.Attempts)
	}
	s.status(200)
	w.finish()
	w.counts("dst", 1000, 0, 0, 0)
}

func TestPoisonIsFoundWithoutOtherTraffic(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if slices.Contains(r.events, `{"poison":1}`) {
			return 500, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":100}`))
	w.run()
	var outputs []pipeline.Output
	for i := range 50 {
		outputs = append(outputs, w.event(byte(i+2), `{}`))
	}
	w.append(1, append(outputs, w.event(1, `{"poison":1}`))...)
	w.advance(10 * time.Minute)
	w.counts("dst", 50, 0, 0, 1)
}

func TestConnectorThatBreaksItsContract(t *testing.T) {
	w := newWorld(t)
	mode := atomic.Int64{}
	d := &scripted{batching: destination.Batching{Size: 5, Whole: true}, send: func(_ context.Context, items []destination.Item) []destination.Outcome {
		switch mode.Load() {
		case 0:
			panic("oh")
		case 1:
			return nil
		case 2:
			return destination.All(len(items)+1, destination.Outcome{Status: destination.Delivered})
		}
		return destination.All(len(items), destination.Outcome{Status: destination.Delivered})
	}}
	w.conns = []destination.Connector{d.connector(2)}
	w.destination("dst", "scripted", "{}")
	w.run()
	w.append(1, w.event(1, `{}`), w.event(2, `{}`))
	for m := range int64(3) {
		mode.Store(m)
		w.advance(10 * time.Second)
		w.counts("dst", 0, 0, 0, 2)
		if f := w.status("dst").LastFailure; !strings.HasPrefix(f, "internal: the connector") {
			t.Errorf("mode %d: last failure %q", m, f)
		}
	}
	mode.Store(3)
	w.finish()
	w.counts("dst", 2, 0, 0, 0)
}

func TestPartialFailure(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var batches [][]string
	d := &scripted{batching: destination.Batching{Size: 10}, send: func(_ context.Context, items []destination.Item) (out []destination.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		var batch []string
		for _, item := range items {
			o := destination.Outcome{Status: destination.Delivered}
			switch body := string(item.Body); {
			case strings.Contains(body, "later") && len(batches) < 2:
				o = destination.Outcome{Status: destination.Retry, Reason: "later", After: time.Second}
			case strings.Contains(body, "never"):
				o = destination.Outcome{Status: destination.Permanent, Reason: "never"}
			}
			batch = append(batch, string(item.Body))
			out = append(out, o)
		}
		batches = append(batches, batch)
		return out
	}}
	w.conns = []destination.Connector{d.connector(1)}
	w.destination("dst", "scripted", "{}")
	w.run()
	w.append(1, w.event(1, `{"later":1}`), w.event(1, `{"n":2}`), w.event(2, `{"never":3}`), w.event(2, `{"n":4}`), w.event(3, `{"n":5}`), w.event(0, `{"n":6}`), w.event(0, `{"n":7}`))
	w.settle()
	w.counts("dst", 4, 0, 1, 2)
	w.finish()
	w.counts("dst", 6, 0, 1, 0)
	want := [][]string{{`{"later":1}`, `{"never":3}`, `{"n":5}`, `{"n":6}`, `{"n":7}`}, {`{"n":4}`}, {`{"later":1}`}, {`{"n":2}`}}
	if fmt.Sprint(batches) != fmt.Sprint(want) {
		t.Errorf("batches\n  %v, want\n  %v", batches, want)
	}
}

func TestStopGivesGrace(t *testing.T) {
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	d := &scripted{batching: destination.Batching{Size: 1}, send: func(ctx context.Context, items []destination.Item) []destination.Outcome {
		close(entered)
		select {
		case <-release:
			return destination.All(1, destination.Outcome{Status: destination.Delivered})
		case <-ctx.Done():
			return destination.All(1, destination.Outcome{Reason: "interrupted"})
		}
	}}
	w.conns = []destination.Connector{d.connector(1)}
	w.destination("dst", "scripted", "{}")
	w.run()
	w.append(1, w.event(1, `{}`))
	<-entered
	go close(release)
	w.stop()
	w.db = w.db.Crash(0) // what a stop has written is on disk
	w.openLogs()
	w.conns = []destination.Connector{(&scripted{send: func(context.Context, []destination.Item) []destination.Outcome {
		t.Error("sent again after a clean stop")
		return nil
	}}).connector(1)}
	w.run()
	w.settle()
	w.counts("dst", 1, 0, 0, 0)
}

func TestSettledIsBounded(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	d := &scripted{batching: destination.Batching{Size: 1}, send: func(context.Context, []destination.Item) []destination.Outcome {
		<-release
		return destination.All(1, destination.Outcome{Status: destination.Delivered})
	}}
	w.conns = []destination.Connector{d.connector(1)}
	w.destination("dst", "scripted", "{}")
	w.run()
	w.append(1, w.event(1, `{}`))
	w.eventually("it is under way", func() bool { return w.status("dst").InFlight == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := w.d.Settled(ctx, map[uint32]commitlog.Offset{1: 1}); !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Settled: %v", err)
	}
	close(release)
	w.settle()
	w.counts("dst", 1, 0, 0, 0)
}

// BenchmarkWebhook is the way from the resolved log to a batching webhook on
// this machine. b.N counts events of 1 KB.
func BenchmarkWebhook(b *testing.B) {
	w := newWorld(b)
	var n atomic.Int64
	s := w.sink()
	s.Config.Handler = discard(&n)
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":500,"maxAgeMs":20}`))
	body := fmt.Sprintf(`{"type":"track","event":"Order Completed","messageId":"m","properties":{"text":%q}}`, strings.Repeat("x", 900))
	const block = 512
	for at := 0; at < b.N; at += block {
		var outputs []pipeline.Output
		for i := range min(block, b.N-at) {
			o := w.event(0, body)
			o.Profile = person(byte(1 + i%200))
			o.Profile[3], o.Profile[4] = byte(at>>9), byte(at>>17)
			outputs = append(outputs, o)
		}
		if at == 0 {
			w.run() // a new destination begins at the end
		}
		w.append(1, outputs...)
	}
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	w.settle()
	b.StopTimer()
	if got := n.Load(); got < 1 {
		b.Errorf("%d requests", got)
	}
	w.counts("dst", uint64(b.N), 0, 0, 0)
}
