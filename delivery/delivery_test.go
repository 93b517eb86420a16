package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/delivery"
	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

func TestEventsAndMessages(t *testing.T) {
	w := newWorld(t)
	a, b := w.sink(), w.sink()
	w.destination("dst_a", "webhook", a.settings(""))
	w.destination("dst_b", "webhook", b.settings(""), func(d *workspace.Destination) { d.SourceID = "" })
	w.run()
	w.append(1,
		w.event(1, `{"n":1, "x":1.10}`),
		pipeline.Output{At: 1, Profile: person(1), Change: &pipeline.Change{Kind: pipeline.ProfileCreated}},
		message(1, "dst_b", `{"n":2}`),
		w.eventOf(1, "src_2", `{"n":3}`),
		message(1, "dst_a", `{"n":4}`),
		w.event(1, `{"n":5}`),
		message(1, "dst_gone", `{"n":6}`),
	)
	w.settle()
	a.expect(t, `{"n":1, "x":1.10}`, `{"n":4}`, `{"n":5}`)
	b.expect(t, `{"n":2}`)
	w.counts("dst_a", 3, 1, 0, 0)
	w.counts("dst_b", 1, 3, 0, 0)
	if n := w.status("dst_a").Counts.Filtered[delivery.GateSource]; n != 1 {
		t.Errorf("%d kept back because of their source, want 1", n)
	}
	if s := w.status("dst_a"); s.Backlog != 0 || s.Pending != 0 || s.InFlight != 0 || s.Problem != "" || s.LastSuccess.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestGates(t *testing.T) {
	for body, want := range map[string]bool{
		`{"type":"track"}`:                                                    true,
		`{"type":"track","integrations":{}}`:                                  true,
		`{"type":"track","integrations":{"All":true}}`:                        true,
		`{"type":"track","integrations":{"All":false}}`:                       false,
		`{"type":"track","integrations":{"Webhook":false}}`:                   false,
		`{"type":"track","integrations":{"Webhooks":false}}`:                  false,
		`{"type":"track","integrations":{"webhook":false}}`:                   false,
		`{"type":"track","integrations":{"WEBHOOK":false}}`:                   true,
		`{"type":"track","integrations":{"All":false,"Webhook":true}}`:        true,
		`{"type":"track","integrations":{"Webhook":{"a":1},"All":false}}`:     true,
		`{"type":"track","integrations":{"All":true,"Webhook":false}}`:        false,
		`{"type":"track","integrations":{"All":false,"Mixpanel":true}}`:       false,
		`{"type":"track","integrations":{"Mixpanel":false}}`:                  true,
		`{"type":"track","integrations":{"All":null}}`:                        true,
		`{"type":"track","integrations":"none"}`:                              true,
		`{"type":"track","integrations":null,"properties":{"All":false}}`:     true,
		`{"type":"track","properties":{"integrations":{"All":false}}}`:        true,
		`{"type":"track","integrations":{"All":false,"nested":{"All":true}}}`: false,
	} {
		w := newWorld(t)
		s := w.sink()
		w.destination("dst", "webhook", s.settings(""))
		w.run()
		w.append(1, w.event(1, body))
		w.settle()
		if got := len(s.got()) == 1; got != want {
			t.Errorf("%s: delivered %v, want %v", body, got, want)
		}
		if n := w.status("dst").Counts.Filtered[delivery.GateIntegrations]; (n == 1) == want {
			t.Errorf("%s: %d kept back", body, n)
		}
		w.stop()
	}
}

func subscribe(list ...workspace.Subscription) func(*workspace.Destination) {
	return func(d *workspace.Destination) {
		d.Subscriptions = list
		for i := range d.Subscriptions {
			d.Subscriptions[i].ActionID, d.Subscriptions[i].ActionSlug = "send", "send"
		}
	}
}

func TestSubscriptions(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	w.destination("dst", "webhook", s.settings(""), subscribe(
		workspace.Subscription{ID: "1", Enabled: true, Trigger: `type = "track"`},
		workspace.Subscription{ID: "2", Enabled: true, Trigger: `event = "Order Completed"`},
		workspace.Subscription{ID: "3", Enabled: false, Trigger: `type = "page"`},
		workspace.Subscription{ID: "4", Enabled: true, Trigger: `type = "unclosed`},
	))
	w.run()
	order, track, page := `{"type":"track","event":"Order Completed"}`, `{"type":"track","event":"x"}`, `{"type":"page"}`
	w.append(1, w.event(1, order), w.event(1, track), w.event(1, page), message(1, "dst", `{"type":"identify"}`))
	w.settle()
	s.expect(t, order, order, track, `{"type":"identify"}`)
	w.counts("dst", 4, 1, 0, 0)
	if n := w.status("dst").Counts.Filtered[delivery.GateTrigger]; n != 1 {
		t.Errorf("%d kept back by triggers, want 1", n)
	}

	// With subscriptions that are all off, nothing goes; a change holds at once.
	w.destination("dst", "webhook", s.settings(""), subscribe(workspace.Subscription{ID: "3", Enabled: false, Trigger: `type = "page"`}))
	w.settle()
	w.append(1, w.event(1, page))
	w.settle()
	w.destination("dst", "webhook", s.settings(""), subscribe(workspace.Subscription{ID: "3", Enabled: true, Trigger: `type = "page"`}))
	w.settle()
	w.append(1, w.event(1, page))
	w.settle()
	s.expect(t, order, order, track, `{"type":"identify"}`, page)
	w.counts("dst", 5, 2, 0, 0)
}

func TestGatesAreAskedAtEveryAttempt(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	pages := subscribe(workspace.Subscription{ID: "1", Enabled: true, Trigger: `type = "page"`})
	w.destination("dst", "webhook", s.settings(""), pages)
	w.run()
	w.append(1, w.event(1, `{"type":"page","n":1}`), w.event(1, `{"type":"page","n":2}`), w.event(2, `{"type":"page","n":3}`))
	w.settle()
	w.counts("dst", 0, 0, 0, 3)
	s.status(200)
	w.destination("dst", "webhook", s.settings(""), subscribe(workspace.Subscription{ID: "1", Enabled: true, Trigger: `type = "page" and n = "x"`}),
		func(d *workspace.Destination) { d.Subscriptions[0].Trigger = `type = "track"` })
	w.finish()
	s.expect(t)
	w.counts("dst", 0, 3, 0, 0)
}

func TestRetryKeepsOrder(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	fails := 3
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], `"bad"`) && fails > 0 {
			fails--
			return 500, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`), w.event(1, `{"bad":2}`), w.event(1, `{"n":3}`), w.event(2, `{"n":4}`), w.event(1, `{"n":5}`))
	w.settle()
	got := s.got()
	slices.Sort(got)
	if want := []string{`{"n":1}`, `{"n":4}`}; !slices.Equal(got, want) {
		t.Errorf("before the retry: %q, want %q", got, want)
	}
	w.counts("dst", 2, 0, 0, 3)
	due, ok := w.d.NextDue()
	if wait := due.Sub(start); !ok || wait < 750*time.Millisecond || wait > 1250*time.Millisecond {
		t.Errorf("the first retry is due after %v", wait)
	}
	if f := w.status("dst").LastFailure; !strings.HasPrefix(f, "the server answered 500") {
		t.Errorf("last failure %q", f)
	}
	w.append(1, w.event(1, `{"n":6}`), w.event(2, `{"n":7}`))
	w.advance(time.Minute)
	var one []string
	for _, e := range s.got() {
		if e != `{"n":4}` && e != `{"n":7}` {
			one = append(one, e)
		}
	}
	if want := []string{`{"n":1}`, `{"bad":2}`, `{"n":3}`, `{"n":5}`, `{"n":6}`}; !slices.Equal(one, want) {
		t.Errorf("profile 1 got %q, want %q", one, want)
	}
	w.counts("dst", 7, 0, 0, 0)
	if c := w.status("dst").Counts; c.Attempts != 10 || c.Failures != 3 {
		t.Errorf("%d attempts, %d failures; want 10, 3", c.Attempts, c.Failures)
	}
	if n := w.keys(kv.WorkspaceKey('d')); n != 4 { // a cursor, the numbers, a block of the ledger, one kind of failure
		t.Errorf("%d keys are left", n)
	}
}

func TestRetryAfter(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(request) (int, map[string]string) { return 429, map[string]string{"Retry-After": "120"} })
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{}`))
	w.settle()
	if due, ok := w.d.NextDue(); !ok || due.Sub(start) != 2*time.Minute {
		t.Errorf("due after %v", due.Sub(start))
	}
	w.advance(2*time.Minute - time.Millisecond)
	if n := len(s.seen()); n != 1 {
		t.Errorf("%d requests before the time, want 1", n)
	}
	s.answers(func(request) (int, map[string]string) { return 429, map[string]string{"Retry-After": "99999999"} })
	w.advance(time.Millisecond)
	if due, ok := w.d.NextDue(); !ok || due.Sub(start) != 4*time.Hour {
		t.Errorf("a time beyond the age limit: due after %v, want 4h: the last try", due.Sub(start))
	}
	w.finish()
	w.counts("dst", 0, 0, 1, 0)
}

