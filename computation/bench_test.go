package computation

import (
	"context"
	"fmt"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/timer"
	"kith/workspace"
)

// BenchmarkEvent measures what computation alone costs an event, in batches of
// 500 over 1,000 profiles on the memory store, with more and more audiences
// defined: unrelated ones, and ones that all count the event at hand, each with
// a filter of its own.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1, 20, 200, 1000} {
		b.Run(fmt.Sprintf("unrelated=%d", n), func(b *testing.B) {
			benchmarkEvent(b, n, func(i int) string {
				if i == 0 {
					return "event('Booked').within(60 days).count() >= 1"
				}
				return fmt.Sprintf("event('Other %d').where(property('value') > %d).within(30 days).count() >= 2 OR trait('t%d') = 'x'", i, i, i)
			})
		})
	}
	for _, n := range []int{1, 5, 20} {
		b.Run(fmt.Sprintf("related=%d", n), func(b *testing.B) {
			benchmarkEvent(b, n, func(i int) string {
				return fmt.Sprintf("event('Booked').where(property('value') >= %d).within(60 days).count() >= 2", i)
			})
		})
	}
	b.Run("shared=20", func(b *testing.B) {
		benchmarkEvent(b, 20, func(i int) string {
			return fmt.Sprintf("event('Booked').within(%d days).count() >= %d", 30+i, 1+i%4)
		})
	})
}

func benchmarkEvent(b *testing.B, n int, query func(i int) string) {
	reg := &registry{}
	snap := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: 1}}, Sources: []workspace.Source{{ID: "web", SpaceID: "spa_1"}}}
	for i := range n {
		snap.Audiences = append(snap.Audiences, workspace.Audience{ID: fmt.Sprint("aud_", i), SpaceID: "spa_1", Key: fmt.Sprint("k", i), Enabled: true, Version: 1, Query: query(i)})
	}
	snap.Seal()
	reg.configure(&pipeline.Record{Snapshot: snap}, snap.Space("spa_1"))
	for _, x := range reg.Builds {
		x.State = live
	}
	for _, a := range reg.Aggregates {
		a.Whole = true
	}
	var layout pipeline.Layout
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	engine := New(&layout, who.Slot(), people.Slot())
	stages := []pipeline.Stage{who, people, engine}
	db := memkv.New()
	if err := db.Update(context.Background(), "loop/1/1", kv.Lazy, func(tx kv.Tx) error { return reg.write(tx, keys{1, 1}) }); err != nil {
		b.Fatal(err)
	}
	const batch, profiles = 500, 1000
	at, done := int64(1_700_000_000_000), 0
	b.ReportAllocs()
	for b.Loop() {
		if done++; done%batch != 0 {
			continue // an event a loop, led through in batches
		}
		records := make([]*pipeline.Record, batch)
		for i := range records {
			at += 50
			body := fmt.Sprintf(`{"type":"track","event":"Booked","userId":"u%d","properties":{"value":%d,"hotel":"Bern"}}`, (done+i*7)%profiles, i%100)
			e, err := event.ParseTrusted([]byte(body))
			if err != nil {
				b.Fatal(err)
			}
			r := &pipeline.Record{Event: e, Source: &snap.Sources[0], Snapshot: snap}
			r.Head = event.Head{Kind: event.KindEvent, At: at, Time: at, Type: e.Type, Name: e.Event, Source: "web", IDs: event.StandardIdentifiers(e)}
			copy(r.ID[:], fmt.Sprintf("%016d", at))
			records[i] = r
		}
		err := db.Update(context.Background(), "loop/1/1", kv.Lazy, func(tx kv.Tx) error {
			batch := &pipeline.Batch{Tx: tx, Space: 1, Epoch: 1, Live: true, Snapshot: snap, Timers: timer.NewPass(tx, 1, 1)}
			var passes []pipeline.Pass
			for _, s := range stages {
				p, err := s.Begin(batch)
				if err != nil {
					return err
				}
				passes = append(passes, p)
			}
			for _, r := range records {
				engine.Prepare(r)
				for _, p := range passes {
					if err := p.Handle(r); err != nil {
						return err
					}
				}
			}
			for _, p := range passes {
				if err := p.Finish(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
