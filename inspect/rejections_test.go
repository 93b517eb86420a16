package inspect

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// running opens the rejections of db and runs them until the returned function
// is called.
func running(t *testing.T, db kv.DB, c clock.Clock) (*Rejections, func()) {
	t.Helper()
	r, err := OpenRejections(t.Context(), db, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func list(t *testing.T, r *Rejections, source, cursor string, limit int) ([]Rejection, string) {
	t.Helper()
	page, next, err := r.List(t.Context(), source, cursor, limit)
	if err != nil {
		t.Fatal(err)
	}
	return page, next
}

func TestRejectionsPage(t *testing.T) {
	r, stop := running(t, memkv.New(), clock.NewManual(start))
	defer stop()
	for i := range 5 {
		r.Reject(Rejection{Source: "web", At: start, Code: "no_user_id", Message: fmt.Sprint("m", i)})
	}
	r.Reject(Rejection{Source: "web2", At: start, Message: "another source"})
	var seen []string
	for cursor, more := "", true; more; more = cursor != "" {
		var page []Rejection
		page, cursor = list(t, r, "web", cursor, 2)
		for _, x := range page {
			seen = append(seen, x.Message)
		}
		seen = append(seen, "|")
	}
	if got := fmt.Sprint(seen); got != "[m4 m3 | m2 m1 | m0 |]" {
		t.Errorf("pages %s", got)
	}
	if _, _, err := r.List(t.Context(), "web", "!", 0); !fault.Is(err, fault.Invalid) {
		t.Errorf("a wrong cursor gives %v", err)
	}
}

func TestRejectionsOutliveARestart(t *testing.T) {
	db := memkv.New()
	r, stop := running(t, db, clock.NewManual(start))
	r.Reject(Rejection{Source: "web", At: start, Message: "first"})
	stop()
	r, stop = running(t, db, clock.NewManual(start))
	defer stop()
	r.Reject(Rejection{Source: "web", At: start, Message: "second"})
	page, _ := list(t, r, "web", "", 0)
	if len(page) != 2 || page[0].Message != "second" || page[1].Message != "first" {
		t.Errorf("after the restart: %+v", page)
	}
}

func TestRejectionsOfASourceAreBounded(t *testing.T) {
	r, stop := running(t, memkv.New(), clock.NewManual(start))
	defer stop()
	for i := range PerSource + 30 {
		r.Reject(Rejection{Source: "web", At: start, Message: fmt.Sprint(i)})
		if i%500 == 0 {
			list(t, r, "web", "", 1) // lets the writer keep up
		}
	}
	n, oldest, cursor := 0, "", ""
	for {
		var page []Rejection
		page, cursor = list(t, r, "web", cursor, 200)
		n += len(page)
		oldest = page[len(page)-1].Message
		if cursor == "" {
			break
		}
	}
	if n != PerSource || oldest != "30" {
		t.Errorf("%d are kept, the oldest is %s", n, oldest)
	}
}

func TestRejectionsExpire(t *testing.T) {
	c := clock.NewManual(start)
	r, stop := running(t, memkv.New(), c)
	defer stop()
	r.Reject(Rejection{Source: "web", At: start, Message: "old"})
	r.Reject(Rejection{Source: "web", At: start.Add(time.Minute), Message: "newer"})
	list(t, r, "web", "", 0)
	c.Set(start.Add(KeptFor - sweepEvery)) // at the next sweep it would be older than it may be
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil { // the sweep runs beside us, woken by the clock
		if page, _ := list(t, r, "web", "", 0); len(page) == 1 && page[0].Message == "newer" {
			return
		}
	}
	t.Fatal("the old one is still there")
}

func TestRejectionBodiesAreCut(t *testing.T) {
	r, stop := running(t, memkv.New(), clock.NewManual(start))
	defer stop()
	r.Reject(Rejection{Source: "web", Body: strings.Repeat("é", maxBody)})
	r.Reject(Rejection{Source: "web", Body: "\xff{}"})
	page, _ := list(t, r, "web", "", 0)
	if x := page[1]; len(x.Body) > maxBody || !x.Truncated || strings.ContainsRune(x.Body, '\uFFFD') {
		t.Errorf("%d bytes, truncated %v", len(x.Body), x.Truncated)
	}
	if page[0].Body != "\uFFFD{}" {
		t.Errorf("body %q", page[0].Body)
	}
}

// A warning is kept like a rejection, and counted as none.
func TestWarnings(t *testing.T) {
	r, stop := running(t, memkv.New(), clock.NewManual(start))
	defer stop()
	r.Reject(Rejection{Source: "web", At: start, Code: "timestamp_unreadable", Warning: true})
	if len(r.pending) > 0 {
		t.Errorf("counted %v", r.pending)
	}
	if page, _ := list(t, r, "web", "", 10); len(page) != 1 || !page[0].Warning || page[0].Count != 1 {
		t.Errorf("listed %+v", page)
	}
}
