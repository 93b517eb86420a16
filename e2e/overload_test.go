package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/pebblekv"
)

// How TestOverload loads the server. The queue is small, so that it is full
// soon; the events are large, so that few of them fill a disk's time.
const (
	overloadSpan    = 10 * time.Second // KITH_OVERLOAD asks for another
	overloadSenders = 48
	overloadBatch   = 20
	overloadBytes   = 12 << 10 // of an event, about; half of it cannot be compressed
	overloadMemory  = 1 << 30  // the most that the server may take
)

// TestOverload offers the server twice what it can take, and then pulls its
// plug. While it lasts every request is answered with 200 or with 429 and when to
// come again, and memory stays bounded; the first request afterwards is taken;
// and the store holds each message that was acknowledged once, and none that was
// refused.
func TestOverload(t *testing.T) {
	span := overloadSpan
	if d, err := time.ParseDuration(os.Getenv("KITH_OVERLOAD")); err == nil {
		span = d
	}
	if testing.Short() {
		span = 2 * time.Second
	}
	dir := t.TempDir()
	p, err := start(t.Context(), dir, "--data", "data", "--listen", "127.0.0.1:0", "--max-queue-bytes", "1MB", "--max-inflight-bytes", "32MB")
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	apply := exec.Command(binary, "apply", "-f", "-", "--server", p.base)
	apply.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken)
	apply.Stdin = strings.NewReader("name: Overload\nslug: overload\nsources:\n  - {slug: load, name: Load, writeKeys: [load-key]}\n")
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("kith apply: %v\n%s", err, out)
	}

	transport := &http.Transport{MaxIdleConnsPerHost: overloadSenders}
	defer transport.CloseIdleConnections()
	o := &overload{t: t, base: p.base, http: &http.Client{Transport: transport, Timeout: patience}}
	const few = 4
	trial := max(span/5, time.Second)
	capacity := float64(o.run(few, trial, 0)) / trial.Seconds()
	if capacity == 0 {
		t.Fatal("nothing was accepted even without overload")
	}

	watch := watchMemory(p.cmd.Process.Pid)
	taken := o.run(overloadSenders, span, 2*capacity)
	largest := watch.stop()
	began := time.Now()
	if status, err := o.send(few, 1); err != nil || status != http.StatusOK {
		t.Errorf("the first request after the overload: %d, %v; want 200", status, err)
	}
	recovery := time.Since(began)
	t.Logf("capacity %.0f requests/s of %d events; offered twice as much for %s: %.0f/s taken, %d refused; first answer afterwards in %s; at most %d MiB of memory",
		capacity, overloadBatch, span, float64(taken)/span.Seconds(), o.refused.Load(), recovery.Round(time.Millisecond), largest>>20)
	if o.refused.Load() == 0 {
		t.Error("no request was answered with 429: the server was not overloaded, so nothing was tested")
	}
	if largest > overloadMemory {
		t.Errorf("the server took %d MiB of memory, the most is %d", largest>>20, overloadMemory>>20)
	}
	p.kill()
	o.settle(filepath.Join(dir, "data", "store"))
}

// overload sends batches, each message with an id of its own, once.
type overload struct {
	t       *testing.T
	base    string
	http    *http.Client
	next    atomic.Uint64 // the number of the next request
	refused atomic.Int64

	mu   sync.Mutex
	acks []uint64 // the requests that were acknowledged
}

