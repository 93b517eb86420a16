package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// stage is a stage made of functions; any may be nil.
type stage struct {
	prepare func(*pipeline.Record)
	keys    func(*pipeline.Record)
	handle  func(*pipeline.Batch, *pipeline.Record) error
}

func (stage) Name() string { return "stage" }

func (s stage) Prepare(r *pipeline.Record) {
	if s.prepare != nil {
		s.prepare(r)
	}
}

func (s stage) Keys(_ *pipeline.Batch, r *pipeline.Record) [][]byte {
	if s.keys != nil {
		s.keys(r)
	}
	return nil
}

func (s stage) Begin(b *pipeline.Batch) (pipeline.Pass, error) { return stagePass{s, b}, nil }

type stagePass struct {
	stage
	b *pipeline.Batch
}

func (p stagePass) Handle(r *pipeline.Record) error {
	if p.handle == nil {
		return nil
	}
	return p.handle(p.b, r)
}

func (stagePass) Finish() error { return nil }

// narrow is a store whose transactions take only so many bytes.
type narrow struct {
	kv.DB
	bytes int
}

func (n narrow) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	return n.DB.Update(ctx, f, d, func(tx kv.Tx) error { return fn(&narrowTx{tx, n.bytes}) })
}

type narrowTx struct {
	kv.Tx
	left int
}

func (t *narrowTx) Set(key, value []byte) error {
	if t.left -= len(key) + len(value); t.left < 0 {
		return fault.New(fault.Invalid, "the transaction is too large")
	}
	return t.Tx.Set(key, value)
}

func numbered(form string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf(form, i)
	}
	return ids
}

// TestMoreThanATransactionTakes has a batch, and the timers before a record,
// write more than the store takes at once.
func TestMoreThanATransactionTakes(t *testing.T) {
	w := newWorld(t, narrow{memkv.New(), 64 << 10}, start)
	w.send(numbered("wake+1s %d", 100)...)
	w.clock.Set(start.Add(time.Minute))
	last := w.send(numbered("m%d", 100)...)
	w.run(echo{}, stage{handle: func(b *pipeline.Batch, r *pipeline.Record) error {
		key := b.Key('y').Uint64(uint64(r.Offset))
		if r.Firing != nil {
			key = key.Fixed(r.Firing.Subject)
		}
		return b.Tx.Set(key, make([]byte, 8<<10))
	}})
	w.passed(last)
	w.stop()
	if n := w.count(); n != 200 {
		t.Errorf("counted %d events, want 200", n)
	}
	if lines := w.outputs(); len(lines) != 300 || lines[299] != "1m0s event m99" {
		t.Errorf("%d outputs, the last %q", len(lines), lines[len(lines)-1])
	}
}

// TestStageEndsTheTransaction has a stage that holds no more than three records
// at a time.
func TestStageEndsTheTransaction(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	last := w.send(numbered("m%d", 100)...)
	held := map[*pipeline.Batch]int{}
	w.run(echo{}, stage{handle: func(b *pipeline.Batch, _ *pipeline.Record) error {
		held[b]++
		b.Full = held[b] == 3
		return nil
	}})
	w.passed(last)
	w.stop()
	all := 0
	for _, n := range held {
		if all += n; n > 3 {
			t.Errorf("%d records in a transaction", n)
		}
	}
	if n := w.count(); n != 100 || all != 100 {
		t.Errorf("counted %d events and handled %d, want 100", n, all)
	}
}

// TestBatchesAreBounded sends events that pack a thousandfold.
func TestBatchesAreBounded(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	const blocks, perBlock = 16, 128
	w.pad = strings.Repeat("x", 32<<10)
	var last commitlog.Offset
	for i := range blocks {
		last = w.send(numbered(fmt.Sprintf("%d %%d", i), perBlock)...)
	}
	largest, sum := 0, 0
	w.tap = func(c pipeline.Committed) {
		n := 0
		for _, r := range c.Records {
			n += len(r.Event.Body)
		}
		largest, sum = max(largest, n), sum+len(c.Records)
	}
	w.run(stage{})
	w.passed(last)
	w.stop()
	if sum != blocks*perBlock {
		t.Errorf("%d records passed, want %d", sum, blocks*perBlock)
	}
	if largest > 28<<20 {
		t.Errorf("one transaction held %d bytes of events", largest)
	}
}

