package delivery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"kith/commitlog"
	"kith/delivery"
	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// summed adds up what the ledger says of a time, as Status.Counts does.
func (w *world) summed(id string, from, to time.Time) (c delivery.Counts) {
	w.t.Helper()
	err := w.d.Sums(context.Background(), id, from, to, func(_ time.Time, o delivery.Outcome, n uint64) {
		switch o.State {
		case delivery.StateDelivered:
			c.Delivered += n
		case delivery.StateDead:
			c.Dead += n
		case delivery.StateWaiting:
			c.Waiting += n
		case delivery.StateFiltered:
			c.Filtered[o.Gate] += n
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestLedger sends all kinds of outputs to a destination that fails by chance
// and whose subscriptions change, with restarts, crashes and dead letters that
// are sent again; at every step the ledger agrees with all else that is kept.
func TestLedger(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { keepLedger(t, seed) })
	}
}

func keepLedger(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t)
	w.limits = delivery.Limits{MaxBehind: 20, MaxAge: time.Minute, MaxPending: 200, MaxWaiting: 300}
	c := newChaos(t, seed)
	d := &scripted{send: c.send, batching: destination.Batching{Size: 1}}
	if seed%2 == 1 {
		d.batching = destination.Batching{Size: 20, MaxAge: 50 * time.Millisecond, Whole: true}
	}
	w.conns = []destination.Connector{d.connector(4)}
	configure := func() {
		w.destination("dst", "scripted", "{}", func(dest *workspace.Destination) {
			for i := range seed % 4 {
				dest.Subscriptions = append(dest.Subscriptions, workspace.Subscription{
					ID: fmt.Sprint("sub", i), ActionID: "send", Enabled: random.IntN(3) > 0, Trigger: fmt.Sprintf(`properties.kind >= %d`, i),
				})
			}
		})
	}
	configure()
	w.run()
	sent := map[int]int{}
	body := func(more string) (byte, string) {
		who := random.IntN(30)
		sent[who]++
		return byte(who + 1), fmt.Sprintf(`{"who":%d,"n":%d,"properties":{"kind":%d}%s}`, who, sent[who], random.IntN(4), more)
	}
	output := func() pipeline.Output {
		switch random.IntN(12) {
		case 0:
			p, b := body("")
			return w.eventOf(p, "src_2", b)
		case 1:
			return w.event(body(`,"integrations":{"All":false}`))
		case 2:
			return w.event(body(`,"_metadata":{"bundledIds":["dst"]}`))
		case 3, 4:
			return pipeline.Output{At: w.clock.Now().UnixMilli(), Change: &pipeline.Change{Kind: pipeline.TraitChanged}}
		case 5:
			p, b := body("")
			o := message(p, "dst", b)
			o.At = w.clock.Now().UnixMilli()
			return o
		case 6:
			return message(1, "another", "{}")
		}
		return w.event(body(""))
	}
	for range 60 {
		switch random.IntN(12) {
		case 0:
			w.restart()
		case 1:
			w.crash(random.IntN(w.db.AtRisk()+1), func() { w.audit("dst") })
		case 2, 3:
			w.advance(time.Duration(random.IntN(50_000)) * time.Millisecond)
		case 4:
			configure()
		case 5:
			if _, _, err := w.d.Resend(context.Background(), "dst", nil); err != nil {
				t.Fatal(err)
			}
		default:
			var outputs []pipeline.Output
			for range random.IntN(250) {
				outputs = append(outputs, output())
			}
			if len(outputs) > 0 {
				w.append(1, outputs...)
			}
		}
		w.audit("dst")
	}
	w.finish()
	w.audit("dst")
	counts := w.status("dst").Counts
	sums := w.summed("dst", time.Unix(0, 0), w.clock.Now().Add(time.Hour))
	sums.Attempts, sums.Failures = counts.Attempts, counts.Failures
	if sums != counts {
		t.Errorf("the ledger sums up to %+v, counted are %+v", sums, counts)
	}
	if counts.Delivered == 0 || counts.Dead == 0 || counts.Filtered[delivery.GateSource] == 0 || counts.Filtered[delivery.GateIntegrations] == 0 || counts.Filtered[delivery.GateClient] == 0 {
		t.Errorf("too little has happened: %+v", counts)
	}
	for at := range w.resolved(1).End() {
		trail, err := w.d.Trail(context.Background(), "dst", 1, at)
		if err != nil || trail.Unknown || trail.Open || trail.Behind > 0 {
			t.Fatalf("output %d: %+v, %v", at, trail, err)
		}
	}
	if w.resolved(1).End() < 1500 {
		t.Errorf("only %d outputs", w.resolved(1).End())
	}
}

// trail returns what became of an output at dst, in short.
func (w *world) trail(at commitlog.Offset) string {
	w.t.Helper()
	t, err := w.d.Trail(context.Background(), "dst", 1, at)
	if err != nil {
		w.t.Fatal(err)
	}
	var words []string
	switch {
	case t.Behind > 0:
		words = append(words, fmt.Sprint("behind ", t.Behind))
	case t.Unknown:
		words = append(words, "unknown")
	case t.Open:
		words = append(words, "open")
	}
	for _, s := range t.Steps {
		text := s.Subscription + " " + s.State.String()
		if s.State == delivery.StateFiltered {
			text += " " + s.Gate.String()
		}
		if s.Attempts > 0 {
			text += fmt.Sprintf(" attempts %d", s.Attempts)
		}
		if s.Code != "" {
			text += " " + s.Code
		}
		if s.Reason != "" {
			text += fmt.Sprintf(" (%d: %s)", s.Tries, s.Reason)
		}
		if !s.Due.IsZero() {
			text += " due"
		}
		if s.Letter != "" {
			text += " letter"
		}
		words = append(words, strings.TrimSpace(text))
	}
	return strings.Join(words, "; ")
}

func TestTrail(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		switch {
		case strings.Contains(r.events[0], "bad"):
			return 400, nil
		case strings.Contains(r.events[0], "later"):
			return 503, nil
		}
		return 200, nil
	})
	w.append(1, w.event(1, `{}`)) // before the destination
	w.destination("dst", "webhook", s.settings(""), func(d *workspace.Destination) {
		for _, name := range []string{"order", "visit"} {
			d.Subscriptions = append(d.Subscriptions, workspace.Subscription{
				ID: name, ActionID: webhookAction(t), Enabled: true, Trigger: fmt.Sprintf(`properties.%s = true`, name),
			})
		}
	})
	w.run()
	wants := []string{
		"unknown",
		"order delivered attempts 1",
		"order delivered attempts 1; visit delivered attempts 1",
		"filtered trigger",
		"filtered integrations",
		"filtered client",
		"filtered source",
		"",
		"order waiting (1: the server answered 503 Service Unavailable) due",
		"order waiting",
		"order dead attempts 1 400 (1: the server answered 400 Bad Request) letter",
		"delivered attempts 1",
	}
	w.append(1,
		w.event(1, `{"properties":{"order":true}}`),
		w.event(1, `{"properties":{"order":true,"visit":true}}`),
		w.event(1, `{"properties":{}}`),
		w.event(1, `{"properties":{"order":true},"integrations":{"Webhook":false}}`),
		w.event(1, `{"properties":{"order":true},"_metadata":{"bundled":["Webhook"],"unbundled":[]}}`),
		w.eventOf(1, "src_2", `{"properties":{"order":true}}`),
		pipeline.Output{At: w.clock.Now().UnixMilli(), Profile: person(1), Change: &pipeline.Change{Kind: pipeline.ProfileCreated}},
		w.event(2, `{"properties":{"order":true,"later":1}}`),
	)
	w.settle()
	w.append(1, w.event(2, `{"properties":{"order":true}}`), w.event(3, `{"properties":{"order":true,"bad":1}}`), message(4, "dst", `{}`))
	w.settle()
	for at, want := range wants {
		if got := w.trail(commitlog.Offset(at)); got != want {
			t.Errorf("output %d: %q, want %q", at, got, want)
		}
	}
	w.audit("dst")

	// What failed, with samples.
	failures, err := w.d.Failures(context.Background(), "dst")
	if err != nil || len(failures) != 2 {
		t.Fatalf("%+v, %v", failures, err)
	}
	for _, f := range failures {
		body, err := w.d.FailureBody(context.Background(), &f.List[0])
		if err != nil || len(f.List) != 1 || f.Code == "400" != strings.Contains(string(body), "bad") {
			t.Errorf("%+v of %s, %v", f, body, err)
		}
	}

	// It recovers, and the dead letter is sent again.
	s.status(200)
	if n, _, err := w.d.Resend(context.Background(), "dst", nil); n != 1 || err != nil {
		t.Fatalf("sent again %d, %v", n, err)
	}
	w.finish()
	for at, want := range map[int]string{8: "order delivered attempts 2", 9: "order delivered attempts 1", 10: "order delivered attempts 2"} {
		if got := w.trail(commitlog.Offset(at)); got != want {
			t.Errorf("output %d: %q, want %q", at, got, want)
		}
	}
	w.audit("dst")

	// A destination that stands still has not read what comes.
	w.destination("dst", "webhook", s.settings(""), func(d *workspace.Destination) { d.Enabled = false })
	w.settle()
	w.append(1, w.event(1, `{}`), w.event(1, `{}`))
	if got := w.trail(13); got != "behind 2" {
		t.Errorf("behind: %q", got)
	}
	if got, err := w.d.Trail(context.Background(), "never", 1, 0); err != nil || !got.Unknown {
		t.Errorf("a destination that is not there: %+v, %v", got, err)
	}
}

