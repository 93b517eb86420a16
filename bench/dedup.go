package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"kith/commitlog"
	"kith/kv"
	"kith/kv/pebblekv"
	"kith/pipeline/dedup"
)

// The stream that dedup is measured with: ids that are new but for one in a
// hundred, of which half came within the last minutes and half at any time
// since twice the window. Time passes so that the keys fill one window, and
// then a bucket and more beyond.
const (
	dedupWindow = 30 * 24 * time.Hour
	dedupBatch  = 2000
	dedupSteps  = 12 // ten for the window, two beyond
	dedupAgain  = 100
)

// dedupRun is the index of the messageIds alone, in this process.
type dedupRun struct {
	db     *pebblekv.DB
	index  *dedup.Index
	every  float64 // milliseconds from one id to the next
	next   uint64  // the number of the next new id
	random *rand.Rand
	found  int
	// What is true, to compare with: the numbers that were not sent in their
	// turn, and the turns of those that counted out of it.
	skipped []uint64
	counted map[uint64]uint64
	// Of the last step.
	looks, writes time.Duration
	// Of the last open.
	store, opened time.Duration
}

// dedup measures what it costs to remember the messageIds of a window.
func (b *bench) dedup(ctx context.Context) (err error) {
	dir, err := b.folder("dedup")
	if err != nil {
		return err
	}
	keys := max(b.keys/dedupBatch/10, 1) * dedupBatch * 10
	fmt.Printf("dedup: the index alone, %d ids in a window of 30 days and a fifth more; one in %d came before; Pebble, batches of %d with an fsync\n",
		keys, dedupAgain, dedupBatch)
	d := &dedupRun{every: float64(dedupWindow.Milliseconds()) / float64(keys), random: rand.New(rand.NewPCG(1, 2)),
		skipped: make([]uint64, keys/50+1000), counted: map[uint64]uint64{}}
	closed, err := d.open(ctx, dir)
	if err != nil {
		return err
	}
	var before pebblekv.Stats
	var asked uint64
	for step := range dedupSteps {
		n := keys / 10
		began, cpu := time.Now(), spent()
		if err := d.run(ctx, n); err != nil {
			return errors.Join(err, closed())
		}
		took, stats, figures := time.Since(began), d.db.Stats(), d.index.Stats()
		per := func(t time.Duration) float64 { return t.Seconds() * 1e6 / float64(n) }
		row(fmt.Sprintf("%d ids", (step+1)*n), "%5.2f µs an id to look up, %5.2f to write and commit, %5.2f of CPU in all, %.0f s; the store was asked %.3f times; %4.0f B written; %.1f B an id of the window on disk (debt %.0f MB); filters %.0f MB, %d of %d buckets without; RSS %.0f MB",
			per(d.looks), per(d.writes), per(spent()-cpu), took.Seconds(), float64(figures.Asked-asked)/float64(n), float64(stats.Written-before.Written)/float64(n),
			float64(stats.Disk)/float64(min(d.next, uint64(keys))), float64(stats.Debt)/1e6, float64(figures.FilterBytes)/1e6, figures.Bare, figures.Buckets, resident()/1e6)
		before, asked = stats, figures.Asked
	}
	row("found again", "%d, all that should be and no other", d.found)
	if err := closed(); err != nil {
		return err
	}
	return d.again(ctx, dir)
}

// open opens the store and the index, whose Run it starts; closed ends both.
func (d *dedupRun) open(ctx context.Context, dir string) (closed func() error, err error) {
	began := time.Now()
	if d.db, err = pebblekv.Open(filepath.Join(dir, "store"), pebblekv.Options{}); err != nil {
		return nil, err
	}
	d.store, began = time.Since(began), time.Now()
	d.index, err = dedup.Open(ctx, dedup.Config{DB: d.db, Space: 1, Window: dedupWindow, Logger: slog.New(slog.DiscardHandler)}, d.at(max(d.next, 1)-1))
	if err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	d.opened = time.Since(began)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.index.Run(ctx)
	}()
	return func() error {
		cancel()
		<-ended
		return d.db.Close()
	}, nil
}

// again opens what was closed, and measures how long it takes to be as before.
func (d *dedupRun) again(ctx context.Context, dir string) error {
	runtime.GC()
	began := time.Now()
	closed, err := d.open(ctx, dir)
	if err != nil {
		return err
	}
	if err := d.run(ctx, dedupBatch); err != nil {
		return errors.Join(err, closed())
	}
	first := d.looks
	for d.index.Stats().Bare > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), closed())
		}
	}
	row("started again", "%.2f s for Pebble and %.3f s for the index to open; %.0f µs an id to look up in the first batch, without filters; all filters back after %.2f s more",
		d.store.Seconds(), d.opened.Seconds(), first.Seconds()*1e6/dedupBatch, (time.Since(began) - d.store - d.opened).Seconds())
	return errors.Join(d.drop(ctx), closed())
}

