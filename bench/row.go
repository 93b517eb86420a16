package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"kith/activation"
	"kith/archive"
	"kith/clock"
	"kith/collect"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/kv/pebblekv"
	"kith/pipeline"
	"kith/profile"
	"kith/trackingplan"
	"kith/workspace"
)

// The space and epoch of the row that is measured.
const (
	rowSpace = 1
	rowEpoch = 0
)

// rowWorld is the row alone, in this process: a raw log that is full, the loop
// over it, nobody who sends and nobody who delivers.
type rowWorld struct {
	db   *pebblekv.DB
	raw  *kvlog.Log
	loop *pipeline.Loop
	snap *workspace.Snapshot
}

// row measures what the loop costs: events/s of the whole row with 20
// audiences, and how the cost grows with what is declared.
func (b *bench) row(ctx context.Context) error {
	fmt.Println("row: the loop alone, from a raw log that is full (identity → profile → audiences → activation, Pebble, fsync a batch)")
	cases := []struct {
		what      string
		audiences int
		people    int
	}{
		{"20 audiences", 20, b.people},
		{"no audience", 0, b.people},
		{"200 audiences", 200, b.people},
		{"20 audiences, every event of one person", 20, 1},
	}
	for i, c := range cases {
		r, err := b.rowOnce(ctx, fmt.Sprintf("row-%d", i), c.audiences, c.people, i == 0)
		if err != nil {
			return err
		}
		n := float64(r.events)
		row(c.what, "%8.0f events/s, %.1f µs an event; %.0f B of raw log; written by the loop %.0f B, all on disk at the end %.0f B an event",
			n/r.took.Seconds(), r.took.Seconds()*1e6/n, float64(r.raw)/n, float64(r.written)/n, float64(r.disk)/n)
		row("  processor time, all cores", "%8.1f µs an event", r.used.Seconds()*1e6/n)
		row("  replayed", "%8.0f events/s, %.1f µs an event; %.1f µs of processor time", n/r.again.Seconds(), r.again.Seconds()*1e6/n, r.usedAgain.Seconds()*1e6/n)
	}
	return nil
}

// rowResult is what one case of row showed.
type rowResult struct {
	events  int
	took    time.Duration
	used    time.Duration // of the processor
	raw     uint64        // bytes on disk before the loop began
	written uint64        // bytes that the store wrote to the disk for the loop
	disk    uint64        // bytes on disk when it had ended

	again, usedAgain time.Duration // what a replay of it took
}

