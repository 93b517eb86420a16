package archive_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/archive"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// all is everything that readers are shown of a past.
func all(t *testing.T, a *archive.Archive) (list []any) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.FollowHeads(ctx, 1, 0, 1<<20, func(j *pipeline.Judged) error {
		c := *j
		c.Raw = append([]byte{}, j.Raw...)
		list = append(list, c)
		return nil
	})
	must(err)
	keep := func(e archive.Entry) (bool, error) {
		e.Body = append([]byte{}, e.Body...)
		list = append(list, e)
		return true, nil
	}
	must(a.History(ctx, 1, 0, []event.ProfileID{profile(1), profile(2)}, archive.Window{From: 0, To: math.MaxInt64}, keep))
	must(a.Scan(ctx, 1, 0, 0, 1000, nil, func(e archive.Entry) error {
		_, err := keep(e)
		return err
	}))
	return list
}

// TestTrim trims a past in small steps, from a new start each time, and finds
// that readers are shown the same as before and that no value holds a body of
// what was trimmed.
func TestTrim(t *testing.T) {
	p := newPast(t, 8, 25, 200)
	ctx := t.Context()
	fence := pipeline.Fence(1, 0)
	err := p.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(kv.EpochKey(1, 0, pipeline.PositionRoom), kv.Value{1}.Uvarint(200).Varint(0).Uvarint(0))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, horizon := range []commitlog.Offset{60, 60, 137, 200} {
		if err := p.moveHorizon(t, archive.Horizon{Offset: horizon, At: int64(horizon)}); err != nil {
			t.Fatal(err)
		}
		want := all(t, p.again())
		for more, n := true, 0; more; n++ {
			if n > 20 {
				t.Fatal("it does not come to an end")
			}
			var done archive.Trimmed
			done, more, err = p.again().Trim(ctx, 1, fence, 100)
			if err != nil {
				t.Fatal(err)
			}
			if !more && (done.Next != horizon || done.Records != uint64(horizon) || done.Bytes <= 0) {
				t.Errorf("trimmed %+v, want all before %d", done, horizon)
			}
		}
		if diff := cmp.Diff(want, all(t, p.again())); diff != "" {
			t.Errorf("horizon %d: -hidden +trimmed:\n%s", horizon, diff)
		}
		bodies(t, p.db, func(offset commitlog.Offset, body []byte) {
			if offset < horizon && len(body) > 0 {
				t.Errorf("horizon %d: record %d still has %q", horizon, offset, body)
			}
		})
	}
	if n := mentions(t, p.db, `"changed":true`); n > 0 {
		t.Errorf("%d values still hold bodies that were changed", n)
	}
}