// run sends for a while, at a rate over all senders or, without one, as fast as
// answers come, and returns how many requests were acknowledged.
func (o *overload) run(senders int, span time.Duration, rate float64) (acknowledged int64) {
	ctx, cancel := context.WithTimeout(o.t.Context(), span)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			tick := time.NewTicker(time.Duration(max(1, float64(senders)/max(rate, 1e-9)*float64(time.Second))))
			if rate == 0 {
				tick.Reset(time.Nanosecond)
			}
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				status, err := o.send(i, overloadBatch)
				switch {
				case err != nil:
					o.t.Errorf("a request under overload: %v", err)
					return
				case status == http.StatusOK:
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return n.Load()
}

// send sends one batch. Anything but 200, and 429 with a time to come again, is
// an error.
func (o *overload) send(sender, events int) (status int, err error) {
	number := o.next.Add(1)
	random := rand.New(rand.NewPCG(number, uint64(sender)))
	var body bytes.Buffer
	body.WriteString(`{"batch":[`)
	for i := range events {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"type":"track","event":"Load","userId":"u%d","messageId":"%d-%d","properties":{"text":"%s","noise":"`,
			random.IntN(1000), number, i, strings.Repeat("overload ", overloadBytes/18))
		for range overloadBytes / 32 {
			fmt.Fprintf(&body, "%016x", random.Uint64())
		}
		body.WriteString(`"}}`)
	}
	body.WriteString(`]}`)
	request, err := http.NewRequest(http.MethodPost, o.base+"/v1/batch", &body)
	if err != nil {
		return 0, err
	}
	request.SetBasicAuth("load-key", "")
	response, err := o.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode == http.StatusOK:
		o.mu.Lock()
		o.acks = append(o.acks, number)
		o.mu.Unlock()
	case response.StatusCode == http.StatusTooManyRequests:
		o.refused.Add(1)
		if after, err := strconv.Atoi(response.Header.Get("Retry-After")); err != nil || after < 1 || after > 300 {
			return 0, fmt.Errorf("429 with Retry-After %q: want a number of seconds from 1 to 300", response.Header.Get("Retry-After"))
		}
	default:
		return 0, fmt.Errorf("answered with %s: %s", response.Status, text)
	}
	return response.StatusCode, nil
}

// settle compares the raw log that was left behind with what was acknowledged.
func (o *overload) settle(store string) {
	o.t.Helper()
	ctx := context.Background()
	db, err := pebblekv.Open(store, pebblekv.Options{})
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			o.t.Error(err)
		}
	}()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(defaultSpace, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		o.t.Fatal(err)
	}
	found := map[uint64]int{} // events by request
	for next := commitlog.Offset(0); ; {
		blocks, err := log.Read(ctx, next, 1<<20)
		if err != nil {
			o.t.Fatal(err)
		}
		if len(blocks) == 0 {
			break
		}
		for _, b := range blocks {
			heads, err := event.DecodeHeads(b.Data)
			if err != nil {
				o.t.Fatal(err)
			}
			for i := range heads {
				if heads[i].Kind != event.KindEvent {
					continue
				}
				text, _, _ := strings.Cut(heads[i].MessageID, "-")
				number, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					o.t.Fatalf("the log has a message %q, which nobody sent", heads[i].MessageID)
				}
				found[number]++
			}
		}
		next = blocks[len(blocks)-1].End()
	}
	last := o.acks[len(o.acks)-1] // the one event after the overload
	for _, number := range o.acks {
		want := overloadBatch
		if number == last {
			want = 1
		}
		if found[number] != want {
			o.t.Errorf("request %d was acknowledged, and the log has %d of its %d events", number, found[number], want)
		}
		delete(found, number)
	}
	for number, n := range found {
		o.t.Errorf("request %d was not acknowledged, and the log has %d of its events", number, n)
	}
	o.t.Logf("%d requests were acknowledged, and all their events are in the log once", len(o.acks))
}

// memoryWatch looks at how much memory a process takes.
type memoryWatch struct {
	end  chan struct{}
	done chan int64
}

// watchMemory begins to look, where the system tells.
func watchMemory(pid int) *memoryWatch {
	w := &memoryWatch{end: make(chan struct{}), done: make(chan int64, 1)}
	go func() {
		var largest int64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			largest = max(largest, residentBytes(pid))
			select {
			case <-tick.C:
			case <-w.end:
				w.done <- largest
				return
			}
		}
	}()
	return w
}

// stop ends the watch and returns the largest size that was seen.
func (w *memoryWatch) stop() int64 {
	close(w.end)
	return <-w.done
}

// residentBytes returns the resident size of a process; zero where the system
// does not tell.
func residentBytes(pid int) int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
