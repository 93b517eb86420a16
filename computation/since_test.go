package computation

import (
	"testing"
	"time"

	"kith/archive"
	"kith/internal/sim/rowtest"
	"kith/pipeline"
	"kith/workspace"
)

// TestStatusSaysSinceWhen: what asks for events that were trimmed before its
// first computation says since when it counts, and one that counted them before
// does not.
func TestStatusSaysSinceWhen(t *testing.T) {
	w := newWorld(t, memory())
	audience := func(key, query string) workspace.Audience {
		return workspace.Audience{Key: key, Name: key, Enabled: true, Query: query}
	}
	w.declare(audience("early", "event('Booked').count() >= 1"))
	w.row.Send(rowtest.Call{Body: call("track", "u1", `"event":"Booked"`), Source: "web"})
	w.build()
	w.advance(24 * time.Hour)
	horizon := w.row.Clock.Now()
	err := w.row.Loop.Do(t.Context(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		return w.row.Archive.MoveHorizon(b, archive.Horizon{Offset: w.row.Loop.Position().Next, At: horizon.UnixMilli(), Moved: horizon.UnixMilli()})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(time.Hour)
	w.row.Send(rowtest.Call{Body: call("track", "u2", `"event":"Booked"`), Source: "web"})
	none, yesterday := false, 1
	fresh := audience("fresh", "event('Booked').where(property('x') = 1).count() = 0")
	fresh.Options.IncludeHistoricalData = &none
	back := audience("back", "event('Booked').sources(exclude: 'app').count() >= 1")
	back.Options.BackfillEventDataDays = &yesterday
	w.declare(
		audience("same", "event('Booked').count() >= 1 AND trait('x') = 1"),
		audience("whole", "event('Booked').where(property('x') = 2).count() = 0"),
		audience("window", "event('Booked').within(3 hours).count() >= 1"),
		audience("reader", "trait('x') = 1 OR trait('whole') = true"),
		fresh, back,
	)
	w.build()
	expect := func(want map[string]bool) {
		t.Helper()
		for key, since := range want {
			at := w.status(key).Since
			if since && at != horizon.UnixMilli() || !since && at != 0 {
				t.Errorf("%s counts since %d; the horizon is %d", key, at, horizon.UnixMilli())
			}
		}
	}
	expect(map[string]bool{
		"early": false, "same": false, "whole": true, "window": true, "reader": true, "fresh": false, "back": true,
	})
	if got := w.members("early"); len(got) != 2 {
		t.Errorf("members of early: %v", got)
	}
	if got := w.members("back"); len(got) != 1 || got[0] != "u2" {
		t.Errorf("members of back: %v", got)
	}
	w.advance(2 * time.Hour) // 3 hours behind the horizon
	expect(map[string]bool{"whole": true, "window": false, "reader": true, "back": true})
}