// webhookAction is the id of the webhook's action.
func webhookAction(t *testing.T) string {
	t.Helper()
	w := newWorld(t)
	return w.conns[0].Spec.Actions[0].ID
}

func TestSumsByTime(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":500}`))
	w.run()
	// Three hours, forty events a minute, in blocks that follow no such line.
	const hours, each = 3, 40
	var outputs []pipeline.Output
	for m := range hours * 60 {
		at := start.Add(time.Duration(m) * time.Minute)
		for i := range each {
			o := w.event(byte(i+1), `{}`)
			o.At = at.Add(time.Duration(i) * time.Second).UnixMilli()
			o.Event.Name = fmt.Sprint("E", i%4)
			outputs = append(outputs, o)
		}
	}
	for len(outputs) > 0 {
		n := min(len(outputs), 333)
		w.append(1, outputs[:n]...)
		outputs = outputs[n:]
	}
	w.settle()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, test := range []struct {
		from, to time.Duration
		minutes  uint64
	}{
		{0, 3 * time.Hour, 180}, {0, time.Minute, 1}, {time.Hour, 2 * time.Hour, 60}, {179 * time.Minute, 5 * time.Hour, 1},
		{-time.Hour, 0, 0}, {4 * time.Hour, 5 * time.Hour, 0}, {90*time.Minute + 30*time.Second, 91*time.Minute + 30*time.Second, 2},
	} {
		if got := w.summed("dst", at(test.from), at(test.to)).Delivered; got != test.minutes*each {
			t.Errorf("%v to %v: %d delivered, want %d", test.from, test.to, got, test.minutes*each)
		}
	}
	names := map[string]int{}
	err := w.d.SumsByOutput(t.Context(), "dst", at(time.Hour), at(2*time.Hour), func(m time.Time, _ delivery.Outcome, o *pipeline.Output) {
		if o.At < m.UnixMilli() || o.At >= m.Add(time.Minute).UnixMilli() {
			t.Fatalf("an output of %v in the minute %v", time.UnixMilli(o.At).UTC(), m)
		}
		names[o.Event.Name]++
	})
	if err != nil || len(names) != 4 || names["E0"] != 600 {
		t.Errorf("by name: %v, %v", names, err)
	}
	// 7,200 outputs in eight blocks, of few bytes.
	n, bytes := w.stored(kv.WorkspaceKey('d').String("dst").Byte('l'))
	if n != 8 || bytes > 1500 {
		t.Errorf("%d blocks of the ledger, %d bytes", n, bytes)
	}
}

