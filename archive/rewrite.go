package archive

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"sort"
	"sync"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Rewriting says which part of a space's past is to be written anew.
type Rewriting struct {
	Space  uint32
	Fence  kv.Fence // of the live loop
	Epochs []uint32 // all there are
	Veil   *Veil    // what is to go
	// Note writes down whose events a step is about to redact, and which of
	// those it erases intake had blocked. A step that is cut off finds them no
	// more when it is done again, so it is called before anything changes; it
	// may be called again with the same. nil: nothing is written down.
	Note func(ctx context.Context, others map[event.ProfileID]bool, blocked []Blocked) error
}

// Rewritten is what a step of a rewriting has done.
type Rewritten struct {
	Next     commitlog.Offset // where to go on
	Records  uint64           // that were looked at
	Erased   uint64           // of which nothing is left
	Redacted uint64           // out of which identifiers were taken
	Blocks   uint64           // that were written anew
	// Others are the profiles whose events were redacted, by the ids they had
	// when these passed.
	Others map[event.ProfileID]bool
	// Blocked are records that were erased and that intake had blocked: what is
	// kept of them elsewhere goes too.
	Blocked []Blocked
}

// Blocked is where a record that intake blocked is found in quarantine.
type Blocked struct {
	Source string
	At     int64 // as the row saw it
	Offset commitlog.Offset
}

// rewritten is one block on its way.
type rewritten struct {
	page
	before  []event.Head // as they were
	block   commitlog.Block
	changed bool
	touched []bool // which records are others now
}

// Rewrite takes out of the records from an offset on, about maxBytes of them as
// they are packed, what a veil hides: from the raw log, the verdicts and what
// says whose records are. It may be done again. A reader meets what it did in
// pieces, and needs the veil until all is done.
func (a *Archive) Rewrite(ctx context.Context, w Rewriting, from commitlog.Offset, maxBytes int) (Rewritten, error) {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	done := Rewritten{Next: from, Others: map[event.ProfileID]bool{}}
	log, err := a.raw(w.Space)
	if err != nil {
		return done, err
	}
	replacer, ok := log.(commitlog.Replacer)
	if !ok {
		return done, fault.New(fault.Internal, "the raw log cannot replace blocks")
	}
	end := w.Veil.End()
	if from >= end {
		return done, nil
	}
	blocks, err := log.Read(ctx, from, maxBytes)
	if err != nil || len(blocks) == 0 {
		return done, err
	}
	list, err := a.rewriteAll(ctx, w, blocks)
	if err != nil {
		return done, err
	}
	// What says whose records are is needed to tell which go, so it changes
	// last: a step that was cut off is done again.
	if err := a.amend(ctx, w, list, &done); err != nil {
		return done, err
	}
	var others []commitlog.Block
	size := 0
	for _, r := range list {
		done.Records += uint64(len(r.heads))
		if !r.changed {
			continue
		}
		done.Blocks++
		others = append(others, r.block)
		if size += len(r.block.Data); size > maxReplace {
			if err := replacer.Replace(ctx, others...); err != nil {
				return done, err
			}
			others, size = nil, 0
		}
	}
	if err := replacer.Replace(ctx, others...); err != nil {
		return done, err
	}
	if err := a.disown(ctx, w, list); err != nil {
		return done, err
	}
	done.Next = min(list[len(list)-1].block.End(), end)
	return done, nil
}

// maxReplace is how many bytes of blocks one transaction replaces, about.
const maxReplace = 24 << 20

