package pipeline_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/archive"
	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/timer"
	"kith/workspace"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a space on memkv with a loop over a row of one stage.
type world struct {
	t        *testing.T
	db       kv.DB
	clock    *clock.Manual
	random   *rand.ChaCha8
	raw      *kvlog.Log
	resolved *kvlog.Log
	archive  *archive.Archive
	loop     *pipeline.Loop
	tap      func(pipeline.Committed)
	pad      string        // makes events large
	window   time.Duration // of dedup
	stop     func()
}

func newWorld(t *testing.T, db kv.DB, at time.Time) *world {
	t.Helper()
	w := &world{t: t, db: db, clock: clock.NewManual(at), random: rand.NewChaCha8([32]byte{1}), window: pipeline.DefaultDedupWindow}
	ctx := context.Background()
	open := func(stem kv.Key, fence kv.Fence) *kvlog.Log {
		l, err := kvlog.Open(ctx, db, stem, fence, kvlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w.raw = open(kv.SpaceKey(1, 'r'), "log/raw/1")
	w.resolved = open(kv.SpaceKey(1, 'o'), pipeline.Fence(1, 0))
	w.archive = archive.New(db, func(uint32) (commitlog.Log, error) { return w.raw, nil })
	return w
}

func (w *world) run(stages ...pipeline.Stage) {
	w.t.Helper()
	loop, err := pipeline.NewLoop(context.Background(), pipeline.Config{
		DB: w.db, Raw: w.raw, Resolved: w.resolved, Clock: w.clock, Random: w.random, Snapshots: snapshots{},
		Stages: stages, Recorder: w.archive, Space: 1, Logger: slog.New(slog.DiscardHandler), Tap: w.tap,
		DedupWindow: w.window,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.loop = loop
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the loop ended with: %v", err)
		}
	}
}

// send appends events with these messageIds as one block at the clock's
// instant, and returns the offset of the last.
func (w *world) send(ids ...string) commitlog.Offset {
	w.t.Helper()
	now := w.clock.Now()
	var records []event.Record
	for _, id := range ids {
		rid, err := event.NewRecordID(now, w.random)
		if err != nil {
			w.t.Fatal(err)
		}
		body := fmt.Sprintf(`{"type":"track","event":"Seen","messageId":%q,"properties":{"pad":"%s"}}`, id, w.pad)
		records = append(records, event.Record{Body: []byte(body), Head: event.Head{
			Kind: event.KindEvent, ID: rid, At: now.UnixMilli(), Time: now.UnixMilli(), Type: event.Track, Name: "Seen", MessageID: id,
		}})
	}
	first, err := w.raw.Append(context.Background(), event.EncodeBlock(records))
	if err != nil {
		w.t.Fatal(err)
	}
	return first + commitlog.Offset(len(ids)) - 1
}

func (w *world) passed(at commitlog.Offset) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.loop.Passed(ctx, at); err != nil {
		w.t.Fatalf("the loop did not pass record %d: %v", at, err)
	}
}

// outputs returns the resolved log as lines.
func (w *world) outputs() []string {
	w.t.Helper()
	var lines []string
	blocks, err := w.resolved.Read(context.Background(), 0, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range blocks {
		outputs, err := pipeline.DecodeOutputs(b.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range outputs {
			at := time.UnixMilli(o.At).UTC().Sub(start)
			switch {
			case o.Event != nil:
				lines = append(lines, fmt.Sprintf("%v event %s", at, o.Event.MessageID))
			case o.Change != nil:
				lines = append(lines, fmt.Sprintf("%v %s %s", at, o.Change.Subject, o.Change.Detail))
			}
		}
	}
	return lines
}

type snapshots struct{}

func (snapshots) At(kv.Reader, uint64) (*workspace.Snapshot, error) {
	return nil, fault.New(fault.NotFound, "no snapshot")
}

// echo is a stage that counts events durably, and understands three kinds of
// messageId: "wake+2s…" arms a timer, "chain+1s…" one that arms another when
// it fires, "panic…" is a defect.
type echo struct{}

func (echo) Name() string { return "echo" }

func (echo) Begin(b *pipeline.Batch) (pipeline.Pass, error) { return &echoPass{b: b}, nil }

func (echo) Keys(b *pipeline.Batch, _ *pipeline.Record) [][]byte { return [][]byte{b.Key('z')} }

type echoPass struct {
	b *pipeline.Batch
	n uint64
}

func (p *echoPass) Handle(r *pipeline.Record) error {
	switch {
	case r.Firing != nil:
		p.b.Emit(pipeline.Output{At: r.At, Change: &pipeline.Change{Subject: "fired", Detail: string(r.Firing.Subject)}})
		if s := string(r.Firing.Subject); strings.HasPrefix(s, "chain") {
			return p.b.Timers.Arm(timer.Due{At: r.At + 500, Owner: 'z', Subject: []byte("after " + s)})
		}
	case r.Work != nil:
		p.n++
		p.b.Emit(pipeline.Output{At: r.At, Change: &pipeline.Change{Subject: "worked", Detail: fmt.Sprint(r.Work)}})
	case r.Kind == event.KindEvent:
		p.n++
		if strings.HasPrefix(r.MessageID, "panic") {
			panic("a defect")
		}
		if name, rest, ok := strings.Cut(r.MessageID, "+"); ok {
			d, _, _ := strings.Cut(rest, " ")
			in, err := time.ParseDuration(d)
			if err != nil {
				return err
			}
			return p.b.Timers.Arm(timer.Due{At: r.At + in.Milliseconds(), Owner: 'z', Subject: []byte(name + rest)})
		}
	}
	return nil
}

func (p *echoPass) Finish() error {
	old, err := p.b.Tx.Get(p.b.Key('z'))
	if err != nil {
		return err
	}
	n := p.n
	if old != nil {
		n += binary.BigEndian.Uint64(old)
	}
	return p.b.Tx.Set(p.b.Key('z'), binary.BigEndian.AppendUint64(nil, n))
}

func (w *world) count() (n uint64) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		v, err := r.Get(kv.EpochKey(1, 0, 'z'))
		if v != nil {
			n = binary.BigEndian.Uint64(v)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestTimersFireBetweenRecords(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	// All is in the log before the loop starts, as after downtime.
	w.send("wake+2s", "chain+1s", "wake+1h")
	w.clock.Set(start.Add(1200 * time.Millisecond))
	w.send("b")
	w.clock.Set(start.Add(2 * time.Second))
	last := w.send("c", "wake+1s late")
	w.run(echo{})
	w.passed(last)
	want := []string{
		"0s event wake+2s", "0s event chain+1s", "0s event wake+1h",
		"1s fired chain1s",
		"1.2s event b",
		"1.5s fired after chain1s",
		"2s fired wake2s", // due at the instant of c, so before it
		"2s event c", "2s event wake+1s late",
	}
	if diff := cmp.Diff(want, w.outputs()); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	// No record comes: the loop ticks by itself when the clock gets there.
	w.clock.Set(start.Add(time.Hour))
	w.passed(w.raw.End()) // the tick
	w.stop()
	want = append(want, "3s fired wake1s late", "1h0m0s fired wake1h")
	if diff := cmp.Diff(want, w.outputs()); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	// Each record knows its own outputs, and no timer's.
	for at := range w.raw.End() {
		p, err := w.archive.Passed(context.Background(), 1, 0, at)
		if err != nil {
			t.Fatal(err)
		}
		if p.Head.Kind == event.KindTick {
			if p.Link.Count != 0 {
				t.Errorf("a tick has %d outputs", p.Link.Count)
			}
			continue
		}
		if line := want[p.Link.First]; p.Link.Count != 1 || !strings.HasSuffix(line, " event "+p.Head.MessageID) {
			t.Errorf("the %d outputs of %s begin with %q", p.Link.Count, p.Head.MessageID, line)
		}
	}
}

func TestManyTimersAtOnce(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	var ids []string
	for i := range 2500 {
		ids = append(ids, fmt.Sprintf("wake+1s %04d", i))
	}
	for len(ids) > 0 {
		n := min(500, len(ids))
		w.send(ids[:n]...)
		ids = ids[n:]
	}
	w.clock.Set(start.Add(time.Minute))
	last := w.send("end")
	w.run(echo{})
	w.passed(last)
	w.stop()
	lines := w.outputs()
	if got := lines[len(lines)-1]; got != "1m0s event end" {
		t.Errorf("the record after the timers came at %q", got)
	}
	fired := lines[2500 : len(lines)-1]
	if len(fired) != 2500 {
		t.Fatalf("%d timers fired, want 2500", len(fired))
	}
	for i, line := range fired {
		if want := fmt.Sprintf("1s fired wake1s %04d", i); line != want {
			t.Fatalf("timer %d: got %q, want %q", i, line, want)
		}
	}
}

func TestDuplicatesAreDroppedOnce(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.send("a", "b", "a")
	w.run(echo{})
	w.passed(w.send("b", "c"))
	w.stop()
	if n := w.count(); n != 3 {
		t.Errorf("counted %d events, want 3", n)
	}
	if diff := cmp.Diff([]string{"0s event a", "0s event b", "0s event c"}, w.outputs()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	e, err := w.archive.Event(context.Background(), 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if e.Verdict.Code != pipeline.Duplicate || e.Verdict.Of != 1 {
		t.Errorf("record 3 repeats record 1, but its verdict is %+v", e.Verdict)
	}
}

func TestPanicDropsOneEvent(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a", "panic", "b"))
	w.stop()
	if diff := cmp.Diff([]string{"0s event a", "0s event b"}, w.outputs()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	e, err := w.archive.Event(context.Background(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if e.Verdict.Code != pipeline.Dropped || !strings.Contains(e.Verdict.Reason, "echo") {
		t.Errorf("the verdict does not tell where the defect is: %+v", e.Verdict)
	}
}

func TestDo(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a"))
	ctx := context.Background()
	err := w.loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
		for i := range 3 {
			if err := step(&pipeline.Record{Work: i}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := fault.New(fault.Invalid, "no")
	if err := w.loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
		if err := step(&pipeline.Record{Work: "undone"}); err != nil {
			return err
		}
		return refused
	}); err != refused {
		t.Errorf("Do returned %v", err)
	}
	w.stop()
	if n := w.count(); n != 4 {
		t.Errorf("counted %d, want 4", n)
	}
	if diff := cmp.Diff([]string{"0s event a", "0s worked 0", "0s worked 1", "0s worked 2"}, w.outputs()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSecondOwnerStopsTheFirst(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a"))
	// Somebody else moves the position, as after a lease was lost.
	err := w.db.Update(context.Background(), "thief", kv.Durable, func(tx kv.Tx) error {
		return tx.Set(kv.EpochKey(1, 0, pipeline.PositionRoom), []byte{1, 9, 0, 0})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.loop.Do(context.Background(), func(*pipeline.Batch, func(*pipeline.Record) error) error { return nil })
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("the first owner went on: %v", err)
	}
	if n := w.count(); n != 1 {
		t.Errorf("the first owner wrote: %d", n)
	}
	w.stop()
}

// TestCrashes stops the loop at random places, lets a crash take what was not
// durable, and compares state and outputs with those of an undisturbed run.
func TestCrashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	feed := func(w *world, from, to int) {
		for i := from; i < to; i++ {
			w.clock.Set(start.Add(time.Duration(i) * 700 * time.Millisecond))
			w.send(fmt.Sprintf("m%d", i%90), fmt.Sprintf("wake+%dms %d", 100+i*37%2000, i), fmt.Sprintf("chain+1s %d", i))
		}
	}
	const blocks = 120
	calm := newWorld(t, memkv.New(), start)
	feed(calm, 0, blocks)
	calm.run(echo{})
	calm.passed(calm.raw.End() - 1)
	calm.stop()

	db := memkv.NewWith(memkv.Options{Rerun: func(kv.Fence) bool { return true }})
	w := newWorld(t, db, start)
	sent := 0
	for sent < blocks {
		n := min(blocks, sent+1+random.IntN(20))
		feed(w, sent, n)
		sent = n
		w.run(echo{})
		if random.IntN(2) == 0 {
			w.passed(commitlog.Offset(random.Uint64N(uint64(w.raw.End()))))
		}
		w.stop()
		left := w.db.(*memkv.DB).Crash(random.IntN(3))
		w = newWorld(t, left, w.clock.Now())
	}
	w.run(echo{})
	w.passed(w.raw.End() - 1)
	w.stop()
	if calm.count() != w.count() {
		t.Errorf("counted %d, want %d", w.count(), calm.count())
	}
	if diff := cmp.Diff(calm.outputs(), w.outputs()); diff != "" {
		t.Errorf("outputs differ after crashes, -calm +crashed:\n%s", diff)
	}
}

// TestFindMessage leads from messageIds to records.
func TestFindMessage(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a", "b", "a"))
	w.stop()
	for id, want := range map[string]string{"a": "0 true", "b": "1 true", "c": "0 false"} {
		if got := w.find(id); got != want {
			t.Errorf("%s is found at %s, want %s", id, got, want)
		}
	}
}

func (w *world) find(id string) (found string) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		offset, ok, err := pipeline.FindMessage(r, 1, id)
		found = fmt.Sprint(offset, ok)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}
