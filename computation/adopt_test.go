package computation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// baseEpoch is the base of the histories in this file; the epochs behind it are
// rebuilt.
const baseEpoch = rowtest.Epoch + 1

// TestBaseAndArchiveAreTheTruth leads random histories through the row while
// the horizon moves: audiences that come, change, stand still, go and come
// again, late events, merges. Whenever it looks, what begins as a copy of the
// base and is led on from the horizon has the members that the live epoch has,
// and counts what that counts, cell by cell.
func TestBaseAndArchiveAreTheTruth(t *testing.T) {
	var seen struct{ advances, early, deep, compared, members, cells int }
	rapid.Check(t, func(t *rapid.T) {
		h := &retained{history: &history{T: t, world: newWorld(t, memkv.New()), versions: map[string][]*version{}}}
		h.instants, h.settled = map[int64]bool{}, map[string]int{}
		h.builder.cfg.History = whole{h}
		for range rapid.IntRange(1, 3).Draw(t, "audiences") {
			h.declareOne()
		}
		for range rapid.IntRange(2, 5).Draw(t, "rounds") {
			for range rapid.IntRange(2, 15).Draw(t, "steps") {
				h.stepRetained()
			}
			h.advanceBase()
			for range rapid.IntRange(0, 8).Draw(t, "steps") {
				h.stepRetained()
			}
			h.rebuild()
		}
		seen.advances += h.advances
		seen.early += h.early
		seen.deep += h.deep
		seen.compared += h.comparedTo
		seen.members += h.members
		seen.cells += h.cells
	})
	t.Logf("%+v", seen)
	if seen.advances < 100 || seen.early < 50 || seen.deep < 50 || seen.members < 100 || seen.cells < 100 {
		t.Errorf("the histories were too tame: %+v", seen)
	}
}

// retained is a history of which only the newest is kept.
type retained struct {
	*history
	made   int    // audiences
	epochs uint32 // rebuilt

	advances, early, deep, comparedTo, cells int
}

// whole is the archive, of which nothing behind the horizon may be asked.
type whole struct{ *retained }

// Scan implements History.
func (w whole) Scan(ctx context.Context, space, epoch uint32, from, to commitlog.Offset, want func(*event.Head) bool, fn func(archive.Entry) error) error {
	if at := w.horizon(); from < at.Offset {
		return fmt.Errorf("a scan from %d on, and the horizon is %d", from, at.Offset)
	}
	return w.row.Archive.Scan(ctx, space, epoch, from, to, want, func(e archive.Entry) error {
		if len(e.Body) == 0 {
			return fmt.Errorf("record %d has no body", e.Offset)
		}
		return fn(e)
	})
}

func (h *retained) horizon() (at archive.Horizon) {
	h.row.View(func(r kv.Reader) (err error) {
		at, err = archive.HorizonOf(r, rowtest.Space)
		return err
	})
	return at
}

func (h *retained) stepRetained() {
	switch rapid.IntRange(0, 12).Draw(h.T, "step") {
	case 0, 1:
		h.advance(time.Duration(rapid.IntRange(0, 20).Draw(h.T, "hours")) * hour)
	case 2, 3:
		h.declareOne()
	case 4:
		h.turnOne()
	case 5, 6:
		h.buildStep()
	default:
		var calls []rowtest.Call
		for range rapid.IntRange(1, 6).Draw(h.T, "events") {
			calls = append(calls, h.call())
		}
		h.row.Send(calls...)
	}
}

// declareOne declares an audience or changes one.
func (h *retained) declareOne() {
	key := fmt.Sprintf("aud%d", rapid.IntRange(0, 4).Draw(h.T, "audience"))
	var readable []string
	id := ""
	for _, a := range h.snapshot.Audiences {
		if a.Key == key {
			id = a.ID
		}
		if a.Enabled && a.Key < key {
			readable = append(readable, a.Key)
		}
	}
	if id == "" {
		h.made++
		id = fmt.Sprintf("aud_%d", h.made)
	}
	a := workspace.Audience{ID: id, Key: key, Name: key, Enabled: true, Query: h.query(1, readable)}
	switch rapid.IntRange(0, 9).Draw(h.T, "options") {
	case 0:
		no := false
		a.Options.IncludeHistoricalData = &no
	case 1:
		days := rapid.IntRange(0, 2).Draw(h.T, "days")
		a.Options.BackfillEventDataDays = &days
	}
	h.declare(a)
}

