package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// load is a generator: connections that send one request after the other.
type load struct {
	base        string
	key         string
	connections int
	batch       int // events a request
	people      int
	rate        float64 // events a second over all connections; zero: as fast as answers come
	sent        func()  // called after each request; may be nil
}

// result is what a generator saw.
type result struct {
	accepted int
	refused  int
	bytes    int
	took     time.Duration
	latency  []time.Duration // of answers that took the events, sorted
	turned   []time.Duration // of answers that refused them, sorted
}

func (r result) perSecond() float64 { return float64(r.accepted) / r.took.Seconds() }

func (r result) percentile(p float64) time.Duration { return percentile(r.latency, p) }

// percentile returns the value below which the share p of the sorted ones is;
// zero without any.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// run sends until ctx ends. Making the bodies is part of what is measured, for
// Kith and for the bare server alike: generator and server share the cores.
func (l load) run(ctx context.Context) (result, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: l.connections, MaxConnsPerHost: l.connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	parts := make([]result, l.connections)
	errs := make([]error, l.connections)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range l.connections {
		wg.Go(func() { parts[i], errs[i] = l.connection(ctx, client, i) })
	}
	wg.Wait()
	total := result{took: time.Since(began)}
	for i, p := range parts {
		if errs[i] != nil {
			return total, errs[i]
		}
		total.accepted += p.accepted
		total.refused += p.refused
		total.bytes += p.bytes
		total.latency = append(total.latency, p.latency...)
		total.turned = append(total.turned, p.turned...)
	}
	slices.Sort(total.latency)
	slices.Sort(total.turned)
	return total, nil
}

func (l load) connection(ctx context.Context, client *http.Client, i int) (result, error) {
	var r result
	make := newEvents(l.key, uint64(i+1), l.people)
	var pause time.Duration
	if l.rate > 0 {
		pause = time.Duration(float64(l.batch*l.connections) / l.rate * float64(time.Second))
	}
	next := time.Now().Add(pause * time.Duration(i) / time.Duration(l.connections))
	for ctx.Err() == nil {
		if pause > 0 {
			wait := time.NewTimer(time.Until(next))
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
				return r, nil
			}
			next = next.Add(pause)
		}
		path, body := make.batch(l.batch)
		began := time.Now()
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, l.base+path, strings.NewReader(body))
		if err != nil {
			return r, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth(l.key, "")
		resp, err := client.Do(req)
		if err != nil {
			return r, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return r, err
		}
		if err := resp.Body.Close(); err != nil {
			return r, err
		}
		took := time.Since(began)
		if l.sent != nil {
			l.sent()
		}
		switch resp.StatusCode {
		case http.StatusOK:
			r.latency = append(r.latency, took)
			r.accepted += l.batch
			r.bytes += len(body)
		case http.StatusTooManyRequests:
			r.turned = append(r.turned, took)
			r.refused += l.batch
		default:
			return r, fmt.Errorf("%s answered %s", path, resp.Status)
		}
	}
	return r, nil
}