func TestBackoffAndAge(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(500)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`), w.event(1, `{"n":2}`))
	w.settle()
	s.answers(func(r request) (int, map[string]string) {
		if r.events[0] == `{"n":2}` {
			return 200, nil
		}
		return 500, nil
	})
	w.finish()
	s.expect(t, `{"n":2}`)
	w.counts("dst", 1, 0, 1, 0)
	var gaps []time.Duration
	seen := s.seen()
	for i := 1; i < len(seen)-1; i++ {
		gaps = append(gaps, seen[i].at.Sub(seen[i-1].at))
	}
	if len(gaps) < 15 || len(gaps) > 40 {
		t.Errorf("%d retries in 4 h: %v", len(gaps), gaps)
	}
	for i, g := range gaps {
		if g > 19*time.Minute || i < 10 && g > 2*time.Second<<i {
			t.Errorf("retry %d waits %v", i+1, g)
		}
	}
	if last := seen[len(seen)-2].at.Sub(start); last != 4*time.Hour {
		t.Errorf("the last try is after %v, want 4h", last)
	}
	dead, err := w.d.DeadLetters(context.Background(), "dst", "", 10, false)
	if err != nil || len(dead) != 1 {
		t.Fatalf("%v, %v", dead, err)
	}
	if d := dead[0]; d.Attempts != len(gaps)+1 || !strings.Contains(d.Reason, "given up after") || !strings.Contains(d.Reason, "answered 500") ||
		!d.FirstTried.Equal(start) || d.At.Sub(start) != 4*time.Hour || d.Profile != person(1) || d.Output.Event.MessageID != "m0" || d.State != delivery.Dead {
		t.Errorf("dead letter %+v", d)
	}
}

func TestPermanentIsDeadAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], "bad") {
			return 404, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`), w.event(1, `{"bad":2}`), w.event(1, `{"n":3}`))
	w.settle()
	s.expect(t, `{"n":1}`, `{"n":3}`)
	w.counts("dst", 2, 0, 1, 0)
}