// TestOutputsAreBounded has every event bring about a large message.
func TestOutputsAreBounded(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	last := w.send(numbered("m%d", 64)...)
	var sizes []int
	w.tap = func(c pipeline.Committed) {
		n := 0
		for _, o := range c.Outputs {
			if o.Message != nil {
				n += len(o.Message.Body)
			}
		}
		sizes = append(sizes, n)
	}
	body := make([]byte, 1<<20)
	w.run(stage{handle: func(b *pipeline.Batch, r *pipeline.Record) error {
		b.Emit(pipeline.Output{At: r.At, Message: &pipeline.Message{Destination: "d", MessageID: r.MessageID, Body: body}})
		return nil
	}})
	w.passed(last)
	w.stop()
	if most := slices.Max(sizes); most > 17<<20 {
		t.Errorf("one transaction sent %d bytes of messages", most)
	}
	if len(w.outputs()) != 64 {
		t.Errorf("%d events came out, want 64", len(w.outputs()))
	}
}

// TestPanicAhead has a defect show itself before the transaction, where a
// stage looks at an event on its own.
func TestPanicAhead(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	ids := append(numbered("m%d", 30), "panic")
	odd := func(r *pipeline.Record) {
		if r.MessageID == "panic" {
			panic("a defect")
		}
	}
	last := w.send(ids...)
	w.run(stage{prepare: odd})
	w.passed(last)
	w.stop()
	if lines := w.outputs(); len(lines) != 30 || slices.Contains(lines, "0s event panic") {
		t.Errorf("%d events came out, want the 30 that are sound", len(lines))
	}
	e, err := w.archive.Event(context.Background(), 1, last)
	if err != nil {
		t.Fatal(err)
	}
	if e.Verdict.Code != pipeline.Dropped || !strings.Contains(e.Verdict.Reason, "stage") {
		t.Errorf("the verdict does not tell where the defect is: %+v", e.Verdict)
	}

	// A hint that cannot be had costs the event nothing.
	w = newWorld(t, memkv.New(), start)
	last = w.send(ids...)
	w.run(stage{keys: odd})
	w.passed(last)
	w.stop()
	if lines := w.outputs(); len(lines) != 31 {
		t.Errorf("%d events came out, want all 31", len(lines))
	}
}

// TestNoTicksWhileRecordsWait starts with a backlog, in which a timer is
// overdue by the clock and not yet by the records.
func TestNoTicksWhileRecordsWait(t *testing.T) {
	for range 4 { // the choice between a record and an alarm is made by chance
		w := newWorld(t, memkv.New(), start)
		w.send("wake+1s")
		for i := range 17 {
			w.send(numbered(fmt.Sprintf("%d %%d", i), event.MaxBlockRecords)...)
		}
		w.clock.Set(start.Add(time.Hour))
		last := w.send("late")
		w.run(echo{})
		w.passed(last)
		w.stop()
		if end := w.raw.End(); end != last+1 {
			t.Fatalf("%d ticks stand in the log, though a record that fires the timer waited", end-last-1)
		}
	}
}

// TestRunEndsWithItsContext lets the context end by a deadline.
func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a"))
	w.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := w.loop.Run(ctx); err != nil {
		t.Errorf("the loop ended with: %v", err)
	}
}

// TestDoAtTheEnd stops the loop while work is handed to it from all sides:
// every Do returns, and what it says of its work is true.
func TestDoAtTheEnd(t *testing.T) {
	for range 20 {
		w := newWorld(t, memkv.New(), start)
		w.run(echo{})
		w.passed(w.send("a"))
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		done := make([]int, 4)
		for i := range done {
			wg.Go(func() {
				for {
					err := w.loop.Do(ctx, func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
						return step(&pipeline.Record{Work: i})
					})
					if err != nil {
						if !fault.Is(err, fault.Unavailable) {
							t.Error(err)
						}
						return
					}
					done[i]++
				}
			})
		}
		w.send("b")
		w.stop()
		cancel()
		wg.Wait()
		sum := 1
		for _, n := range done {
			sum += n
		}
		if n := int(w.count()); n != sum && n != sum+1 { // the loop may have stopped before b
			t.Fatalf("counted %d, but %d were said to be done", n, sum)
		}
	}
}
