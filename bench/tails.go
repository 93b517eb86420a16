package main

import (
	"context"
	"fmt"
	"time"
)

// tails shows what a sender meets in the worst of hundred and of a thousand
// requests: beside compactions, with everything on and half of what was
// accepted before, and in front of a queue that is full.
func (b *bench) tails(ctx context.Context) error {
	fmt.Println("tails: answers beside compactions, and in front of a full queue")
	if err := b.beside(ctx); err != nil {
		return err
	}
	return b.full(ctx)
}

// beside loads a server fully, so that its store has much to compact, and then
// half, while it compacts.
func (b *bench) beside(ctx context.Context) error {
	k, key, err := b.loaded(ctx, "tails-compaction")
	if err != nil {
		return err
	}
	defer k.stop()
	l := load{base: k.base, key: key, batch: 100, connections: 16, people: b.people}
	whole, err := b.send(ctx, l)
	if err != nil {
		return err
	}
	before, err := k.metrics(ctx)
	if err != nil {
		return err
	}
	l.rate = whole.perSecond() / 2
	half, err := b.send(ctx, l)
	if err != nil {
		return err
	}
	after, err := k.metrics(ctx)
	if err != nil {
		return err
	}
	more := func(name string) float64 { return after["kith_store_"+name] - before["kith_store_"+name] }
	row("half of the load that was accepted before", "%8.0f events/s; p50 %v p99 %v p99.9 %v, longest %v", half.perSecond(),
		ms(half.percentile(.5)), ms(half.percentile(.99)), ms(half.percentile(.999)), ms(half.percentile(1)))
	row("the store meanwhile", "%.0f flushes, %.0f compactions, %.0f MB written, %.0f write stalls; %.0f fsyncs of %.2f ms on average",
		more("flushes_total"), more("compactions_total"), more("written_bytes_total")/1e6, more("write_stalls_total"),
		more("fsync_seconds_count"), 1000*more("fsync_seconds_sum")/max(1, more("fsync_seconds_count")))
	return nil
}

// full sends more than a small queue holds.
func (b *bench) full(ctx context.Context) error {
	k, key, err := b.loaded(ctx, "tails-full", "--max-queue-bytes", "256KB")
	if err != nil {
		return err
	}
	defer k.stop()
	r, err := b.send(ctx, load{base: k.base, key: key, batch: 100, connections: 64, people: b.people})
	if err != nil {
		return err
	}
	row("64 connections, a queue of 256 KB", "%8.0f events/s taken: p50 %v p99 %v, longest %v", r.perSecond(),
		ms(r.percentile(.5)), ms(r.percentile(.99)), ms(r.percentile(1)))
	row("  answered with 429", "%8.0f events/s: p50 %v p99 %v, longest %v", float64(r.refused)/r.took.Seconds(),
		ms(percentile(r.turned, .5)), ms(percentile(r.turned, .99)), ms(percentile(r.turned, 1)))
	began := time.Now()
	one, err := b.once(ctx, load{base: k.base, key: key, batch: 1, connections: 1, people: b.people})
	if err != nil {
		return err
	}
	row("  the first event afterwards", "%d taken, in %v", one.accepted, ms(time.Since(began)))
	return nil
}

// loaded starts a server with a source.
func (b *bench) loaded(ctx context.Context, name string, flags ...string) (*kith, string, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, "", err
	}
	k, err := start(ctx, b.binary, dir, flags...)
	if err != nil {
		return nil, "", err
	}
	_, key, err := k.source()
	if err != nil {
		k.stop()
		return nil, "", err
	}
	return k, key, nil
}

// once sends one request.
func (b *bench) once(ctx context.Context, l load) (result, error) {
	once, cancel := context.WithCancel(ctx)
	defer cancel()
	l.sent = cancel
	return l.run(once)
}