func (b *bench) rowOnce(ctx context.Context, name string, audiences, people int, profile bool) (r rowResult, err error) {
	dir, err := b.folder(name)
	if err != nil {
		return r, err
	}
	db, err := pebblekv.Open(filepath.Join(dir, "store"), pebblekv.Options{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w := &rowWorld{db: db, snap: rowSnapshot(audiences)}
	if w.raw, err = kvlog.Open(ctx, db, kv.SpaceKey(rowSpace, 'r'), "log/raw/1", kvlog.Options{}); err != nil {
		return r, err
	}
	stages, history, err := w.live(ctx)
	if err != nil {
		return r, err
	}
	if r.events, err = w.fill(ctx, int(b.span.Seconds())*10_000, people); err != nil {
		return r, err
	}
	if err := w.open(ctx, stages, history); err != nil {
		return r, err
	}
	path := ""
	if profile {
		path = b.cpuProfile
	}
	stop, err := profileTo(path)
	if err != nil {
		return r, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	before, began, used := db.Stats(), time.Now(), processTime()
	go func() { ended <- w.loop.Run(running) }()
	err = w.loop.Passed(ctx, w.raw.End()-1)
	r.took, r.used = time.Since(began), processTime()-used
	cancel()
	err = errors.Join(err, <-ended, stop())
	after := db.Stats()
	r.raw, r.written, r.disk = before.Disk, after.Written-before.Written, after.Disk
	if err != nil {
		return r, err
	}
	if path != "" {
		path += ".replay"
	}
	r.again, r.usedAgain, err = w.replay(ctx, history, path)
	return r, err
}

// profileTo writes a CPU profile to a file until stop is called; with no path
// it does nothing.
func profileTo(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// fill appends n events as collect would write them.
func (w *rowWorld) fill(ctx context.Context, n, people int) (int, error) {
	random := rand.NewChaCha8([32]byte{1})
	c, err := collect.New(collect.Config{
		Workspace: w, Logs: w, Clock: clock.System{}, Random: random, Logger: slog.New(slog.DiscardHandler), Rejections: w,
	})
	if err != nil {
		return 0, err
	}
	handler, events := c.Handler(), newEvents("key", 1, people)
	const batch = 500
	for sent := 0; sent < n; sent += batch {
		path, body := events.batch(batch)
		req := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(body))
		req.SetBasicAuth("key", "")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, req)
		if answer.Code != 200 {
			return 0, fmt.Errorf("collect answered %d: %s", answer.Code, answer.Body)
		}
	}
	return n, c.Close(ctx)
}

// open makes a loop where the last one has stopped.
func (w *rowWorld) open(ctx context.Context, stages []pipeline.Stage, history *archive.Archive) error {
	resolved, err := kvlog.Open(ctx, w.db, kv.SpaceKey(rowSpace, 'o'), pipeline.Fence(rowSpace, rowEpoch), kvlog.Options{})
	if err != nil {
		return err
	}
	w.loop, err = pipeline.NewLoop(ctx, pipeline.Config{
		DB: w.db, Raw: w.raw, Resolved: resolved, Clock: clock.System{}, Random: rand.NewChaCha8([32]byte{2}), Snapshots: w,
		Stages: stages, Recorder: history, Space: rowSpace, Epoch: rowEpoch, Logger: slog.New(slog.DiscardHandler),
		DedupWindow: pipeline.DefaultDedupWindow,
	})
	return err
}

// live has the loop pass the config record and makes the audiences live, so
// that what is measured afterwards is a row at work.
func (w *rowWorld) live(ctx context.Context) ([]pipeline.Stage, *archive.Archive, error) {
	var layout pipeline.Layout
	logger := slog.New(slog.DiscardHandler)
	plan := trackingplan.New(&layout, logger)
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	engine := computation.New(&layout, who.Slot(), people.Slot())
	syncs := activation.NewSyncs(w.db, engine.Reader(), func(uint32) (activation.Loop, error) { return w.loop, nil })
	stages := []pipeline.Stage{plan, who, people, engine, activation.New(who.Slot(), people.Slot(), engine.Slot(), syncs.Connected)}
	history := archive.New(w.db, w.Raw)
	if err := w.open(ctx, stages, history); err != nil {
		return nil, nil, err
	}
	now := clock.System{}.Now()
	id, err := event.NewRecordID(now, rand.NewChaCha8([32]byte{3}))
	if err != nil {
		return nil, nil, err
	}
	config := event.Record{Body: event.ConfigBody(w.snap.Number), Head: event.Head{Kind: event.KindConfig, ID: id, At: now.UnixMilli(), Time: now.UnixMilli()}}
	if _, err := w.raw.Append(ctx, event.EncodeBlock([]event.Record{config})); err != nil {
		return nil, nil, err
	}
	builder := computation.NewBuilder(computation.BuilderConfig{
		DB: w.db, Loop: w.loop, History: history, Engine: engine, Space: rowSpace, Epoch: rowEpoch, Logger: logger,
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
	})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- w.loop.Run(ctx) }()
	go func() { ended <- builder.Run(ctx) }()
	err = w.waitLive(ctx, engine.Reader(), rowEpoch)
	cancel()
	return stages, history, errors.Join(err, <-ended, <-ended)
}

func (w *rowWorld) waitLive(ctx context.Context, reader computation.Reader, epoch uint32) error {
	for {
		preparing := 0
		err := w.db.View(ctx, func(r kv.Reader) error {
			for i := range w.snap.Audiences {
				s, err := reader.Status(r, rowSpace, epoch, &w.snap.Audiences[i])
				if err != nil {
					return err
				}
				if s.State != computation.Live {
					preparing++
				}
			}
			return nil
		})
		if err != nil || preparing == 0 {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// At gives the one snapshot there is.
func (w *rowWorld) At(kv.Reader, uint64) (*workspace.Snapshot, error) { return w.snap, nil }

// Current gives the one snapshot there is.
func (w *rowWorld) Current() *workspace.Snapshot { return w.snap }

// Raw gives the one log there is.
func (w *rowWorld) Raw(uint32) (commitlog.Log, error) { return w.raw, nil }

// Reject forgets; nothing here is rejected.
func (w *rowWorld) Reject(collect.Rejection) {}

func rowSnapshot(audiences int) *workspace.Snapshot {
	no := false
	s := &workspace.Snapshot{
		Number:       1,
		Spaces:       []workspace.Space{{ID: "spa_1", Number: rowSpace, Slug: "default"}},
		Sources:      []workspace.Source{{ID: "src_1", Slug: "web", SpaceID: "spa_1", Enabled: true, WriteKeys: []string{"key"}}},
		Destinations: []workspace.Destination{{ID: "dst_1", Name: "Sink", MetadataID: "webhook", Enabled: true, SourceID: "src_1"}},
	}
	for i, q := range queries(audiences) {
		s.Audiences = append(s.Audiences, workspace.Audience{
			ID: fmt.Sprintf("aud_%04d", i), SpaceID: "spa_1", Name: fmt.Sprintf("A %d", i), Key: fmt.Sprintf("a_%d", i), Enabled: true, Version: 1,
			Query: q, Options: workspace.AudienceOptions{IncludeHistoricalData: &no},
			Connections: []workspace.AudienceConnection{{ID: fmt.Sprintf("con_%d", i), DestinationID: "dst_1"}},
		})
	}
	s.Seal()
	return s
}

// queries returns n audiences: first those on the events that come, each once
// in every window, then as many on events that never come.
func queries(n int) []string {
	var all []string
	for _, name := range names {
		for j, days := range []int{1, 30, 365} {
			all = append(all, fmt.Sprintf("event('%s').within(%d days).count() >= %d", name, days, 1+3*j))
		}
	}
	all = append(all, "trait('lifetime_value') > 1500", "event('Booking Completed').where(property('booking_value') >= 800).count() >= 1")
	for i := len(all); i < n; i++ {
		all = append(all, fmt.Sprintf("event('Rare %d').within(30 days).count() >= 1", i))
	}
	return slices.Clip(all[:n])
}
