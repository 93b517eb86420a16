package inspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/event"
	"kith/fault"
	"kith/kv/memkv"
	"kith/pipeline"
)

// TestDebuggerPagesThroughEverything lists what came and what was refused, page
// by page, while pages are small and filters vary, and compares it with a plain
// list.
func TestDebuggerPagesThroughEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	db := memkv.New()
	w := newWorld(t, db, Limits{})
	r, stop := running(t, db, clock.NewManual(start))
	defer stop()
	type entry struct {
		at                           int64
		id, user, event, stage, text string
	}
	var all []entry // oldest first
	at := start.UnixMilli()
	for n := range 60 {
		var calls []call
		for i := range 1 + rng.IntN(6) {
			at += int64(1 + rng.IntN(50))
			id, user, name := fmt.Sprint("m", n, "-", i), fmt.Sprint("u", rng.IntN(4)), fmt.Sprint("E", rng.IntN(3))
			c := call{body: fmt.Sprintf(`{"n":"<%d>"}`, rng.IntN(5)), head: event.Head{
				Kind: event.KindEvent, At: at, Time: at, Type: event.Track, Name: name, Source: "web", MessageID: id, ID: event.RecordID{byte(n), byte(i), 1},
				IDs: []event.Identifier{{Collection: event.Users, Type: "user_id", Value: user}},
			}}
			stage := Admitted
			switch rng.IntN(8) {
			case 0:
				c.head.Source = "other"
			case 1:
				c.head.Kind = event.KindTick
			case 2:
				c.verdict, stage = pipeline.Verdict{Code: pipeline.Blocked, Reason: "unplanned: x"}, Blocked
			}
			if c.head.Source == "web" && c.head.Kind == event.KindEvent {
				all = append(all, entry{at, id, user, name, string(stage), c.body})
			}
			calls = append(calls, c)
		}
		w.pass(1, 3, calls...)
		for range rng.IntN(3) {
			at += int64(1 + rng.IntN(50))
			id, user := fmt.Sprint("r", n), fmt.Sprint("u", rng.IntN(4))
			body := fmt.Sprintf(`{"userId":%q,"n":"<%d>"}`, user, rng.IntN(5))
			r.Reject(Rejection{Source: "web", At: time.UnixMilli(at), MessageID: id, Code: "event_not_defined", Type: "track", Body: body})
			all = append(all, entry{at, id, user, "", string(Rejected), body})
		}
	}
	slices.Reverse(all)
	for _, q := range []DebugQuery{
		{}, {ID: "u1"}, {ID: "m7-0"}, {Text: "<3>"}, {Event: "E1"}, {Stages: []Stage{Rejected}}, {Stages: []Stage{Blocked, Rejected}, Text: "<2>"}, {Stages: []Stage{Accepted}},
	} {
		for _, limit := range []int{1, 7, 200} {
			var want []string
			for _, e := range all {
				if (q.ID == "" || e.id == q.ID || e.user == q.ID) && strings.Contains(e.text, q.Text) && (q.Event == "" || e.event == q.Event) &&
					(q.Stages == nil || slices.Contains(q.Stages, Stage(e.stage))) {
					want = append(want, e.id+" "+e.stage)
				}
			}
			q.Space, q.Epoch, q.Source, q.Limit, q.Cursor = 1, 1, "web", limit, ""
			var got []string
			d := NewDebugger(w.archive, r)
			for {
				page, err := d.List(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.List {
					id := ""
					if e.Rejection != nil {
						id = e.Rejection.MessageID
					} else {
						id = e.Recent.Head.MessageID
					}
					got = append(got, id+" "+string(e.Stage))
				}
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
				if len(page.List) > limit || len(got) > len(all) {
					t.Fatalf("a page of %d, %d in all", len(page.List), len(got))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v by %d:\n%v, want\n%v", q, limit, got, want)
			}
		}
	}
	if _, err := NewDebugger(w.archive, r).List(t.Context(), DebugQuery{Space: 1, Cursor: "?"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a wrong cursor gives %v", err)
	}
}

func TestDebuggerShowsWhatHasNotPassed(t *testing.T) {
	db := memkv.New()
	w := newWorld(t, db, Limits{})
	r, stop := running(t, db, clock.NewManual(start))
	defer stop()
	head := event.Head{Kind: event.KindEvent, At: start.UnixMilli(), Type: event.Track, Source: "web", MessageID: "m"}
	if _, err := w.log(1).Append(t.Context(), event.EncodeBlock([]event.Record{{Head: head, Body: []byte(`{}`)}})); err != nil {
		t.Fatal(err)
	}
	page, err := NewDebugger(w.archive, r).List(t.Context(), DebugQuery{Space: 1, Epoch: 1, Source: "web", Limit: 10})
	if err != nil || len(page.List) != 1 || page.List[0].Stage != Accepted || string(page.List[0].Recent.Raw) != "{}" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestDebuggerGoesOnBehindItsBound(t *testing.T) {
	db := memkv.New()
	w := newWorld(t, db, Limits{})
	r, stop := running(t, db, clock.NewManual(start))
	defer stop()
	one := func(source string, n int) call {
		at := start.UnixMilli() + int64(n)
		return call{body: `{}`, head: event.Head{Kind: event.KindEvent, At: at, Time: at, Type: event.Track, Source: source, MessageID: fmt.Sprint(n)}}
	}
	w.pass(1, 10, one("web", 0))
	for n := 1; n <= maxLooked+500; n += 500 {
		var calls []call
		for i := range 500 {
			calls = append(calls, one("other", n+i))
		}
		w.pass(1, 500, calls...)
	}
	r.Reject(Rejection{Source: "web", At: start.Add(-time.Second), MessageID: "older"})
	q := DebugQuery{Space: 1, Epoch: 1, Source: "web", Limit: 10}
	d := NewDebugger(w.archive, r)
	page, err := d.List(t.Context(), q)
	if err != nil || len(page.List) != 0 || page.Next == "" {
		t.Fatalf("the first look: %+v, %v", page, err)
	}
	q.Cursor = page.Next
	page, err = d.List(t.Context(), q)
	if err != nil || len(page.List) != 2 || page.List[0].Recent == nil || page.List[1].Rejection == nil || page.Next != "" {
		t.Fatalf("the second look: %+v, %v", page, err)
	}
}

func TestWriteKeysAreMasked(t *testing.T) {
	for text, want := range map[string]string{
		`{"writeKey":"abcdefghijkl","x":"abcdefghijkl"}`: `{"writeKey":"abcd…","x":"abcd…"}`,
		`{"writeKey" : "unknown\"key-123","y":1}`:        `{"writeKey" : "unkn…","y":1}`,
		`{"writeKey":"cut off before its en`:             `{"writeKey":"cut …`,
		`{"writeKey":"","properties":{"writeKey":7}}`:    `{"writeKey":"","properties":{"writeKey":7}}`,
		`{"event":"nothing to hide"}`:                    `{"event":"nothing to hide"}`,
	} {
		if got := string(MaskKeys([]byte(text), []string{"abcdefghijkl", ""})); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
