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

// wait measures how long it takes from the answer to an event until a read sees
// it, while events come in: the read waits for its messageId.
func (b *bench) wait(ctx context.Context) error {
	fmt.Println("wait: identify, then /traits?wait_for=ITS ID, 20 audiences, on the same cores")
	for _, c := range []struct {
		name   string
		askers int
		rate   float64
	}{{"wait-idle", 1, 0}, {"wait-1000", 1, 1000}, {"wait-5000", 4, 5000}} {
		if err := b.waitBeside(ctx, c.name, c.askers, c.rate); err != nil {
			return err
		}
	}
	return nil
}

// waitBeside measures it while so many events/s come in.
func (b *bench) waitBeside(ctx context.Context, name string, askers int, rate float64) error {
	l, err := b.line(ctx, name, 500, 100)
	if err != nil {
		return err
	}
	defer l.close()
	ctx, cancel := context.WithTimeout(ctx, b.span)
	defer cancel()
	writers := load{base: l.base, key: l.key, batch: 100, connections: 4, people: b.people / 10, rate: rate}
	if rate == 0 {
		writers.connections = 0
	}
	var wg sync.WaitGroup
	var written result
	var writeErr error
	wg.Go(func() { written, writeErr = writers.run(ctx) })
	parts := make([]result, askers)
	errs := make([]error, askers)
	for i := range askers {
		wg.Go(func() { parts[i], errs[i] = l.readOwnWrites(ctx, i) })
	}
	wg.Wait()
	if writeErr != nil {
		return writeErr
	}
	var all result
	for i, p := range parts {
		if errs[i] != nil {
			return errs[i]
		}
		all.accepted += p.accepted
		all.refused += p.refused
		all.latency = append(all.latency, p.latency...)
	}
	slices.Sort(all.latency)
	row(fmt.Sprintf("%d connections, beside %.0f events/s", askers, rate), "%d of %d saw their own write; from asking to the answer p50 %v p99 %v p99.9 %v", all.accepted-all.refused, all.accepted,
		ms(all.percentile(.5)), ms(all.percentile(.99)), ms(all.percentile(.999)))
	row("events accepted meanwhile", "%8.0f a second", written.perSecond())
	return nil
}

// readOwnWrites identifies a person of its own again and again, and reads what
// it said. Refused counts answers without it.
func (l *line) readOwnWrites(ctx context.Context, asker int) (r result, err error) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	call := func(method, path, user, body string) (string, error) {
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, l.base+path, strings.NewReader(body))
		if err != nil {
			return "", err
		}
		req.SetBasicAuth(user, "")
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
		}
		return string(text), err
	}
	for n := 0; ctx.Err() == nil; n++ {
		user, id := fmt.Sprintf("asker-%d", asker), fmt.Sprintf("asker-%d-%d", asker, n)
		if _, err := call(http.MethodPost, "/v1/identify", l.key, fmt.Sprintf(`{"userId":%q,"messageId":%q,"traits":{"n":%d}}`, user, id, n)); err != nil {
			return r, err
		}
		asked := time.Now()
		text, err := call(http.MethodGet, "/v1/spaces/default/collections/users/profiles/user_id:"+user+"/traits?include=n&wait_for="+id, token, "")
		if err != nil {
			return r, err
		}
		r.latency = append(r.latency, time.Since(asked))
		r.accepted++
		if !strings.Contains(text, fmt.Sprintf(`"n":%d}`, n)) {
			r.refused++
		}
	}
	return r, nil
}