// rewriteAll does it with all blocks, on all cores.
func (a *Archive) rewriteAll(ctx context.Context, w Rewriting, blocks []commitlog.Block) ([]*rewritten, error) {
	list := make([]*rewritten, len(blocks))
	errs := make([]error, len(blocks))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), len(blocks)) {
		wg.Go(func() {
			for i := range next {
				list[i], errs[i] = a.rewriteBlock(ctx, w, blocks[i])
			}
		})
	}
	for i := range blocks {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// rewriteBlock makes the block anew if something goes.
func (a *Archive) rewriteBlock(ctx context.Context, w Rewriting, blk commitlog.Block) (*rewritten, error) {
	heads, err := event.DecodeHeads(blk.Data)
	if err != nil {
		return nil, err
	}
	r := &rewritten{page: page{first: blk.First, heads: heads, veil: w.Veil}, before: append([]event.Head{}, heads...), block: blk}
	r.touched = make([]bool, len(heads))
	if err := a.db.View(ctx, func(reader kv.Reader) error { return r.hide(reader, w.Space) }); err != nil {
		return nil, err
	}
	bodies, err := event.DecodeBodies(blk.Data)
	if err != nil {
		return nil, err
	}
	for i := range r.fates {
		shown := r.body(i, bodies[i])
		if r.fates[i].changed || !same(shown, bodies[i]) {
			r.changed, r.touched[i] = true, true
		}
		bodies[i] = shown
	}
	if !r.changed {
		return r, nil
	}
	records := make([]event.Record, len(heads))
	for i := range records {
		records[i] = event.Record{Head: r.heads[i], Body: bodies[i]}
	}
	r.block.Payload = event.EncodeBlock(records)
	return r, nil
}

// same reports whether two slices are one, or both empty.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// amend takes out of verdicts and histories what belongs to records that were
// erased or redacted.
func (a *Archive) amend(ctx context.Context, w Rewriting, list []*rewritten, done *Rewritten) error {
	from, to := list[0].block.First, list[len(list)-1].block.End()
	runs, err := a.verdictsOf(ctx, w.Space, from, to)
	if err != nil {
		return err
	}
	if n := len(runs); n > 0 && runs[n-1].first+commitlog.Offset(runs[n-1].count) < min(to, w.Veil.End()) && len(list) > 1 {
		return a.amendInParts(ctx, w, list, done)
	}
	*done = Rewritten{Next: done.Next, Others: map[event.ProfileID]bool{}}
	runs = slices.DeleteFunc(runs, func(run *verdictRun) bool { return !run.amend(list, done) })
	touched := false
	for _, r := range list {
		for i := range r.touched {
			switch {
			case !r.touched[i]:
				continue
			case r.heads[i].Kind == event.KindErased:
				done.Erased++
			default:
				done.Redacted++
			}
			touched = true
		}
	}
	if !touched {
		return nil
	}
	err = a.db.View(ctx, func(r kv.Reader) error {
		clear(done.Others)
		for _, epoch := range w.Epochs {
			if err := othersOf(r, w.Space, epoch, list, done.Others); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && w.Note != nil && len(done.Others)+len(done.Blocked) > 0 {
		err = w.Note(ctx, done.Others, done.Blocked)
	}
	if err != nil {
		return err
	}
	return a.db.Update(ctx, w.Fence, kv.Durable, func(tx kv.Tx) error {
		for _, run := range runs {
			if err := tx.Set(runKey(verdictStem(w.Space), run.first), run.encode()); err != nil {
				return err
			}
		}
		for _, epoch := range w.Epochs {
			if err := amendHistory(tx, w.Space, epoch, list); err != nil {
				return err
			}
		}
		for _, r := range list {
			for i, touched := range r.touched {
				if !touched || r.heads[i].Kind != event.KindErased || r.before[i].Kind != event.KindCommand {
					continue
				}
				if err := tx.Delete(runKey(landmarkStem(w.Space), r.first+commitlog.Offset(i))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// amendInParts does it where the verdicts are more than are read at once: one
// block after another.
func (a *Archive) amendInParts(ctx context.Context, w Rewriting, list []*rewritten, done *Rewritten) error {
	all := Rewritten{Next: done.Next, Others: map[event.ProfileID]bool{}}
	for i := range list {
		var one Rewritten
		if err := a.amend(ctx, w, list[i:i+1], &one); err != nil {
			return err
		}
		all.Erased, all.Redacted = all.Erased+one.Erased, all.Redacted+one.Redacted
		all.Blocked = append(all.Blocked, one.Blocked...)
		for p := range one.Others {
			all.Others[p] = true
		}
	}
	*done = all
	return nil
}

// find returns the block of a list that holds a record, and its place there;
// nil when there is none.
func find(list []*rewritten, at commitlog.Offset) (*rewritten, int) {
	i := sort.Search(len(list), func(i int) bool { return list[i].block.End() > at })
	if i == len(list) || at < list[i].first {
		return nil, 0
	}
	return list[i], int(at - list[i].first)
}

// amend applies to verdicts what became of their records.
func (r *verdictRun) amend(list []*rewritten, done *Rewritten) (changed bool) {
	for i, odd := range r.odd {
		o := r.first + commitlog.Offset(i)
		w, n := find(list, o)
		if w == nil {
			continue
		}
		shown := w.verdict(n, odd.verdict)
		if shown.Code == odd.verdict.Code && shown.Reason == odd.verdict.Reason && same(shown.Body, odd.verdict.Body) {
			continue
		}
		if odd.verdict.Code == pipeline.Blocked && shown.Code != pipeline.Blocked {
			done.Blocked = append(done.Blocked, Blocked{Source: w.before[n].Source, At: w.before[n].At + odd.raised, Offset: o})
		}
		w.touched[n] = true // if only in the verdict
		odd.verdict = shown
		r.odd[i] = odd
		changed = true
	}
	return changed
}

// othersOf notes whose the redacted records are in an epoch.
func othersOf(r kv.Reader, space, epoch uint32, list []*rewritten, others map[event.ProfileID]bool) error {
	return eachTouched(r, space, epoch, list, func(w *rewritten, i int, p event.ProfileID) error {
		if w.heads[i].Kind != event.KindErased {
			others[p] = true
		}
		return nil
	})
}

// amendHistory takes erased records out of the histories of an epoch.
func amendHistory(tx kv.Tx, space, epoch uint32, list []*rewritten) error {
	return eachTouched(tx, space, epoch, list, func(w *rewritten, i int, p event.ProfileID) error {
		if w.heads[i].Kind != event.KindErased {
			return nil
		}
		at := w.first + commitlog.Offset(i)
		return tx.Delete(historyStem(space, epoch, p).Int64(w.before[i].Time).Uint64(uint64(at)))
	})
}

// eachTouched calls fn with the events that are others now and whose they are.
func eachTouched(r kv.Reader, space, epoch uint32, list []*rewritten, fn func(w *rewritten, i int, p event.ProfileID) error) error {
	reader := runReader{reader: r, space: space, epoch: epoch}
	for _, w := range list {
		for i, touched := range w.touched {
			if !touched || w.before[i].Kind != event.KindEvent {
				continue
			}
			at := w.first + commitlog.Offset(i)
			run, err := reader.profiles(at)
			if err != nil {
				return err
			}
			if run == nil {
				return nil // the epoch's loop has not come here
			}
			whose := run.of(at)
			for _, p := range []event.ProfileID{whose.Profile, whose.Account} {
				if p.IsZero() {
					continue
				}
				if err := fn(w, i, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// disown makes erased records nobody's in all epochs.
func (a *Archive) disown(ctx context.Context, w Rewriting, list []*rewritten) error {
	if !slices.ContainsFunc(list, func(r *rewritten) bool {
		return slices.ContainsFunc(r.heads, func(h event.Head) bool { return h.Kind == event.KindErased })
	}) {
		return nil
	}
	return a.db.Update(ctx, w.Fence, kv.Durable, func(tx kv.Tx) error {
		for _, epoch := range w.Epochs {
			if err := disown(tx, w.Space, epoch, list); err != nil {
				return err
			}
		}
		return nil
	})
}

func disown(tx kv.Tx, space, epoch uint32, list []*rewritten) error {
	reader := runReader{reader: tx, space: space, epoch: epoch}
	changed := map[*profileRun]bool{}
	for _, r := range list {
		for i := range r.heads {
			if r.heads[i].Kind != event.KindErased {
				continue
			}
			at := r.first + commitlog.Offset(i)
			run, err := reader.profiles(at)
			if err != nil {
				return err
			}
			if run == nil {
				break
			}
			if run.of(at) == (Whose{}) {
				continue
			}
			run.profiles[at-run.first], run.accounts[at-run.first] = event.ProfileID{}, event.ProfileID{}
			changed[run] = true
			if err := tx.Delete(runKey(overlayStem(space, epoch), at)); err != nil {
				return err
			}
		}
	}
	for run := range changed {
		if err := tx.Set(runKey(profileStem(space, epoch), run.first), run.encode()); err != nil {
			return err
		}
	}
	return nil
}

// RewriteOutputs takes out of the resolved log, from an offset on and about
// maxBytes of it as it is packed, what a veil hides. It returns where to go on,
// and how many outputs and blocks it has changed.
func (a *Archive) RewriteOutputs(ctx context.Context, w Rewriting, log commitlog.Replacer, from commitlog.Offset, maxBytes int) (next commitlog.Offset, outputs, blocks uint64, err error) {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	end := w.Veil.OutputsEnd()
	if from >= end {
		return from, 0, 0, nil
	}
	list, err := log.Read(ctx, from, maxBytes)
	if fault.Is(err, fault.NotFound) { // it was trimmed
		var t Trimmed
		err = a.db.View(ctx, func(r kv.Reader) error {
			t, err = TrimmedOf(r, w.Space)
			return err
		})
		if err == nil {
			list, err = log.Read(ctx, max(from, t.Outputs), maxBytes)
		}
	}
	if err != nil || len(list) == 0 {
		return from, 0, 0, err
	}
	next = min(list[len(list)-1].End(), end)
	var others []commitlog.Block
	for _, blk := range list {
		n, err := w.Veil.hideOutputs(&blk)
		if err != nil {
			return from, 0, 0, err
		}
		if n > 0 {
			outputs += n
			others = append(others, blk)
		}
	}
	if len(others) == 0 {
		return next, 0, 0, nil
	}
	err = a.db.Update(ctx, w.Fence, kv.Durable, func(tx kv.Tx) error { return log.ReplaceTx(tx, others...) })
	return next, outputs, uint64(len(others)), err
}

// Reduce leaves of an erasure nothing but its receipt: its command in the raw
// log, which names whom it erases, and what readers hide by it. Rewrite has
// gone before.
func (a *Archive) Reduce(ctx context.Context, w Rewriting, at commitlog.Offset, receipt *Receipt) error {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	log, err := a.raw(w.Space)
	if err != nil {
		return err
	}
	replacer, ok := log.(commitlog.Replacer)
	if !ok {
		return fault.New(fault.Internal, "the raw log cannot replace blocks")
	}
	blocks, err := log.Read(ctx, at, 1)
	if err != nil || len(blocks) == 0 {
		return err
	}
	records, err := event.DecodeBlock(blocks[0].Data)
	if err != nil {
		return err
	}
	record := &records[at-blocks[0].First]
	c, err := event.ParseCommand(record.Body)
	if err != nil {
		return err
	}
	set := newMask(0, w.Veil.list).set
	short := event.Command{Erase: &event.Erase{Receipt: receipt.Hash}, By: set.Text(c.By), Note: set.Text(c.Note)}
	if record.Body, err = short.Encode(); err != nil {
		return err
	}
	blocks[0].Payload = event.EncodeBlock(records)
	if err := replacer.Replace(ctx, blocks[0]); err != nil {
		return err
	}
	err = a.db.Update(ctx, w.Fence, kv.Durable, func(tx kv.Tx) error {
		e, err := ErasureAt(tx, w.Space, at)
		if err != nil || e == nil {
			return err
		}
		e.Profiles, e.Others, e.Identifiers, e.Receipt = nil, nil, nil, receipt
		e.By, e.Note = set.Text(e.By), set.Text(e.Note)
		return a.Erase(tx, w.Space, e)
	})
	if err != nil {
		return err
	}
	return a.Unhide(ctx, w.Space, at)
}

// Epochs returns the epochs of a space of which something is kept, in order.
func Epochs(r kv.Reader, space uint32) (epochs []uint32, err error) {
	all := kv.SpaceRange(space)[1]
	stem := kv.Key(bytes.Clone(all.From))
	for from := all.From; ; {
		found := false
		for pair, err := range r.Scan(kv.Range{From: from, To: all.To, Limit: 1}) {
			if err != nil {
				return nil, err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			epoch := parts.Uint32()
			if !parts.OK() {
				return nil, errRun
			}
			epochs, found = append(epochs, epoch), true
			if from = kv.PrefixEnd(stem.Clone().Uint32(epoch)); from == nil {
				return epochs, nil
			}
		}
		if !found {
			return epochs, nil
		}
	}
}
