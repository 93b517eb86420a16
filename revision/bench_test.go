package revision_test

import (
	"testing"

	"kith/internal/sim/rowtest"
	"kith/kv/memkv"
)

// BenchmarkUnmerge parts a profile of 50,000 events, with three audiences over
// them, and reports how long it takes until it is swapped and told. The rest of
// the space comes in between its events, four to one.
func BenchmarkUnmerge(b *testing.B) {
	const events = 50_000
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, memkv.New())
		w.audience("buyers", buyers)
		w.audience("recent", `event('Bought').within(2 days).count() >= 1`)
		w.audience("gold", `trait('tier') = 'gold'`)
		w.send("track Login user_id:u anonymous_id:a")
		ours := [2]rowtest.Call{call(b, "track Bought user_id:u"), call(b, "track Seen anonymous_id:a")}
		other := call(b, "track Seen user_id:other")
		for range events / 100 {
			var block []rowtest.Call
			for i := range 100 {
				block = append(block, ours[i%2], other, other, other, other)
			}
			w.row.Send(block...)
		}
		b.StartTimer()
		w.order(separate("user_id:u", "anonymous_id:a"))
		b.StopTimer()
		b.ReportMetric(float64(w.longest.Load())/1e6, "ms-loop-held")
		w.expectPeople("anonymous_id:a", "user_id:other", "user_id:u")
		w.stop()
		w.start() // what the clean-up stops
		b.StartTimer()
	}
}
