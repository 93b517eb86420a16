package pipeline

import (
	"context"
	"runtime"
	"sync"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline/dedup"
	"kith/workspace"
)

// feeder reads the raw log ahead of the loop and does the order-free work on
// its records: unpacking, parsing, Prepare.
type feeder struct {
	loop     *Loop
	next     commitlog.Offset
	snapshot *workspace.Snapshot
	number   uint64
}

func newFeeder(l *Loop) *feeder {
	pos := l.Position()
	return &feeder{loop: l, next: pos.Next, number: pos.Snapshot}
}

// run feeds batches into out until ctx ends, and closes out.
func (f *feeder) run(ctx context.Context, out chan<- []*Record) error {
	defer close(out)
	if err := f.configure(ctx, f.number); err != nil {
		return err
	}
	if f.loop.cfg.Past != nil {
		return f.replay(ctx, out)
	}
	log := f.loop.cfg.Raw
	for {
		if err := log.Wait(ctx, f.next); err != nil {
			return err
		}
		blocks, err := log.Read(ctx, f.next, readBytes)
		if err != nil {
			return err
		}
		for len(blocks) > 0 {
			records, n, err := f.batch(ctx, blocks)
			if err != nil {
				return err
			}
			select {
			case out <- records:
			case <-ctx.Done():
				return ctx.Err()
			}
			blocks = blocks[n:]
		}
	}
}

// readBytes is how much of the packed log is read at a time, and unpackAtOnce
// how many blocks are unpacked before their size is known: a block may hold a
// thousand times what it takes in the log.
const (
	readBytes    = 4 << 20
	unpackAtOnce = 4
)

// batch unpacks and prepares as many of the blocks as make a batch, and returns
// how many.
func (f *feeder) batch(ctx context.Context, blocks []commitlog.Block) (records []*Record, n int, err error) {
	count, bodies := 0, 0
	for n < len(blocks) && bodies < maxBatchBodies {
		k := n
		for k < len(blocks) && k-n < unpackAtOnce && (k == 0 || count+blocks[k].Count <= maxBatchRecords) {
			count += blocks[k].Count
			k++
		}
		if k == n {
			break
		}
		more, err := f.unpack(ctx, blocks[n:k])
		if err != nil {
			return nil, 0, err
		}
		for _, r := range more {
			if r.Event != nil {
				bodies += len(r.Event.Body)
			}
			bodies += len(r.Object)
		}
		records, n = append(records, more...), k
	}
	return records, n, f.prepareAll(records)
}

func (f *feeder) prepareAll(records []*Record) error {
	const chunk = 64
	var failed error
	var once sync.Once
	each((len(records)+chunk-1)/chunk, func(i int) {
		for _, r := range records[i*chunk : min(len(records), (i+1)*chunk)] {
			if err := f.prepare(r); err != nil {
				once.Do(func() { failed = err })
			}
		}
	})
	return failed
}

func (f *feeder) unpack(ctx context.Context, blocks []commitlog.Block) ([]*Record, error) {
	unpacked := make([][]event.Record, len(blocks))
	errs := make([]error, len(blocks))
	each(len(blocks), func(i int) { unpacked[i], errs[i] = event.DecodeBlock(blocks[i].Data) })
	var records []*Record
	for i, blk := range blocks {
		if errs[i] != nil {
			return nil, errs[i]
		}
		all := make([]Record, len(unpacked[i]))
		for j := range unpacked[i] {
			offset := blk.First + commitlog.Offset(j)
			if offset < f.next {
				continue // the loop stopped within this block
			}
			r := &all[j]
			r.Head, r.Offset, r.Stamped = unpacked[i][j].Head, offset, unpacked[i][j].At
			records = append(records, r)
			if err := f.fill(ctx, r, unpacked[i][j].Body); err != nil {
				return nil, err
			}
		}
	}
	f.next = blocks[len(blocks)-1].End()
	return records, nil
}

// fill gives a record its configuration and what its body says.
func (f *feeder) fill(ctx context.Context, r *Record, body []byte) error {
	if r.Kind == event.KindConfig {
		n, err := event.ConfigNumber(body)
		if err != nil {
			return err
		}
		if err := f.configure(ctx, n); err != nil {
			return err
		}
	}
	r.Snapshot, r.Source = f.snapshot, f.snapshot.Source(r.Head.Source)
	switch r.Kind {
	case event.KindEvent:
		r.Event = &event.Event{Body: body}
	case event.KindObject:
		r.Object = body
	case event.KindCommand:
		c, err := event.ParseCommand(body)
		if err != nil {
			return err
		}
		r.Command = c
	}
	return nil
}

func (f *feeder) prepare(r *Record) (err error) {
	if r.Event == nil {
		return nil
	}
	e, err := event.ParseTrusted(r.Event.Body)
	if err != nil {
		return err
	}
	r.Event = e
	identified(r)
	if f.loop.index != nil {
		r.dedup = dedup.IDOf(r.MessageID)
	}
	name := ""
	defer func() {
		if p := recover(); p != nil {
			err = f.loop.poison(r, name, p)
		}
	}()
	for _, s := range f.loop.cfg.Stages {
		if p, ok := s.(Preparer); ok {
			name = s.Name()
			p.Prepare(r)
		}
	}
	return nil
}

func (f *feeder) configure(ctx context.Context, n uint64) error {
	if n == 0 {
		f.snapshot = &workspace.Snapshot{}
		f.snapshot.Seal()
		return nil
	}
	f.number = n
	return f.loop.cfg.DB.View(ctx, func(r kv.Reader) error {
		s, err := f.loop.cfg.Snapshots.At(r, n)
		f.snapshot = s
		return err
	})
}

// each calls fn(0) … fn(n-1) on all cores and returns when all have ended.
func each(n int, fn func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			fn(i)
		}
		return
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