// turnOne disables, enables or deletes an audience that nobody reads. What is
// disabled while it is computed has no members that one could keep, so all is
// computed first, as it is in a rebuild.
func (h *retained) turnOne() {
	if len(h.snapshot.Audiences) == 0 {
		return
	}
	a := rapid.SampledFrom(h.snapshot.Audiences).Draw(h.T, "turned")
	for _, other := range h.snapshot.Audiences {
		if strings.Contains(other.Query, "'"+a.Key+"'") {
			return
		}
	}
	h.build()
	if rapid.IntRange(0, 2).Draw(h.T, "delete") == 0 {
		h.remove(a.Key)
		return
	}
	if a.Enabled = !a.Enabled; a.Enabled {
		for _, other := range h.snapshot.Audiences {
			if !other.Enabled && strings.Contains(a.Query, "'"+other.Key+"'") {
				return
			}
		}
	}
	h.declare(a)
}

// standing is an epoch beside the live one, with its loop at an offset.
type standing struct {
	engine  *Engine
	loop    *pipeline.Loop
	builder *Builder
	close   func()
}

// stand opens an epoch up to an offset, from where it stands, and waits there.
func (h *retained) stand(epoch uint32, end commitlog.Offset) *standing {
	live := h.engine
	stages := h.stages()
	s := &standing{engine: h.engine}
	h.engine = live
	ctx, cancel := context.WithCancel(context.Background())
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: h.row.DB, Snapshots: h.row.Snapshots(), Stages: stages, Recorder: h.row.Archive, Space: rowtest.Space, Epoch: epoch,
		Logger: slog.New(slog.DiscardHandler), Past: upTo{h.row.Archive.Past(rowtest.Space, h.row.Loop.Passed), end},
	})
	if err != nil {
		h.T.Fatal(err)
	}
	s.loop = loop
	s.builder = NewBuilder(h.builder.cfg)
	s.builder.cfg.Loop, s.builder.cfg.Engine, s.builder.cfg.Epoch = loop, s.engine, epoch
	s.builder.keys.epoch, s.builder.place.epoch = epoch, epoch
	s.builder.parts, s.builder.step = rapid.IntRange(1, 5).Draw(h.T, "parts"), 3
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	s.close = func() {
		cancel()
		if err := <-ended; err != nil {
			h.T.Fatalf("epoch %d: %v", epoch, err)
		}
	}
	if end > 0 {
		within, over := context.WithTimeout(ctx, 20*time.Second)
		defer over()
		if err := loop.Passed(within, end-1); err != nil {
			h.T.Fatalf("epoch %d did not come to %d: %v", epoch, end, err)
		}
	}
	return s
}

// upTo is a past that ends at an offset, where a loop is to wait.
type upTo struct {
	pipeline.Past
	end commitlog.Offset
}

var errUpTo = errors.New("the end")

// Follow implements pipeline.Past.
func (p upTo) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if from >= p.end {
		return from, nil
	}
	next, err := p.Past.Follow(ctx, from, maxBytes, func(j *pipeline.Judged) error {
		if j.Offset >= p.end {
			return errUpTo
		}
		return fn(j)
	})
	if errors.Is(err, errUpTo) {
		err = nil
	}
	return next, err
}

// Wait implements pipeline.Past.
func (p upTo) Wait(ctx context.Context, at commitlog.Offset) error {
	if at >= p.end {
		<-ctx.Done()
		return ctx.Err()
	}
	return p.Past.Wait(ctx, at)
}

// finish lets the Builder of an epoch work until there is nothing left to do.
// It dies once in a while.
func (h *retained) finish(s *standing) {
	loop := s.builder.cfg.Loop
	for {
		if rapid.IntRange(0, 9).Draw(h.T, "dies") == 0 {
			s.builder.cfg.Loop = &mortal{Loop: loop, left: rapid.IntRange(0, 2).Draw(h.T, "transactions")}
		}
		busy, err := s.builder.work(h.T.Context())
		s.builder.cfg.Loop = loop
		if err != nil && !errors.Is(err, errDied) {
			h.T.Fatal(err)
		}
		if !busy && err == nil {
			return
		}
	}
}

