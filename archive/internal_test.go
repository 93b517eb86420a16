package archive

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// stored is a space whose log holds blocks of so many records each, all passed
// in one batch; change gives a record the body that intake has made of it.
func stored(t *testing.T, blocks, perBlock int, change func(n int) []byte) *Archive {
	t.Helper()
	ctx := context.Background()
	db := memkv.New()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var records []*pipeline.Record
	for range blocks {
		var block []event.Record
		for range perBlock {
			n := len(records)
			r := event.Record{Body: fmt.Appendf(nil, `{"n":%d}`, n), Head: event.Head{Kind: event.KindEvent, At: 1, Time: 1, MessageID: fmt.Sprint(n)}}
			block = append(block, r)
			records = append(records, &pipeline.Record{
				Head: r.Head, Stamped: 1, Offset: commitlog.Offset(n), Event: &event.Event{Body: r.Body}, Verdict: pipeline.Verdict{Body: change(n)},
			})
		}
		if _, err := log.Append(ctx, event.EncodeBlock(block)); err != nil {
			t.Fatal(err)
		}
	}
	a := New(db, func(uint32) (commitlog.Log, error) { return log, nil })
	err = db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
		return a.Record(&pipeline.Batch{Live: true, Tx: tx, Space: 1}, records)
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestHotBlocksOfOneBatch reads blocks that share one run of verdicts: what is
// kept of a block is the block's own.
func TestHotBlocksOfOneBatch(t *testing.T) {
	const blocks, perBlock, size = 32, 4, 16 << 10 // 2 MiB in all
	a := stored(t, blocks, perBlock, func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, size) })
	before := heap()
	for n := 0; n < blocks*perBlock; n += perBlock {
		body, err := a.Body(t.Context(), 1, commitlog.Offset(n))
		if err != nil {
			t.Fatal(err)
		}
		if len(body) != size || body[0] != byte(n) {
			t.Fatalf("body %d: %d bytes", n, len(body))
		}
	}
	if grown := heap() - before; grown > 4*blocks*perBlock*size {
		t.Errorf("%d bytes of bodies keep %d bytes", blocks*perBlock*size, grown)
	}
	if a.size < blocks*perBlock*size {
		t.Errorf("the archive counts %d bytes, and keeps more", a.size)
	}
}