// bodies calls fn with every body in the raw log of a store.
func bodies(t *testing.T, db kv.DB, fn func(commitlog.Offset, []byte)) {
	t.Helper()
	log, err := kvlog.Open(t.Context(), db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := log.Read(t.Context(), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		list, err := event.DecodeBodies(b.Data)
		if err != nil {
			t.Fatal(err)
		}
		for i, body := range list {
			fn(b.First+commitlog.Offset(i), body)
		}
	}
}

// mentions returns how many values of a store hold a text as it is.
func mentions(t *testing.T, db kv.DB, text string) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			if bytes.Contains(pair.Value, []byte(text)) {
				n++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTrimOutputs drops the blocks of a resolved log whose outputs are older
// than the horizon, but not what somebody still needs, nor the last.
func TestTrimOutputs(t *testing.T) {
	p := newPast(t, 2, 10, 20)
	ctx := context.Background()
	fence := pipeline.Fence(1, 0)
	log, err := kvlog.Open(ctx, p.db, kv.SpaceKey(1, 'o'), fence, kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for block := range 5 {
		outputs := make([]pipeline.Output, 4)
		for i := range outputs {
			outputs[i] = pipeline.Output{At: int64(10 * block), Message: &pipeline.Message{MessageID: "m", Body: []byte("{}")}}
		}
		if _, err := log.Append(ctx, pipeline.EncodeOutputs(outputs)...); err != nil {
			t.Fatal(err)
		}
	}
	err = p.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(kv.EpochKey(1, 0, pipeline.PositionRoom), []byte{1, 20, 0, 0})
	})
	if err != nil {
		t.Fatal(err)
	}
	first := func() (at commitlog.Offset) {
		for ; at < log.End(); at++ {
			if _, err := log.Read(ctx, at, 1); err == nil {
				break
			}
		}
		return at
	}
	for _, step := range []struct {
		at           int64
		before, want commitlog.Offset
	}{
		{10, 20, 4}, {20, 6, 4}, {20, 20, 8}, {1000, 13, 12}, {1000, 20, 16}, {1000, 1000, 16},
	} {
		if err := p.moveHorizon(t, archive.Horizon{Offset: 20, At: step.at}); err != nil {
			t.Fatal(err)
		}
		done, err := p.archive.TrimOutputs(ctx, 1, fence, log, step.before)
		if err != nil || done.Outputs != step.want || first() != step.want {
			t.Errorf("outputs older than %d before %d: trimmed to %d, the log begins at %d (%v), want %d", step.at, step.before, done.Outputs, first(), err, step.want)
		}
	}
	// An erasure goes on where the log begins.
	w := archive.Rewriting{Space: 1, Fence: fence, Epochs: []uint32{0}, Veil: archive.NewVeil([]*archive.Erasure{{Offset: 20, Resolved: 20}})}
	if next, _, _, err := p.archive.RewriteOutputs(ctx, w, log, 0, 1<<20); err != nil || next != 20 {
		t.Errorf("rewriting outputs went on at %d (%v), want 20", next, err)
	}
}

// TestTrimCrashes kills a trimming at each of its commits, before and after, and
// goes on with what is left: readers are shown the same all the while, and in the
// end nothing is left of the bodies.
func TestTrimCrashes(t *testing.T) {
	ctx := t.Context()
	fence := pipeline.Fence(1, 0)
	finished := false
	for kill := 0; !finished; kill++ {
		if kill > 100 {
			t.Fatal("it does not come to an end")
		}
		armed, ops := false, 0
		db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
			if !armed || op != memkv.OpCommit && op != memkv.OpCommitted {
				return nil
			}
			if ops++; ops > kill {
				return errors.New("killed")
			}
			return nil
		}})
		p := newPastIn(t, db, 6, 25, 150)
		err := db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
			return tx.Set(kv.EpochKey(1, 0, pipeline.PositionRoom), kv.Value{1}.Uvarint(150).Varint(0).Uvarint(0))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.moveHorizon(t, archive.Horizon{Offset: 110, At: 110}); err != nil {
			t.Fatal(err)
		}
		want := all(t, p.again())
		armed, finished = true, true
		for more := true; more; {
			if _, more, err = p.again().Trim(ctx, 1, fence, 2000); err != nil {
				finished = false
				break
			}
		}
		left := db.Crash(0)
		log, err := kvlog.Open(ctx, left, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p = &past{db: left, log: log}
		if diff := cmp.Diff(want, all(t, p.again())); diff != "" {
			t.Fatalf("killed at commit %d: -hidden +half trimmed:\n%s", kill, diff)
		}
		for more := true; more; {
			armed = false
			if _, more, err = p.again().Trim(ctx, 1, fence, 2000); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, all(t, p.again())); diff != "" {
			t.Fatalf("killed at commit %d: -hidden +trimmed:\n%s", kill, diff)
		}
		bodies(t, left, func(offset commitlog.Offset, body []byte) {
			if offset < 110 && len(body) > 0 {
				t.Errorf("killed at commit %d: record %d still has %q", kill, offset, body)
			}
		})
		var verdicts int
		err = left.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(kv.Prefix(kv.SpaceKey(1, archive.VerdictRoom))) {
				if err != nil {
					return err
				}
				verdicts += bytes.Count(pair.Value, []byte(`"changed":true`))
			}
			return nil
		})
		if err != nil || verdicts != 4 { // of the records 115, 125, 135 and 145
			t.Errorf("killed at commit %d: %d bodies are left in verdicts (%v), want 4", kill, verdicts, err)
		}
	}
}