// lead leads an epoch up to an offset; behind every configuration it waits
// until all is computed.
func (h *retained) lead(epoch uint32, end commitlog.Offset) {
	var from commitlog.Offset
	h.row.View(func(r kv.Reader) error {
		pos, err := pipeline.ReadPosition(r, rowtest.Space, epoch)
		from = pos.Next
		return err
	})
	marks, err := h.row.Archive.Landmarks(h.T.Context(), rowtest.Space, end)
	if err != nil {
		h.T.Fatal(err)
	}
	stops := []commitlog.Offset{}
	for _, m := range marks {
		if m.Offset >= from {
			stops = append(stops, m.Offset+1)
		}
	}
	for _, stop := range append(stops, end) {
		s := h.stand(epoch, stop)
		h.finish(s)
		s.close()
	}
}

// passed is where the live loop stands.
func (h *retained) passed() commitlog.Offset { return h.row.Loop.Position().Next }

// advanceBase moves the base and the horizon on.
func (h *retained) advanceBase() {
	var pos pipeline.Position
	read := func() {
		h.row.View(func(r kv.Reader) (err error) {
			pos, err = pipeline.ReadPosition(r, rowtest.Space, baseEpoch)
			return err
		})
	}
	read()
	to := commitlog.Offset(rapid.Uint64Range(uint64(pos.Next), uint64(h.passed())).Draw(h.T, "base"))
	h.lead(baseEpoch, to)
	read()
	for {
		s := h.stand(baseEpoch, to)
		var w Wanted
		h.row.View(func(r kv.Reader) (err error) {
			w, err = h.engine.Reader().Wanted(r, rowtest.Space, rowtest.Epoch)
			return err
		})
		if err := Adopt(h.T.Context(), s.loop, w); err != nil {
			h.T.Fatal(err)
		}
		h.finish(s)
		s.close()
		if rapid.IntRange(0, 4).Draw(h.T, "meanwhile") == 0 {
			h.stepRetained()
		}
		moved, waits := false, false
		err := h.row.Loop.Do(h.T.Context(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
			lacks, busy, err := h.engine.Reader().Lacks(b.Tx, rowtest.Space, rowtest.Epoch, baseEpoch)
			if moved, waits = !lacks && !busy, busy; err != nil || !moved {
				return err
			}
			return h.row.Archive.MoveHorizon(b, archive.Horizon{Offset: to, At: pos.At, Moved: h.row.Clock.Now().UnixMilli()})
		})
		if err != nil {
			h.T.Fatal(err)
		}
		if moved {
			break
		}
		if waits {
			h.build()
		}
	}
	h.advances++
	h.early += len(h.registry(baseEpoch).Early)
}

func (h *retained) registry(epoch uint32) (reg *registry) {
	h.row.View(func(r kv.Reader) error {
		value, err := r.Get(keys{rowtest.Space, epoch}.registry())
		if err == nil {
			reg, err = decodeRegistry(value)
		}
		return err
	})
	return reg
}

// rebuild makes an epoch of the base, leads it on and compares.
func (h *retained) rebuild() {
	h.build()
	h.epochs++
	epoch := baseEpoch + h.epochs
	err := h.row.DB.Update(h.T.Context(), pipeline.Fence(rowtest.Space, epoch), kv.Durable, func(tx kv.Tx) error {
		all := kv.EpochRange(rowtest.Space, baseEpoch)
		stem := kv.Key(kv.EpochRange(rowtest.Space, epoch).From)
		var err error
		h.row.View(func(r kv.Reader) error {
			for pair, failed := range r.Scan(all) {
				if err = failed; err == nil {
					err = tx.Set(stem.Clone().Fixed(pair.Key[len(all.From):]), bytes.Clone(pair.Value))
				}
			}
			return err
		})
		return err
	})
	if err != nil {
		h.T.Fatal(err)
	}
	h.lead(epoch, h.passed())
	h.carry(epoch)
	was, is := h.counted(rowtest.Epoch), h.counted(epoch)
	for key, want := range was {
		if got := is[key]; got != want {
			h.T.Errorf("%s\nlive    %s\nrebuilt %s", key, want, got)
		}
		delete(is, key)
	}
	for key, got := range is {
		h.T.Errorf("%s\nis nothing in the live epoch\nrebuilt %s", key, got)
	}
	if h.T.Failed() {
		h.T.Fatalf("base at %d of %d", h.horizon().Offset, h.passed())
	}
}