// TestHotBlocksAreFew reads many small blocks: looking for one that is kept
// must not take longer the more there are.
func TestHotBlocksAreFew(t *testing.T) {
	const blocks = 1500
	a := stored(t, blocks, 1, func(int) []byte { return nil })
	for n := range blocks {
		if _, err := a.Body(t.Context(), 1, commitlog.Offset(n)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.hot) > maxHotBlocks {
		t.Errorf("%d blocks are kept", len(a.hot))
	}
	sum := 0
	for _, h := range a.hot {
		sum += h.bytes
	}
	if sum != a.size {
		t.Errorf("%d bytes are kept, %d are counted", sum, a.size)
	}
	// Two readers that miss the same block at once keep it once.
	again := *a.hot[0]
	a.keep(&again)
	if a.size != sum {
		t.Errorf("a block that was there already is counted again: %d, want %d", a.size, sum)
	}
}

func TestRunsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *pipeline.Record {
			r := &pipeline.Record{
				Outputs: pipeline.Span{First: rapid.IntRange(0, 1).Draw(t, "before"), Count: rapid.IntRange(0, 2).Draw(t, "outputs")},
				Profile: event.ProfileID{rapid.ByteRange(0, 3).Draw(t, "profile")}, Account: event.ProfileID{rapid.ByteRange(0, 2).Draw(t, "account")},
			}
			r.Stamped = rapid.Int64Range(0, 1<<50).Draw(t, "stamped")
			r.At = r.Stamped + rapid.Int64Range(0, 2).Draw(t, "raised")
			r.Verdict = pipeline.Verdict{
				Code: pipeline.VerdictCode(rapid.ByteRange(0, 3).Draw(t, "code")), Reason: rapid.StringN(0, 3, -1).Draw(t, "reason"),
				Of: commitlog.Offset(rapid.Uint64().Draw(t, "of")), Body: nilIfEmpty(rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "body")),
			}
			if r.Verdict.Code == pipeline.Admitted {
				r.Verdict.Of = 0
			}
			return r
		}), 1, 20).Draw(t, "records")
		end := 0
		for _, r := range records {
			r.Outputs.First += end
			end = r.Outputs.First + r.Outputs.Count
		}
		const first, resolved = 100, 5000
		verdicts, err := decodeVerdicts(first, encodeVerdicts(resolved, records))
		if err != nil {
			t.Fatal(err)
		}
		profiles, err := decodeProfiles(first, encodeProfiles(records))
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range records {
			at := commitlog.Offset(first + i)
			if !verdicts.covers(at) || !profiles.covers(at) {
				t.Fatalf("record %d is not covered", i)
			}
			e := Entry{Offset: at, Head: event.Head{At: r.Stamped}}
			verdicts.judge(&e, &page{first: first, heads: make([]event.Head, len(records)), veil: NewVeil(nil)})
			if diff := cmp.Diff(r.Verdict, e.Verdict); diff != "" || e.Head.At != r.At {
				t.Fatalf("record %d at %d, want %d; verdict -written +read:\n%s", i, e.Head.At, r.At, diff)
			}
			if profiles.profiles[i] != r.Profile || profiles.accounts[i] != r.Account {
				t.Fatalf("record %d belongs to %v and %v", i, profiles.profiles[i], profiles.accounts[i])
			}
			place, n, err := verdicts.outputs(at)
			if want := resolved + commitlog.Offset(r.Outputs.First); err != nil || place != want || n != r.Outputs.Count {
				t.Fatalf("record %d: %d outputs at %d, want %d at %d; %v", i, n, place, r.Outputs.Count, want, err)
			}
		}
		over := commitlog.Offset(first + len(records))
		if verdicts.covers(over) || profiles.covers(over) || verdicts.covers(first-1) || profiles.covers(first-1) {
			t.Fatal("a run covers more than its records")
		}
	})
}

// TestVerdictsOfFormat1 reads what was written before archive kept links.
func TestVerdictsOfFormat1(t *testing.T) {
	old := kv.Value{1}.Uvarint(3).Uvarint(1).Varint(4).Byte(byte(pipeline.Blocked)).String("why").Uvarint(0).Bytes(nil)
	run, err := decodeVerdicts(7, old)
	if err != nil {
		t.Fatal(err)
	}
	if run.linked || run.count != 3 || run.odd[1].verdict.Reason != "why" || run.odd[1].raised != 4 {
		t.Errorf("read %+v", run)
	}
}

// TestDamagedRunAsksForNoMemory has a few bytes claim millions of records.
func TestDamagedRunAsksForNoMemory(t *testing.T) {
	damaged := kv.Value{profileFormat}.Uvarint(1 << 24).Uvarint(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decodeProfiles(0, damaged)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("a damaged run was read")
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("a value of %d bytes asked for %d", len(damaged), n)
	}
}

func FuzzDecodeRuns(f *testing.F) {
	records := []*pipeline.Record{
		{Profile: event.ProfileID{1}},
		{Profile: event.ProfileID{2}, Account: event.ProfileID{1}, Verdict: pipeline.Verdict{Code: pipeline.Blocked, Reason: "plan", Body: []byte("{}")}},
	}
	f.Add([]byte(encodeVerdicts(0, records)), uint64(0))
	f.Add([]byte(encodeProfiles(records)), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, value []byte, first uint64) {
		at := commitlog.Offset(first)
		if run, err := decodeVerdicts(at, value); err == nil && run.covers(at) {
			run.judge(&Entry{Offset: at}, &page{first: at, heads: make([]event.Head, 1), veil: NewVeil(nil)})
			if _, _, err := run.outputs(at); err != nil && err != errRun {
				t.Fatal(err)
			}
		}
		_, _ = repeats(at, value, at)
		if run, err := decodeProfiles(at, value); err == nil && run.covers(at) && len(run.accounts) != len(run.profiles) {
			t.Fatal("a run with fewer accounts than profiles")
		}
	})
}
