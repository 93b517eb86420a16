package inspect

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"kith/event"
	"kith/kv"
	"kith/kv/pebblekv"
)

// processor returns the processor time that this process has taken: what counts
// where the machine does other things as well.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkObserver has an observer catch up with calls of 1 KB, decoding and
// commits included.
func BenchmarkObserver(b *testing.B) {
	for _, v := range []struct {
		name         string
		block, users int
	}{
		{"blocks of 200, 10,000 users", 200, 10_000},
		{"blocks of 200, every user new", 200, 1 << 30},
		{"blocks of 5, 10,000 users", 5, 10_000},
	} {
		b.Run(v.name, func(b *testing.B) {
			const calls = 60_000
			db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			w := newWorld(b, db, Limits{})
			at := start.UnixMilli()
			for n := 0; n < calls; n += v.block {
				var block []call
				for i := n; i < n+v.block; i++ {
					at++
					user := (i * 7919) % v.users
					h := event.Head{Kind: event.KindEvent, At: at, Time: at, Type: event.Track, Name: fmt.Sprint("Event ", i%40), Source: "web", MessageID: fmt.Sprint(i),
						IDs: []event.Identifier{{Collection: event.Users, Type: "user_id", Value: fmt.Sprint("guest-", user)},
							{Collection: event.Users, Type: "anonymous_id", Value: fmt.Sprint("0b9a0d0e-7a3c-4f0e-8e31-", user)}}}
					block = append(block, call{head: h, body: sampleCall(i, user)})
				}
				w.pass(1, 500, block...)
			}
			var busy time.Duration
			for b.Loop() {
				b.StopTimer()
				stem := kv.WorkspaceKey(room)
				if err := db.DeleteRange(context.Background(), stem, kv.PrefixEnd(stem)); err != nil {
					b.Fatal(err)
				}
				w.open(db)
				w.log(1)
				written := db.Stats().Written
				before := processor(b)
				b.StartTimer()
				w.catchUp()
				busy += processor(b) - before
				b.ReportMetric(float64(db.Stats().Written-written)/calls, "written-B/event")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/calls, "ns/event")
			b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/calls, "cpu-ns/event")
		})
	}
}
