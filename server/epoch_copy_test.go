package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/commitlog"
	"kith/kv"
	"kith/pipeline"
	"kith/rebuild"
)

// endingPast is a past that ends at an offset.
type endingPast struct {
	pipeline.Past
	end commitlog.Offset
}

var errEnd = errors.New("the past ends within what was read")

// Follow reads on, up to the end.
func (p endingPast) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if from >= p.end {
		return from, nil
	}
	next, err := p.Past.Follow(ctx, from, maxBytes, func(j *pipeline.Judged) error {
		if j.Offset >= p.end {
			return errEnd
		}
		return fn(j)
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return next, err
}

// Wait knows of nothing at the end or behind it.
func (p endingPast) Wait(ctx context.Context, at commitlog.Offset) error {
	if at >= p.end {
		return pipeline.ErrPastEnds
	}
	return p.Past.Wait(ctx, at)
}

// lead leads an epoch that is not live through the records up to an offset, and
// leaves it there.
func (n *inn) lead(epoch uint32, end commitlog.Offset) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	house := rebuildHouse{n.s}
	if err := house.Prepare(ctx, 1, &rebuild.Epoch{Number: epoch, Rules: rebuild.Recorded}); err != nil {
		n.t.Fatal(err)
	}
	r, err := n.s.openReplay(ctx, n.s.space(1), epoch)
	if err != nil {
		n.t.Fatal(err)
	}
	r.past.inner = endingPast{r.past.inner, end}
	if err := r.Run(ctx); err != nil {
		n.t.Fatal(err)
	}
	if at := r.loop.Position().Next; at != end || ctx.Err() != nil {
		n.t.Fatalf("epoch %d stands at %d, want %d: %v", epoch, at, end, ctx.Err())
	}
}

// copyEpoch gives an epoch all that another holds.
func (n *inn) copyEpoch(from, to uint32) {
	n.t.Helper()
	err := n.s.db.Update(n.t.Context(), pipeline.Fence(1, to), kv.Durable, func(tx kv.Tx) error {
		return n.s.db.View(n.t.Context(), func(r kv.Reader) error {
			all := kv.EpochRange(1, from)
			stem := kv.Key(kv.EpochRange(1, to).From)
			for pair, err := range r.Scan(all) {
				if err != nil {
					return err
				}
				if err := tx.Set(stem.Clone().Fixed(pair.Key[len(all.From):]), append(kv.Value{}, pair.Value...)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// Whatever a replay needs beside the records to come is among the keys of its
// epoch: one that was left anywhere, and copied, and led further, becomes what
// the live one is; and so does what it was copied of.
func TestEpochIsAllThatWasBefore(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, seed, nil)
			n.apply(1, 2, 30, true)
			n.live(150)
			end := n.s.space(1).raw.End()
			first := commitlog.Offset(1 + n.dice.IntN(int(end)-1))
			n.lead(2, first)
			n.copyEpoch(2, 3)
			n.live(100)
			second := first + commitlog.Offset(n.dice.IntN(int(n.s.space(1).raw.End()-first)))
			n.lead(2, second)
			n.copyEpoch(2, 4)
			was := n.state(1)
			for _, epoch := range []uint32{2, 3, 4} {
				n.lead(epoch, n.s.space(1).raw.End())
				if lines := differ(was, n.state(epoch)); len(lines) > 0 {
					t.Errorf("epoch %d, left at %d and %d of %d: %d differences, among them:\n%s", epoch, first, second, n.s.space(1).raw.End(),
						len(lines), strings.Join(lines[:min(len(lines), 12)], "\n"))
				}
			}
		})
	}
}
