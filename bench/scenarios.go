package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// folder makes a folder for a server.
func (b *bench) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

func row(what string, format string, args ...any) {
	fmt.Printf("  %-46s %s\n", what, fmt.Sprintf(format, args...))
}

// disk measures the limit of durability: appends of 1 KB events to one file,
// an fsync after each, and after each 500.
func (b *bench) disk(ctx context.Context) error {
	fmt.Println("disk: appends of 1 KB events to one file, each group fsync'd")
	for _, group := range []int{1, 500} {
		f, err := os.CreateTemp(b.dir, "append-")
		if err != nil {
			return err
		}
		block := []byte(strings.Repeat("x", 1024*group))
		n, began := 0, time.Now()
		for time.Since(began) < b.span/3 && ctx.Err() == nil {
			if _, err := f.Write(block); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			n++
		}
		took := time.Since(began)
		f.Close()
		os.Remove(f.Name()) //nolint:errcheck // the whole folder goes at the end
		row(fmt.Sprintf("groups of %d", group), "%8.0f events/s, %.2f ms a group", float64(n*group)/took.Seconds(), took.Seconds()*1000/float64(n))
	}
	return nil
}

// shape is the form of a load.
type shape struct{ batch, connections int }

// collect measures acceptance with the row held back and with everything on,
// against a bare server under the same load.
func (b *bench) collect(ctx context.Context) error {
	fmt.Println("collect: generator and server on the same cores")
	shapes := slices.DeleteFunc([]shape{{100, 16}, {1, 64}}, func(s shape) bool { return b.batch > 0 && b.batch != s.batch })
	var limits []float64
	for _, s := range shapes {
		url, stop, err := bare(ctx, 0)
		if err != nil {
			return err
		}
		r, err := b.send(ctx, load{base: url, key: "none", batch: s.batch, connections: s.connections, people: b.people})
		stop()
		if err != nil {
			return err
		}
		limits = append(limits, r.perSecond())
		row(fmt.Sprintf("bare server, batches of %d, %d connections", s.batch, s.connections), "%8.0f events/s", r.perSecond())
	}
	for _, roles := range []string{"collect,api", ""} {
		for i, s := range shapes {
			dir, err := b.folder(fmt.Sprintf("collect-%s-%d", strings.ReplaceAll(roles, ",", "-"), s.batch))
			if err != nil {
				return err
			}
			var flags []string
			what := "everything on"
			if roles != "" {
				flags, what = []string{"--roles", roles}, "row held back"
			}
			k, err := start(ctx, b.binary, dir, flags...)
			if err != nil {
				return err
			}
			_, key, err := k.source()
			if err != nil {
				k.stop()
				return err
			}
			before, err := k.cpuTime(ctx)
			if err != nil {
				k.stop()
				return err
			}
			r, err := b.send(ctx, load{base: k.base, key: key, batch: s.batch, connections: s.connections, people: b.people})
			if err != nil {
				k.stop()
				return err
			}
			after, err := k.cpuTime(ctx)
			if err != nil {
				k.stop()
				return err
			}
			half, err := b.send(ctx, load{base: k.base, key: key, batch: s.batch, connections: s.connections, people: b.people, rate: r.perSecond() / 2})
			k.stop()
			if err != nil {
				return err
			}
			row(fmt.Sprintf("%s, batches of %d, %d connections", what, s.batch, s.connections),
				"%8.0f events/s, %.2f of the bare server; refused %d; p50 %v p99 %v; at half load p99 %v; CPU %.1f µs an event",
				r.perSecond(), r.perSecond()/limits[i], r.refused, ms(r.percentile(.5)), ms(r.percentile(.99)), ms(half.percentile(.99)),
				(after-before)*1e6/float64(max(1, r.accepted)))
		}
	}
	return nil
}

func (b *bench) send(ctx context.Context, l load) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, b.span)
	defer cancel()
	return l.run(ctx)
}

// line is a whole installation: a source, a batching webhook to a sink, and 20
// audiences connected to it.
type line struct {
	*kith
	sink *sink
	key  string
}

func (b *bench) line(ctx context.Context, name string, size, ageMs int) (*line, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	l := &line{}
	if l.sink, err = newSink(); err != nil {
		return nil, err
	}
	if l.kith, err = start(ctx, b.binary, dir); err != nil {
		l.sink.close()
		return nil, err
	}
	if err := l.declare(size, ageMs); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *line) close() {
	l.stop()
	l.sink.close()
}