func TestBoundBehind(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxBehind = 10
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if r.events[0] == `{"n":0}` {
			return 503, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	var want []string
	w.append(1, w.event(1, `{"n":0}`))
	for i := 1; i <= 10; i++ {
		w.append(1, w.event(1, fmt.Sprintf(`{"n":%d}`, i)))
		want = append(want, fmt.Sprintf(`{"n":%d}`, i))
	}
	w.settle()
	s.expect(t)
	w.counts("dst", 0, 0, 0, 11)
	w.append(1, w.event(1, `{"n":11}`))
	w.settle()
	s.expect(t, append(want, `{"n":11}`)...)
	w.counts("dst", 11, 0, 1, 0)
	dead, err := w.d.DeadLetters(context.Background(), "dst", "", 10, false)
	if err != nil || len(dead) != 1 || !strings.HasPrefix(dead[0].Reason, "11 later events of its profile waited behind it; the server answered 503") {
		t.Errorf("%+v, %v", dead, err)
	}
}

func TestDefaultBoundIsAThousand(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":500}`))
	w.run()
	outputs := func(n int) (list []pipeline.Output) {
		for range n {
			list = append(list, w.event(1, `{}`))
		}
		return list
	}
	w.append(1, outputs(1001)...)
	w.settle()
	w.counts("dst", 0, 0, 0, 1001)
	w.append(1, outputs(1)...)
	w.settle()
	w.counts("dst", 0, 0, 1, 1001)
}

func TestPoisonHoldsNobodyElse(t *testing.T) {
	for _, c := range []struct {
		name, batch string
		code        int
	}{{"single", "", 500}, {"batch 500", `,"batch":{"size":50,"maxAgeMs":1000}`, 500}, {"batch 400", `,"batch":{"size":50,"maxAgeMs":1000}`, 400}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.sink()
			s.answers(func(r request) (int, map[string]string) {
				if slices.ContainsFunc(r.events, func(e string) bool { return strings.Contains(e, "poison") }) {
					return c.code, nil
				}
				return 200, nil
			})
			w.destination("dst", "webhook", s.settings(c.batch))
			w.run()
			var outputs []pipeline.Output
			for i := range 100 {
				outputs = append(outputs, w.event(byte(1+i), fmt.Sprintf(`{"n":%d}`, i)))
			}
			outputs = slices.Insert(outputs, 60, w.event(101, `{"poison":1}`))
			w.append(1, outputs...)
			if c.code == 400 {
				w.settle() // found without waiting
			} else {
				w.advance(30 * time.Second)
			}
			got := s.got()
			if len(got) != 100 {
				t.Errorf("%d of 100 other events have arrived", len(got))
			}
			if n := len(s.seen()); n > 130 {
				t.Errorf("%d requests", n)
			}
			w.finish()
			w.counts("dst", 100, 0, 1, 0)
		})
	}
}