// stored returns how many keys there are under a prefix, and the bytes of keys
// and values.
func (w *world) stored(prefix kv.Key) (n, bytes int) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(prefix)) {
			if err != nil {
				return err
			}
			n, bytes = n+1, bytes+len(pair.Key)+len(pair.Value)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n, bytes
}

func TestLedgerExpires(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], "bad") {
			return 400, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"bad":1}`))
	for range 30 {
		var outputs []pipeline.Output
		for range 100 {
			outputs = append(outputs, w.event(1, `{}`))
		}
		w.append(1, outputs...)
		w.settle()
	}
	// What a destination answered may hold something of a person: it is gone
	// within the week, not at the first look after it.
	const week = 7 * 24 * time.Hour
	w.advance(week - 30*time.Minute)
	if n, _ := w.stored(kv.WorkspaceKey('d').String("dst").Byte('f')); n != 0 {
		t.Errorf("%d kinds of failures after a week", n)
	}
	w.advance(29*24*time.Hour - week)
	if n, _ := w.stored(kv.WorkspaceKey('d').String("dst").Byte('l')); n != 3 {
		t.Fatalf("%d blocks after 29 days", n)
	}
	w.append(1, w.event(1, `{}`))
	w.advance(3 * 24 * time.Hour)
	if n, _ := w.stored(kv.WorkspaceKey('d').String("dst").Byte('l')); n != 1 {
		t.Errorf("%d blocks after 32 days, of which one is younger", n)
	}
	w.counts("dst", 3001, 0, 1, 0)
	if got := w.trail(1); got != "unknown" {
		t.Errorf("an output whose time is over: %q", got)
	}
	// What has left the ledger can still be sent again.
	s.status(200)
	if n, _, err := w.d.Resend(context.Background(), "dst", nil); n != 1 || err != nil {
		t.Fatalf("sent again %d, %v", n, err)
	}
	w.finish()
	w.counts("dst", 3002, 0, 0, 0)
	if err := w.d.SumsByOutput(t.Context(), "nobody", start, start.Add(time.Hour), nil); err != nil && !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