func (l *line) declare(size, ageMs int) error {
	source, key, err := l.source()
	if err != nil {
		return err
	}
	l.key = key
	destination, err := l.webhook(source, l.sink.url, size, ageMs)
	if err != nil {
		return err
	}
	for i, name := range names {
		for j, days := range []int{1, 30, 365} {
			query := fmt.Sprintf("event('%s').within(%d days).count() >= %d", name, days, 1+3*j)
			if err := l.audience(fmt.Sprintf("Did %d %d", i, days), query, destination); err != nil {
				return err
			}
		}
	}
	if err := l.audience("Valuable", "trait('lifetime_value') > 1500", destination); err != nil {
		return err
	}
	return l.audience("Big booking", "event('Booking Completed').where(property('booking_value') >= 800).count() >= 1", destination)
}

// throughput measures the whole line under full load: what was accepted, and
// how fast all of it reached the sink.
func (b *bench) throughput(ctx context.Context) error {
	fmt.Println("throughput: collect → identity → profile → 20 audiences → batching webhook → sink, all on the same cores")
	l, err := b.line(ctx, "throughput", 500, 100)
	if err != nil {
		return err
	}
	defer l.close()
	began := time.Now()
	r, err := b.send(ctx, load{base: l.base, key: l.key, batch: 100, connections: 16, people: b.people})
	if err != nil {
		return err
	}
	if err := l.drain(ctx, int64(r.accepted)); err != nil {
		return err
	}
	took := time.Since(began)
	u, err := l.usage()
	if err != nil {
		return err
	}
	size, err := l.size()
	if err != nil {
		return err
	}
	n := float64(r.accepted)
	row("accepted", "%8.0f events/s, p99 of the answer %v, refused %d", r.perSecond(), ms(r.percentile(.99)), r.refused)
	row("end to end, sustained", "%8.0f events/s (%d events, with their audience changes %d messages, in %.1f s)", n/took.Seconds(), r.accepted, l.sink.events.Load(), took.Seconds())
	row("CPU of the server", "%8.1f µs an event", u.cpu.Seconds()*1e6/n)
	row("memory of the server", "%8.0f MB", float64(u.rss)/1e6)
	row("on disk", "%8.0f B an event (bodies as sent: %.0f B)", float64(size)/n, float64(r.bytes)/n)
	row("written to disk", "%8.0f B an event", float64(u.written)/n)
	return nil
}

// drain waits until the sink has had at least n events and nothing comes any
// more.
func (l *line) drain(ctx context.Context, n int64) error {
	for deadline := time.Now().Add(5 * time.Minute); ; {
		before := l.sink.events.Load()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		backlog, err := l.backlog()
		if err != nil {
			return err
		}
		if got := l.sink.events.Load(); got >= n && got == before && backlog == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the sink has %d of %d events after five minutes", l.sink.events.Load(), n)
		}
	}
}

// latency measures how long an event and an audience change take from the
// SDK's call to the webhook, at 1,000 events/s.
func (b *bench) latency(ctx context.Context) error {
	fmt.Println("latency: 1,000 events/s in requests of one, 20 audiences, from the call to the webhook")
	l, err := b.line(ctx, "latency", 100, 20)
	if err != nil {
		return err
	}
	defer l.close()
	l.sink.watching(true)
	r, err := b.send(ctx, load{base: l.base, key: l.key, batch: 1, connections: 16, people: b.people, rate: 1000})
	if err != nil {
		return err
	}
	if err := l.drain(ctx, int64(r.accepted)); err != nil {
		return err
	}
	events, changes := l.sink.latencies()
	u, err := l.usage()
	if err != nil {
		return err
	}
	row("answer of collect", "p50 %v p99 %v", ms(r.percentile(.5)), ms(r.percentile(.99)))
	row("event at the webhook", "p50 %v p99 %v max %v (%d)", ms(events.percentile(.5)), ms(events.percentile(.99)), ms(events.percentile(1)), len(events.latency))
	row("audience change at the webhook", "p50 %v p99 %v max %v (%d)", ms(changes.percentile(.5)), ms(changes.percentile(.99)), ms(changes.percentile(1)), len(changes.latency))
	row("CPU and memory of the server", "%.0f %% of one core, %.0f MB", 100*u.cpu.Seconds()/b.span.Seconds(), float64(u.rss)/1e6)
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