func TestWrongCredentialsAreNotLookedForInEvents(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(401)
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":100}`))
	w.run()
	var outputs []pipeline.Output
	for i := range 100 {
		outputs = append(outputs, w.event(byte(1+i), `{}`))
	}
	w.append(1, outputs...)
	w.settle()
	w.counts("dst", 0, 0, 100, 0)
	if n := len(s.seen()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestBatches(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	w.destination("dst", "webhook", s.settings(`,"batch":{"size":3,"maxAgeMs":5000,"maxBytes":1024}`))
	w.run()
	sizes := func() (sizes []int) {
		for _, r := range s.seen() {
			sizes = append(sizes, len(r.events))
		}
		return sizes
	}
	expect := func(when string, want ...int) {
		t.Helper()
		w.eventually(when+fmt.Sprint(sizes(), want), func() bool { return slices.Equal(sizes(), want) && w.status("dst").InFlight == 0 })
	}
	// By size: several events of one profile in their order, too.
	w.append(1, w.event(1, `{"n":1}`), w.event(1, `{"n":2}`), w.event(2, `{"n":3}`), w.event(1, `{"n":4}`))
	expect("by size", 3)
	// By age, on the injected clock.
	w.clock.Set(start.Add(4999 * time.Millisecond))
	w.append(1, w.event(3, `{"n":5}`))
	w.eventually("both are read", func() bool { return w.status("dst").Pending == 2 })
	expect("before the age", 3)
	w.clock.Set(start.Add(5 * time.Second))
	expect("by age", 3, 2)
	// By bytes, and a large one alone.
	big, large := fmt.Sprintf(`{"big":%q}`, strings.Repeat("x", 600)), fmt.Sprintf(`{"large":%q}`, strings.Repeat("x", 3000))
	w.append(1, w.event(1, big), w.event(2, big), w.event(3, large))
	w.settle()
	expect("by bytes", 3, 2, 1, 1, 1)
	if got := s.got(); !slices.Equal(got[:5], []string{`{"n":1}`, `{"n":2}`, `{"n":4}`, `{"n":3}`, `{"n":5}`}) {
		t.Errorf("got %q", got[:5])
	}
}

func TestDeadLettersAndResend(t *testing.T) {
	for _, batch := range []string{"", `,"batch":{"size":10}`} {
		w := newWorld(t)
		ctx := context.Background()
		s := w.sink()
		s.status(403)
		w.destination("dst", "webhook", s.settings(batch))
		w.run()
		var outputs []pipeline.Output
		for i := range 5 {
			outputs = append(outputs, w.event(byte(1+i%2), fmt.Sprintf(`{"n":%d}`, i)))
		}
		w.append(1, append(outputs, message(3, "dst", `{"message":1}`))...)
		w.settle()
		w.counts("dst", 0, 0, 6, 0)

		// Pages, newest first.
		var all []delivery.DeadLetter
		for after := ""; ; {
			page, err := w.d.DeadLetters(ctx, "dst", after, 4, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
			after = page[len(page)-1].ID
		}
		if len(all) != 6 || all[0].Output.Message == nil || all[5].Offset != 0 {
			t.Fatalf("%d dead letters: %+v", len(all), all)
		}
		if body, err := w.d.Body(ctx, &all[5]); err != nil || string(body) != `{"n":0}` {
			t.Errorf("body %s, %v", body, err)
		}
		if body, err := w.d.Body(ctx, &all[0]); err != nil || string(body) != `{"message":1}` {
			t.Errorf("body %s, %v", body, err)
		}

		// Sent again and refused again: still a dead letter, the same one.
		before := len(s.seen())
		if n, more, err := w.d.Resend(ctx, "dst", []string{all[5].ID, all[5].ID}); n != 1 || more || err != nil {
			t.Fatalf("Resend: %d, %v, %v", n, more, err)
		}
		w.settle()
		again := s.seen()[before:]
		if len(again) != 1 || len(again[0].events) != 1 || again[0].header.Get("X-Kith-Resent") != "true" {
			t.Errorf("sent again as %+v", again)
		}
		w.counts("dst", 0, 0, 6, 0)
		one, err := w.d.DeadLetters(ctx, "dst", all[4].ID, 1, false)
		if err != nil || len(one) != 1 || one[0].ID != all[5].ID || one[0].Attempts != 2 || one[0].ResentAt.IsZero() || one[0].State != delivery.Dead {
			t.Errorf("after the second failure: %+v, %v", one, err)
		}

		// Sent again while the sink is down: it waits, over a restart too, and
		// what comes after it waits behind it. Then it arrives.
		s.status(503)
		if n, _, err := w.d.Resend(ctx, "dst", []string{all[5].ID}); n != 1 || err != nil {
			t.Fatalf("Resend: %d, %v", n, err)
		}
		w.settle()
		w.counts("dst", 0, 0, 5, 1)
		if n, _, err := w.d.Resend(ctx, "dst", []string{all[5].ID}); n != 0 || err != nil {
			t.Errorf("sent again twice: %d, %v", n, err)
		}
		w.append(1, w.event(1, `{"later":1}`))
		w.restart()
		w.settle()
		w.counts("dst", 0, 0, 5, 2)
		s.status(200)
		before = len(s.seen())
		w.finish()
		w.counts("dst", 2, 0, 5, 0)
		s.expect(t, `{"n":0}`, `{"later":1}`)
		for i, r := range s.seen()[before:] {
			if got := r.header.Get("X-Kith-Resent"); (got == "true") != (i == 0) || len(r.events) != 1 {
				t.Errorf("request %d: X-Kith-Resent %q, %q", i, got, r.events)
			}
		}
		open, err := w.d.DeadLetters(ctx, "dst", "", 10, false)
		if err != nil || len(open) != 5 {
			t.Errorf("%d open dead letters, %v", len(open), err)
		}
		whole, err := w.d.DeadLetters(ctx, "dst", "", 10, true)
		if err != nil || len(whole) != 6 || whole[5].State != delivery.Redelivered {
			t.Errorf("with those delivered: %+v, %v", whole, err)
		}

		// All that are left.
		before = len(s.seen())
		if n, more, err := w.d.Resend(ctx, "dst", nil); n != 5 || more || err != nil {
			t.Fatalf("Resend all: %d, %v, %v", n, more, err)
		}
		w.settle()
		w.counts("dst", 7, 0, 0, 0)
		for _, r := range s.seen()[before:] {
			if len(r.events) != 1 || r.header.Get("X-Kith-Resent") != "true" {
				t.Errorf("request %+v", r)
			}
		}
		if n, more, err := w.d.Resend(ctx, "dst", nil); n != 0 || more || err != nil {
			t.Errorf("none left: %d, %v, %v", n, more, err)
		}

		for id, kind := range map[string]fault.Kind{"x": fault.Invalid, "": fault.Invalid, strings.Repeat("A", 5000): fault.Invalid} {
			if _, _, err := w.d.Resend(ctx, "dst", []string{id}); !fault.Is(err, kind) {
				t.Errorf("id %.10q: %v", id, err)
			}
		}
		w.remove("dst")
		w.settle()
		if _, _, err := w.d.Resend(ctx, "dst", []string{all[5].ID}); !fault.Is(err, fault.NotFound) {
			t.Errorf("removed destination: %v", err)
		}
		w.stop()
		if _, _, err := w.d.Resend(ctx, "dst", nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("stopped: %v", err)
		}
	}
}

func TestResendIsDurable(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(403)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{}`))
	w.settle()
	w.restart() // which makes the dead letter durable
	s.status(503)
	if n, _, err := w.d.Resend(context.Background(), "dst", nil); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.crash(0, func() {})
	w.settle()
	w.counts("dst", 0, 0, 0, 1)
	if dead, err := w.d.DeadLetters(context.Background(), "dst", "", 1, false); err != nil || len(dead) != 1 || dead[0].State != delivery.Resending {
		t.Errorf("%+v, %v", dead, err)
	}
}

func TestResendUnknown(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(403)
	w.destination("dst", "webhook", s.settings(""))
	w.destination("other", "webhook", s.settings(""), func(d *workspace.Destination) { d.SourceID = "" })
	w.run()
	w.append(1, w.event(1, `{}`))
	w.settle()
	dead, err := w.d.DeadLetters(context.Background(), "dst", "", 1, false)
	if err != nil || len(dead) != 1 {
		t.Fatal(dead, err)
	}
	if _, _, err := w.d.Resend(context.Background(), "other", []string{dead[0].ID}); !fault.Is(err, fault.NotFound) {
		t.Errorf("another destination's dead letter: %v", err)
	}
	// A gate that does not let it pass any more leaves it where it is.
	w.destination("dst", "webhook", s.settings(""), func(d *workspace.Destination) { d.SourceID = "src_9" })
	w.settle()
	if n, _, err := w.d.Resend(context.Background(), "dst", []string{dead[0].ID}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.settle()
	w.counts("dst", 0, 0, 1, 0)
	dead, err = w.d.DeadLetters(context.Background(), "dst", "", 1, false)
	if err != nil || len(dead) != 1 || !strings.Contains(dead[0].Reason, `kept back by the gate "source"`) {
		t.Errorf("%+v, %v", dead, err)
	}
}

func TestRestart(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		if strings.Contains(r.events[0], "wait") {
			return 503, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`), w.event(1, `{"wait":2}`), w.event(1, `{"n":3}`), w.event(2, `{"n":4}`))
	w.settle()
	w.counts("dst", 2, 0, 0, 2)
	due, _ := w.d.NextDue()
	w.stop()
	w.append(1, w.event(2, `{"n":5}`), w.event(1, `{"n":6}`))
	w.run()
	w.settle()
	w.counts("dst", 3, 0, 0, 3)
	if again, ok := w.d.NextDue(); !ok || !again.Equal(due) {
		t.Errorf("the retry is due %v, was %v before the restart", again, due)
	}
	before := len(s.seen())
	w.restart()
	w.settle()
	if n := len(s.seen()) - before; n != 0 {
		t.Errorf("%d requests were repeated after a clean restart", n)
	}
	s.status(200)
	w.finish()
	w.counts("dst", 6, 0, 0, 0)
	var one []string
	for _, e := range s.got() {
		if e != `{"n":4}` && e != `{"n":5}` {
			one = append(one, e)
		}
	}
	if want := []string{`{"n":1}`, `{"wait":2}`, `{"n":3}`, `{"n":6}`}; !slices.Equal(one, want) {
		t.Errorf("profile 1 got %q, want %q", one, want)
	}
}

func TestHangingDestinationHoldsNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.limits.Grace = time.Millisecond
	release := make(chan struct{})
	hanging, fine := w.sink(), w.sink()
	t.Cleanup(func() { close(release) })
	hanging.answers(func(request) (int, map[string]string) { <-release; return 200, nil })
	w.destination("dst_1", "webhook", hanging.settings(""))
	w.destination("dst_2", "webhook", fine.settings(""))
	w.run()
	for i := range 300 {
		w.append(1, w.event(byte(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	w.eventually("the other destination has everything", func() bool { return len(fine.got()) == 300 })
	w.eventually("requests are bounded", func() bool { return w.status("dst_1").InFlight == 16 })
}

func TestLiveConfiguration(t *testing.T) {
	w := newWorld(t)
	a, b := w.sink(), w.sink()
	w.destination("dst", "webhook", a.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`))
	w.settle()
	// Disabled: it stands still, and goes on where it stood.
	w.destination("dst", "webhook", a.settings(""), func(d *workspace.Destination) { d.Enabled = false })
	w.settle()
	w.append(1, w.event(1, `{"n":2}`))
	w.settle()
	a.expect(t, `{"n":1}`)
	if s := w.status("dst"); s.Problem != "it is disabled" || s.Backlog != 1 {
		t.Errorf("status %+v", s)
	}
	w.destination("dst", "webhook", b.settings(""))
	w.settle()
	b.expect(t, `{"n":2}`)
	// Settings that cannot be used stop it, and are said.
	for settings, problem := range map[string]string{
		`{"url":""}`:   "it cannot be opened: url",
		`"unreadable"`: "its secrets cannot be read",
	} {
		w.destination("dst", "webhook", settings)
		w.settle()
		if s := w.status("dst"); !strings.HasPrefix(s.Problem, problem) {
			t.Errorf("problem %q, want %q", s.Problem, problem)
		}
	}
	w.destination("dst", "nothing", "{}")
	w.settle()
	if s := w.status("dst"); !strings.Contains(s.Problem, `no destination "nothing"`) {
		t.Errorf("problem %q", s.Problem)
	}
	w.append(1, w.event(1, `{"n":3}`))
	w.destination("dst", "webhook", b.settings(""))
	w.settle()
	b.expect(t, `{"n":2}`, `{"n":3}`)
	w.counts("dst", 3, 0, 0, 0)
	// What waits is tried at once when somebody has mended the destination.
	b.status(503)
	w.append(1, w.event(1, `{"n":4}`))
	w.settle()
	w.counts("dst", 3, 0, 0, 1)
	w.destination("dst", "webhook", a.settings(""))
	w.settle()
	a.expect(t, `{"n":1}`, `{"n":4}`)
	// Removed: nothing is left.
	w.remove("dst")
	w.settle()
	w.eventually("nothing is kept of it", func() bool { return w.keys(kv.WorkspaceKey('d')) == 0 })
}

func TestRemovedWhileStopped(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	for _, id := range []string{"dst_1", "dst_2", "dst_3"} {
		w.destination(id, "webhook", s.settings(""))
	}
	w.run()
	w.append(1, w.event(1, `{}`))
	w.settle()
	w.stop()
	w.remove("dst_1")
	w.remove("dst_3")
	w.run()
	w.eventually("nothing is kept of those removed", func() bool {
		return w.keys(kv.WorkspaceKey('d').String("dst_1")) == 0 && w.keys(kv.WorkspaceKey('d').String("dst_3")) == 0
	})
	if n := w.keys(kv.WorkspaceKey('d').String("dst_2")); n != 5 { // an output that waits beside them
		t.Errorf("%d keys of the destination that stays", n)
	}
}

func TestNewDestinationBeginsAtTheEnd(t *testing.T) {
	w := newWorld(t)
	s, other := w.sink(), w.sink()
	w.run()
	w.append(1, w.event(1, `{"n":1}`))
	w.destination("dst", "webhook", s.settings(""))
	w.settle()
	w.append(1, w.event(1, `{"n":2}`))
	w.settle()
	s.expect(t, `{"n":2}`)

	// With Begin it begins where the log ends at that moment, even if its
	// worker starts later.
	next := w.conf.draft(func(snap *workspace.Snapshot) {
		d := snap.Destinations[0]
		d.ID, d.Settings = "dst_2", []byte(other.settings(""))
		snap.Destinations = append(snap.Destinations, d)
	})
	if err := w.d.Begin(context.Background(), next); err != nil {
		t.Fatal(err)
	}
	w.append(1, w.event(1, `{"n":3}`))
	if err := w.d.Begin(context.Background(), next); err != nil {
		t.Fatal(err)
	}
	w.conf.make(next)
	w.settle()
	other.expect(t, `{"n":3}`)
	s.expect(t, `{"n":2}`, `{"n":3}`)

	// What Begin has written stays when delivery starts, although the
	// configuration does not know of the destination yet.
	w.stop()
	third := w.sink()
	next = w.conf.draft(func(snap *workspace.Snapshot) {
		d := snap.Destinations[0]
		d.ID, d.Settings = "dst_3", []byte(third.settings(""))
		snap.Destinations = append(snap.Destinations, d)
	})
	w.runAfter(func(d *delivery.Delivery) {
		if err := d.Begin(context.Background(), next); err != nil {
			t.Fatal(err)
		}
	})
	w.append(1, w.event(1, `{"n":"3b"}`))
	w.settle()
	w.conf.make(next)
	w.settle()
	third.expect(t, `{"n":"3b"}`)

	// A space that is newer than the destination is read from its beginning.
	next = w.conf.draft(func(snap *workspace.Snapshot) {
		snap.Spaces = append(snap.Spaces, workspace.Space{ID: "spa_2", Number: 2, Slug: "second"})
	})
	w.openLog(2)
	w.append(2, w.event(1, `{"n":4}`))
	w.conf.make(next)
	w.settle()
	s.expect(t, `{"n":2}`, `{"n":3}`, `{"n":"3b"}`, `{"n":4}`)
	w.counts("dst", 4, 0, 0, 0)
}

func TestEventsThatAreGone(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	gone, waits := w.event(1, `{"n":1}`), w.event(2, `{"n":2}`)
	w.bodies.forget(gone.Event.Offset)
	w.append(1, gone, waits)
	w.settle()
	w.counts("dst", 0, 1, 0, 1)
	w.bodies.forget(waits.Event.Offset)
	w.finish()
	w.counts("dst", 0, 2, 0, 0)
	if n := w.status("dst").Counts.Filtered[delivery.GateGone]; n != 2 {
		t.Errorf("%d gone", n)
	}
}

func TestArchiveFails(t *testing.T) {
	w := newWorld(t)
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`))
	w.settle()
	s.status(200)
	w.bodies.failWith(fault.New(fault.Internal, "the disk is on fire"))
	due, _ := w.d.NextDue()
	w.clock.Set(due)
	w.eventually("the retry is put off", func() bool { again, ok := w.d.NextDue(); return ok && again.After(due) })
	w.append(1, w.event(2, `{"n":2}`))
	w.bodies.failWith(nil)
	w.clock.Set(due.Add(5 * time.Second))
	w.eventually("both have arrived", func() bool { return len(s.got()) == 2 })
	w.finish()
	w.counts("dst", 2, 0, 0, 0)
}

func TestTap(t *testing.T) {
	w := newWorld(t)
	var got []string
	w.tap = func(reports []delivery.Report) {
		for _, r := range reports {
			got = append(got, fmt.Sprintf("%s %v %d %v %s %v", r.Destination, r.Status, r.Attempts, r.Resent, r.Body, r.Output != nil))
		}
	}
	s := w.sink()
	s.status(503)
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{"n":1}`))
	w.settle()
	s.status(404)
	w.finish()
	s.status(200)
	if _, _, err := w.d.Resend(context.Background(), "dst", nil); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.stop()
	want := []string{`dst retry 1 false {"n":1} true`, `dst permanent 2 false {"n":1} true`, `dst delivered 3 true {"n":1} true`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestResendAll sends more dead letters again than one request takes, at a
// destination that refuses them at once: each goes out once more, not for ever.
func TestResendAll(t *testing.T) {
	w := newWorld(t)
	refuses := &scripted{batching: destination.Batching{Size: 100}, send: func(_ context.Context, items []destination.Item) []destination.Outcome {
		return destination.All(len(items), destination.Outcome{Status: destination.Permanent, Reason: "no"})
	}}
	w.conns = append(w.conns, refuses.connector(4))
	w.destination("dst", "scripted", `{}`)
	w.run()
	const n = 2*delivery.MaxResendPage + 100
	for at := 0; at < n; at += 300 {
		var outputs []pipeline.Output
		for range 300 {
			outputs = append(outputs, w.event(0, `{}`))
		}
		w.append(1, outputs...)
	}
	w.settle()
	w.counts("dst", 0, 0, n, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if sent, err := w.d.ResendAll(ctx, "dst"); sent != n || err != nil {
		t.Errorf("sent %d again, of %d: %v", sent, n, err)
	}
	w.settle()
	w.counts("dst", 0, 0, n, 0)
	w.audit("dst")
}

func TestEgressRefusal(t *testing.T) {
	w := newWorld(t)
	w.destination("dst", "webhook", `{"url":"http://127.0.0.2:9/hook?key=s3cret"}`)
	w.run()
	w.append(1, w.event(1, `{}`))
	w.settle()
	dead, err := w.d.DeadLetters(context.Background(), "dst", "", 1, false)
	if err != nil || len(dead) != 1 || !strings.Contains(dead[0].Reason, "--egress-allow 127.0.0.2/32") || strings.Contains(dead[0].Reason, "s3cret") {
		t.Errorf("%+v, %v", dead, err)
	}
}

// scripted is a destination in memory that does as it is told.
type scripted struct {
	batching destination.Batching
	send     func(ctx context.Context, batch []destination.Item) []destination.Outcome
}

func (s *scripted) Send(ctx context.Context, b []destination.Item) []destination.Outcome {
	return s.send(ctx, b)
}
func (s *scripted) Batching() destination.Batching { return s.batching }
func (s *scripted) Close() error                   { return nil }

func (s *scripted) connector(concurrency int) destination.Connector {
	return destination.Connector{
		Spec: destination.Spec{ID: "scripted", Slug: "scripted", Actions: []destination.Action{{ID: "send", Slug: "send"}},
			Limits: destination.Limits{Concurrency: concurrency, Timeout: 10 * time.Second}},
		Open: func(json.RawMessage, destination.Env) (destination.Destination, error) { return s, nil },
	}
}
