package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"kith/api"
	"kith/rebuild"
)

// rebuildEvents is how many events the scenario rebuild works out again for each
// second of -for, at most: as many as come in within two minutes.
const rebuildEvents = 60_000

// rebuild measures a rebuild beside 5,000 events/s: how fast it is, what live
// notices of it, how long the space stands at the swap.
func (b *bench) rebuild(ctx context.Context) error {
	fmt.Println("rebuild: all that is derived, worked out again beside 5,000 events/s")
	for _, audiences := range []int{0, 20} {
		if err := b.rebuildCase(ctx, audiences); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) rebuildCase(ctx context.Context, audiences int) error {
	k, key, err := b.loaded(ctx, fmt.Sprintf("rebuild-%d", audiences))
	if err != nil {
		return err
	}
	defer k.stop()
	for i, query := range queries(audiences) {
		if err := k.audience(fmt.Sprintf("Audience %d", i), query, ""); err != nil {
			return err
		}
	}
	fill := load{base: k.base, key: key, connections: 8, batch: 100, people: b.people}
	began := time.Now()
	filling, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	sent := 0
	fill.sent = func() {
		mu.Lock()
		defer mu.Unlock()
		if sent += fill.batch; sent >= int(b.span.Seconds())*rebuildEvents {
			cancel()
		}
	}
	if _, err := fill.run(filling); err != nil {
		return err
	}
	for behind := int64(1); behind > 0; {
		if behind, err = k.backlog(); err != nil {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}

	first := float64(sent) / time.Since(began).Seconds()

	beside, stop := context.WithCancel(ctx)
	defer stop()
	writers := load{base: k.base, key: key, connections: 4, batch: 50, people: b.people, rate: 5000}
	var written result
	var writeErr error
	var wg sync.WaitGroup
	wg.Go(func() { written, writeErr = writers.run(beside) })
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	var one struct {
		Rebuild api.Rebuilding `json:"rebuild"`
	}
	began = time.Now()
	if err := k.post("/spaces/default/rebuilds", map[string]any{}, &one); err != nil {
		return err
	}
	var behindMost int64
	for one.Rebuild.State != string(rebuild.Live) {
		if one.Rebuild.State != string(rebuild.Running) {
			return fmt.Errorf("the rebuild is %s: %s", one.Rebuild.State, one.Rebuild.Error)
		}
		behind, err := k.backlog()
		if err != nil {
			return err
		}
		behindMost = max(behindMost, behind)
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if err := k.get(fmt.Sprintf("/spaces/default/rebuilds/%d", one.Rebuild.ID), &one); err != nil {
			return err
		}
	}
	took := time.Since(began)
	stop()
	wg.Wait()
	if writeErr != nil {
		return writeErr
	}
	row(fmt.Sprintf("with %d audiences", audiences), "%8.0f events/s (%d in %.1f s), %.2f of the first time, which had nothing beside it; the space stood %.1f ms at the swap", float64(one.Rebuild.Total)/took.Seconds(), one.Rebuild.Total, took.Seconds(), float64(one.Rebuild.Total)/took.Seconds()/first, one.Rebuild.PauseMs)
	row("  beside it", "%8.0f events/s accepted, p99 %v; the loop was %d records behind at most", written.perSecond(), ms(written.percentile(.99)), behindMost)
	return nil
}

// get reads data of the control API.
func (k *kith) get(path string, out any) error {
	req, err := http.NewRequest(http.MethodGet, k.base+"/api"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	envelope := struct {
		Data any `json:"data"`
	}{out}
	return json.NewDecoder(resp.Body).Decode(&envelope)
}