// drop has all of it leave the window.
func (d *dedupRun) drop(ctx context.Context) error {
	before, began := d.db.Stats(), time.Now()
	d.index.Passed(d.at(d.next) + 2*dedupWindow.Milliseconds())
	for left := true; left; {
		all := kv.SpaceRange(1)[0]
		all.Limit = 1
		left = false
		err := d.db.View(ctx, func(r kv.Reader) error {
			for _, err := range r.Scan(all) {
				if err != nil {
					return err
				}
				left = true
			}
			return nil
		})
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	gone := time.Since(began)
	for d.db.Stats().Disk > before.Disk/10 && time.Since(began) < 30*time.Second && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	after := d.db.Stats()
	row("all dropped", "gone after %.3f s; after %.2f s the disk holds %.0f MB instead of %.0f; %.3f MB written for it",
		gone.Seconds(), time.Since(began).Seconds(), float64(after.Disk)/1e6, float64(before.Disk)/1e6, float64(after.Written-before.Written)/1e6)
	return ctx.Err()
}

// at is the instant of the id with a number.
func (d *dedupRun) at(number uint64) int64 { return int64(float64(number) * d.every) }

// run leads n ids through the index.
func (d *dedupRun) run(ctx context.Context, n int) error {
	d.looks, d.writes = 0, 0
	for n > 0 {
		size := min(n, dedupBatch)
		if err := d.batch(ctx, size); err != nil {
			return err
		}
		n -= size
	}
	return nil
}

func (d *dedupRun) batch(ctx context.Context, size int) error {
	start := d.next
	numbers, chosen := make([]uint64, size), map[uint64]bool{}
	for i := range numbers {
		numbers[i] = d.next
		if old := d.old(start); start > 0 && d.random.IntN(dedupAgain) == 0 && !chosen[old] {
			numbers[i], chosen[old] = old, true
			d.skipped[d.next/64] |= 1 << (d.next % 64)
		}
		d.next++
	}
	ids, seen := make([]dedup.ID, size), make([]bool, size)
	firsts := make([]dedup.First, size)
	began := time.Now()
	var looked time.Duration
	err := d.db.Update(ctx, "loop", kv.Durable, func(tx kv.Tx) error {
		if err := d.look(tx, start, numbers, ids, firsts, seen); err != nil {
			return err
		}
		looked = time.Since(began)
		for i := range ids {
			if seen[i] {
				continue
			}
			if err := d.index.Note(tx, &ids[i], dedup.First{Offset: commitlog.Offset(start) + commitlog.Offset(i), At: d.at(start + uint64(i))}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.index.Passed(d.at(d.next - 1))
	d.looks += looked
	d.writes += time.Since(began) - looked
	return d.check(start, numbers, firsts, seen)
}

// look asks the index for all ids of a batch, on all cores, as the loop does.
func (d *dedupRun) look(tx kv.Tx, start uint64, numbers []uint64, ids []dedup.ID, firsts []dedup.First, seen []bool) error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w * len(ids) / workers; i < (w+1)*len(ids)/workers; i++ {
				ids[i] = dedup.IDOf(fmt.Sprintf("ajs-next-%020d", numbers[i]))
				var err error
				if firsts[i], seen[i], err = d.index.Seen(tx, &ids[i], d.at(start+uint64(i))); err != nil {
					errs[w] = err
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// old chooses a number that came before, or should have.
func (d *dedupRun) old(start uint64) uint64 {
	if start == 0 {
		return 0
	}
	from := uint64(0)
	if d.random.IntN(2) == 0 {
		from = start - min(start, 10_000)
	}
	return from + d.random.Uint64N(start-from)
}

// check compares the answers with what is true.
func (d *dedupRun) check(start uint64, numbers []uint64, firsts []dedup.First, seen []bool) error {
	for i, number := range numbers {
		turn := start + uint64(i)
		first, known := d.counted[number]
		if !known && number != turn && d.skipped[number/64]>>(number%64)&1 == 0 {
			first, known = number, true
		}
		known = known && d.at(turn)-d.at(first) < dedupWindow.Milliseconds()
		switch {
		case seen[i] != known:
			return fmt.Errorf("id %d at turn %d: seen %v, want %v (first at turn %d)", number, turn, seen[i], known, first)
		case seen[i] && firsts[i] != (dedup.First{Offset: commitlog.Offset(first), At: d.at(first)}):
			return fmt.Errorf("id %d at turn %d: first seen as %+v, want turn %d", number, turn, firsts[i], first)
		case seen[i]:
			d.found++
		case number != turn:
			d.counted[number] = turn
		}
	}
	return nil
}

// spent returns the CPU time that this process has taken.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns how much memory this process takes, in bytes; 0 where the
// system does not say.
func resident() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			return kb * 1024
		}
	}
	return 0
}