// carry holds what is counted in an epoch that was rebuilt, put under the live
// epoch's numbers, against what the live epoch counts.
func (h *retained) carry(epoch uint32) {
	other := memkv.New()
	defer func() { _ = other.Close() }()
	h.row.View(func(r kv.Reader) error {
		people, err := identity.NewReader(r, rowtest.Space, epoch).People(event.ProfileID{}, 1000)
		if err != nil {
			return err
		}
		if err := other.Update(h.T.Context(), pipeline.Fence(rowtest.Space, rowtest.Epoch), kv.Durable, func(tx kv.Tx) error {
			return h.engine.Reader().CarryCells(r, tx, rowtest.Space, epoch, rowtest.Epoch, people)
		}); err != nil {
			return err
		}
		return other.View(h.T.Context(), func(o kv.Reader) error {
			now := h.row.Clock.Now().UnixMilli()
			for a := range h.asked(rowtest.Epoch) {
				for _, id := range people {
					var cells [2]string
					for i, from := range []kv.Reader{r, o} {
						value, err := from.Get(keys{rowtest.Space, rowtest.Epoch}.shelf(id, a.Shelf))
						if err != nil {
							return err
						}
						cells[i] = printed(must(must(decodeShelf(a.Shelf, value)).cell(a)), a, now)
					}
					if link, err := identity.NewReader(r, rowtest.Space, epoch).Link(id); err != nil || link != nil {
						continue
					}
					if cells[0] != cells[1] {
						h.T.Errorf("%s of %s\nlive    %s\ncarried %s", a.Event, id, cells[0], cells[1])
					}
				}
			}
			return nil
		})
	})
}

// asked yields the aggregates that count for live builds of an epoch, as these
// ask for them: what nobody asks for may be kept or not.
func (h *retained) asked(epoch uint32) iter.Seq2[*aggregate, string] {
	return func(yield func(*aggregate, string) bool) {
		reg := h.registry(epoch)
		for _, a := range h.snapshot.Audiences {
			b := reg.standing(a.ID)
			if b == nil || b.State == frozen {
				continue
			}
			for i, n := range b.Counts {
				want := b.wants(&must(b.program()).Aggregates[i])
				x := *reg.aggregate(n)
				x.Keep, x.Reach = want.Keep, want.Reach
				if !yield(&x, fmt.Sprintf("%s %d: %s", a.ID, i, b.Audience.Query)) {
					return
				}
			}
		}
	}
}

// printed is what a cell holds that an aggregate asks for.
func printed(c *cell, a *aggregate, now int64) string {
	c.trim(a, now)
	if c.empty() {
		return ""
	}
	var moments []string // of one instant in any order
	for _, m := range c.moments {
		moments = append(moments, fmt.Sprint(m))
	}
	slices.Sort(moments)
	return fmt.Sprint(c.count, c.at, moments)
}

// counted lists the members of all audiences, and what is counted for those
// that are followed.
func (h *retained) counted(epoch uint32) map[string]string {
	all := map[string]string{}
	reg, now := h.registry(epoch), h.row.Clock.Now().UnixMilli()
	h.row.View(func(r kv.Reader) error {
		people, err := identity.NewReader(r, rowtest.Space, epoch).People(event.ProfileID{}, 1000)
		if err != nil {
			return err
		}
		for _, a := range h.snapshot.Audiences {
			b := reg.standing(a.ID)
			if b == nil {
				all[a.ID] = "none"
				continue
			}
			list, err := members(r, keys{rowtest.Space, epoch}, b.Number, event.ProfileID{}, 1000)
			if err != nil {
				return err
			}
			h.comparedTo++
			h.members += len(list)
			all[a.ID] = fmt.Sprint(b.State, " ", b.Audience.Version, " ", ids(list))
		}
		for x, name := range h.asked(epoch) {
			all[name] = fmt.Sprintf("from %+v", x.Depth)
			if x.Depth.Offset > 0 {
				h.deep++
			}
			for _, id := range people {
				value, err := r.Get(keys{rowtest.Space, epoch}.shelf(id, x.Shelf))
				if err != nil {
					return err
				}
				if link, err := identity.NewReader(r, rowtest.Space, epoch).Link(id); err != nil || link != nil {
					continue // its cells stay as they were when it was merged away
				}
				if text := printed(must(must(decodeShelf(x.Shelf, value)).cell(x)), x, now); text != "" {
					h.cells++
					all[name+" "+id.String()] = text
				}
			}
		}
		return nil
	})
	return all
}
