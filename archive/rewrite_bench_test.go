package archive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/pebblekv"
	"kith/pipeline"
)

// BenchmarkRewrite goes through blocks on disk for 1,000 erased people, of whom
// nothing is in them: what nearly every block costs.
func BenchmarkRewrite(b *testing.B) {
	const blocks, perBlock = 2000, 500
	ctx := b.Context()
	db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	a := archive.New(db, func(uint32) (commitlog.Log, error) { return log, nil })
	filler := strings.Repeat(`"hotel":"Berlin","room":"double","price":120.5,"currency":"EUR",`, 12)
	for n := range blocks {
		block := make([]event.Record, perBlock)
		passed := make([]*pipeline.Record, perBlock)
		for i := range block {
			k := n*perBlock + i
			user := fmt.Sprintf("guest-%07d", k%200_000)
			head := event.Head{Kind: event.KindEvent, At: int64(k), Time: int64(k), Type: event.Track, Name: "Booking Completed", Source: "src_1", MessageID: fmt.Sprintf("node-%d", k),
				IDs: []event.Identifier{{Collection: event.Users, Type: "user_id", Value: user}}}
			head.ID[0], head.ID[5] = byte(k), byte(k>>8)
			block[i] = event.Record{Head: head, Body: fmt.Appendf(nil, `{"type":"track","event":"Booking Completed","userId":%q,"properties":{%s"n":%d}}`, user, filler, k)}
			passed[i] = &pipeline.Record{Head: head, Stamped: head.At, Offset: commitlog.Offset(k), Event: &event.Event{Type: event.Track}}
			passed[i].Profile[0], passed[i].Profile[1], passed[i].Profile[2], passed[i].Profile[3] = byte(k), byte(k>>8), byte(k>>16), 1
		}
		if _, err := log.Append(ctx, event.EncodeBlock(block)); err != nil {
			b.Fatal(err)
		}
		err := db.Update(ctx, pipeline.Fence(1, 1), kv.Lazy, func(tx kv.Tx) error {
			return a.Record(&pipeline.Batch{Live: true, Tx: tx, Space: 1, Epoch: 1}, passed)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	e := &archive.Erasure{Offset: blocks * perBlock, Epoch: 1}
	for i := range 1000 {
		e.Profiles = append(e.Profiles, event.ProfileID{byte(i), byte(i >> 8), 0, 2})
		e.Identifiers = append(e.Identifiers,
			event.Identifier{Collection: event.Users, Type: "user_id", Value: fmt.Sprintf("guest-9%06d", i)},
			event.Identifier{Collection: event.Users, Type: "email", Value: fmt.Sprintf("gone%d@example.com", i)})
	}
	w := archive.Rewriting{Space: 1, Fence: pipeline.Fence(1, 1), Epochs: []uint32{1}, Veil: archive.NewVeil([]*archive.Erasure{e})}
	var took time.Duration
	for b.Loop() {
		begin := time.Now()
		for next := commitlog.Offset(0); next < e.Offset; {
			done, err := a.Rewrite(ctx, w, next, 4<<20)
			if err != nil {
				b.Fatal(err)
			}
			if done.Blocks > 0 {
				b.Fatal("something was rewritten")
			}
			next = done.Next
		}
		took += time.Since(begin)
	}
	b.ReportMetric(float64(b.N*blocks*perBlock)/took.Seconds(), "events/s")
}
