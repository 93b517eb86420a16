package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// idle measures an empty server: how soon the first event can be seen, and
// what it takes when nothing happens.
func (b *bench) idle(ctx context.Context) error {
	fmt.Println("idle: an empty server")
	dir, err := b.folder("idle")
	if err != nil {
		return err
	}
	began := time.Now()
	k, err := start(ctx, b.binary, dir)
	if err != nil {
		return err
	}
	defer k.stop()
	_, key, err := k.source()
	if err != nil {
		return err
	}
	first := load{base: k.base, key: key, connections: 1, batch: 100, people: 1}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	r, err := first.run(soon)
	cancel()
	if err != nil {
		return err
	}
	if r.accepted == 0 {
		return fmt.Errorf("the first events were not accepted")
	}
	for {
		status, _, err := k.traits(ctx, http.DefaultClient, "user-00000000")
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			break
		}
	}
	row("from the start to the first event on a profile", "%v", time.Since(began).Round(time.Millisecond))
	before, err := k.usage()
	if err != nil {
		return err
	}
	wait := time.NewTimer(b.span)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := k.usage()
	if err != nil {
		return err
	}
	row("CPU and memory while nothing happens", "%.2f %% of one core, %.0f MB", 100*(after.cpu-before.cpu).Seconds()/b.span.Seconds(), float64(after.rss)/1e6)
	return nil
}

// traits asks the Profile API for a person's traits and returns the status and
// how many bytes the answer has.
func (k *kith) traits(ctx context.Context, client *http.Client, user string) (status int, size int64, err error) {
	url := k.base + "/v1/spaces/default/collections/users/profiles/user_id:" + user + "/traits?limit=50"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	req.SetBasicAuth(token, "")
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	size, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, size, err
}

// reads measures the Profile API alone and while 5,000 events/s come in, each
// beside a bare server that answers the same client with as many bytes.
func (b *bench) reads(ctx context.Context) error {
	fmt.Println("reads: Profile API /traits at 32 connections, 20 audiences, on the same cores as the client")
	l, err := b.line(ctx, "reads", 500, 100)
	if err != nil {
		return err
	}
	defer l.close()
	writers := load{base: l.base, key: l.key, batch: 100, connections: 4, people: b.people / 10, rate: 5000}
	if _, err := b.send(ctx, writers); err != nil { // so that there is somebody to read
		return err
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	before, err := l.usage()
	if err != nil {
		return err
	}
	quiet := writers
	quiet.connections = 0
	alone, _, err := b.readBeside(ctx, l.kith, quiet, b.people/10)
	if err != nil {
		return err
	}
	after, err := l.usage()
	if err != nil {
		return err
	}
	url, stop, err := bare(ctx, alone.bytes/max(1, alone.accepted))
	if err != nil {
		return err
	}
	defer stop()
	limit, _, err := b.readBeside(ctx, &kith{base: url}, quiet, b.people/10)
	if err != nil {
		return err
	}
	row("bare server, no events", "%8.0f answers a second of %d bytes; p50 %v p99 %v", limit.perSecond(), limit.bytes/max(1, limit.accepted),
		ms(limit.percentile(.5)), ms(limit.percentile(.99)))
	row("Profile API, no events", "%s; CPU %.1f µs an answer", answered(alone, limit), float64((after.cpu-before.cpu).Microseconds())/float64(max(1, alone.accepted)))
	if limit, _, err = b.readBeside(ctx, &kith{base: url}, writers, b.people/10); err != nil {
		return err
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	all, written, err := b.readBeside(ctx, l.kith, writers, b.people/10)
	if err != nil {
		return err
	}
	row("bare server, while Kith takes 5,000 events/s", "%8.0f answers a second; p50 %v p99 %v", limit.perSecond(), ms(limit.percentile(.5)), ms(limit.percentile(.99)))
	row("Profile API, while 5,000 events/s come in", "%s", answered(all, limit))
	row("events accepted meanwhile", "%8.0f a second", written.perSecond())
	if err := l.settle(ctx); err != nil {
		return err
	}
	const budget = 10_000
	if all, written, err = b.readAt(ctx, l.kith, writers, b.people/10, budget); err != nil {
		return err
	}
	row(fmt.Sprintf("Profile API, asked %d times a second beside them", budget), "%8.0f answers a second; from when each is due p50 %v p99 %v p99.9 %v; %.0f events accepted a second",
		all.perSecond(), ms(all.percentile(.5)), ms(all.percentile(.99)), ms(all.percentile(.999)), written.perSecond())
	return nil
}

// answered tells of answers beside those of the bare server.
func answered(all, limit result) string {
	return fmt.Sprintf("%8.0f answers a second, %.2f of the bare server, %.0f %% found; p50 %v p99 %v", all.perSecond(), all.perSecond()/max(1, limit.perSecond()),
		100*float64(all.accepted-all.refused)/float64(max(1, all.accepted)), ms(all.percentile(.5)), ms(all.percentile(.99)))
}

// settle waits until the loop has passed all that was accepted.
func (l *line) settle(ctx context.Context) error {
	for {
		left, err := l.backlog()
		if err != nil || left == 0 {
			return err
		}
		pause := time.NewTimer(50 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// readBeside reads the traits of people at 32 connections while a load is sent.
// Of the answers, refused counts those that found nobody.
func (b *bench) readBeside(ctx context.Context, k *kith, writers load, people int) (answers, written result, err error) {
	return b.readAt(ctx, k, writers, people, 0)
}

// readAt is readBeside at so many reads a second, or as fast as answers come
// when rate is zero. With a rate the time of an answer begins when its question
// is due, also if the connection is still busy then.
func (b *bench) readAt(ctx context.Context, k *kith, writers load, people int, rate float64) (answers, written result, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.span)
	defer cancel()
	var wg sync.WaitGroup
	var writeErr error
	wg.Go(func() { written, writeErr = writers.run(ctx) })
	const readers = 32
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: readers, DisableCompression: true}}
	defer client.CloseIdleConnections()
	parts := make([]result, readers)
	errs := make([]error, readers)
	began := time.Now()
	for i := range readers {
		wg.Go(func() {
			random, r := rand.New(rand.NewPCG(uint64(i), 9)), &parts[i]
			for n := 0; ctx.Err() == nil; n++ {
				asked := time.Now()
				if rate > 0 {
					asked = began.Add(time.Duration(float64(n*readers+i) / rate * float64(time.Second)))
					time.Sleep(time.Until(asked))
				}
				status, size, err := k.traits(context.WithoutCancel(ctx), client, fmt.Sprintf("user-%08d", random.IntN(people)))
				if err != nil {
					errs[i] = err
					return
				}
				r.latency = append(r.latency, time.Since(asked))
				r.accepted++
				r.bytes += int(size)
				if status != http.StatusOK {
					r.refused++
				}
			}
		})
	}
	wg.Wait()
	answers.took = time.Since(began)
	if writeErr != nil {
		return answers, written, writeErr
	}
	for i, r := range parts {
		if errs[i] != nil {
			return answers, written, errs[i]
		}
		answers.accepted += r.accepted
		answers.refused += r.refused
		answers.bytes += r.bytes
		answers.latency = append(answers.latency, r.latency...)
	}
	slices.Sort(answers.latency)
	return answers, written, nil
}
