package inspect

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"kith/fault"
)

func TestWatchSeesWhatItsFilterTakes(t *testing.T) {
	f := NewFeed()
	f.Publish(Item{Stage: Accepted, Source: "a", Name: "before"})
	w, err := f.Watch(Filter{Source: "a", Stages: []Stage{Accepted, Sent}}, 10)
	if err != nil {
		t.Fatal(err)
	}
	f.Publish(
		Item{Stage: Accepted, Source: "b", Name: "other source"},
		Item{Stage: Rejected, Source: "a", Name: "other stage"},
		Item{Stage: Sent, Source: "a", Name: "after", Body: []byte(`{}`)},
	)
	w.Close()
	w.Close()
	var names []string
	for i := range w.Items() {
		names = append(names, fmt.Sprintf("%d %s %s", i.Seq, i.Name, i.Body))
	}
	if got := fmt.Sprint(names); got != "[1 before  4 after {}]" {
		t.Errorf("saw %s", got)
	}
	if f.Watched() {
		t.Error("the closed watch still counts")
	}
}

func TestSlowWatcherLosesItemsAndIsTold(t *testing.T) {
	f := NewFeed()
	w, err := f.Watch(Filter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range watchBuffer + 7 {
		f.Publish(Item{Stage: Accepted})
	}
	if got := w.Dropped(); got != 7 {
		t.Errorf("dropped %d, want 7", got)
	}
	w.Close()
}

func TestRecentIsBoundedAndHoldsNoBodies(t *testing.T) {
	f := NewFeed()
	for i := range recentItems + 5 {
		f.Publish(Item{Stage: Accepted, Name: fmt.Sprint(i), Body: []byte("1")})
	}
	all := f.Recent(Filter{}, 10*recentItems)
	if len(all) != recentItems || all[0].Name != "5" || all[0].Body != nil {
		t.Errorf("%d items from %+v", len(all), all[0])
	}
	if two := f.Recent(Filter{}, 2); len(two) != 2 || two[1].Seq != recentItems+5 {
		t.Errorf("the two newest are %+v", two)
	}
}

func TestCounts(t *testing.T) {
	f := NewFeed()
	f.Count(Sent, "", "d", 1)
	f.Count(Sent, "", "d", 1)
	f.Count(Accepted, "s", "", 3)
	want := "[{accepted s  3} {sent  d 2}]"
	if got := fmt.Sprint(f.Counts()); got != want {
		t.Errorf("counts %s, want %s", got, want)
	}
	for i := range maxCounters + 10 {
		f.Count(Accepted, fmt.Sprint("x", i), "", 1)
	}
	if got := len(f.Counts()); got > maxCounters+1 {
		t.Errorf("%d counters: not bounded", got)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	f := NewFeed()
	for range maxWatches {
		if _, err := f.Watch(Filter{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Watch(Filter{}, 0); !fault.Is(err, fault.RetryAfter) {
		t.Errorf("one more gives %v", err)
	}
}

func TestClosedFeedEndsItsWatches(t *testing.T) {
	f := NewFeed()
	w, err := f.Watch(Filter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, open := <-w.Items(); open {
		t.Error("the watch goes on")
	}
	w.Close()
	f.Publish(Item{Stage: Accepted})
	if _, err := f.Watch(Filter{}, 0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a new watch gives %v", err)
	}
}

// TestFeedHoldsNoRequests: what is kept of items is a few short strings, which
// come as parts of requests that may be large.
func TestFeedHoldsNoRequests(t *testing.T) {
	const requests, size = 200, 1 << 20
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	f := NewFeed()
	before := held()
	for range requests {
		request := strings.Repeat("m", size)
		f.Publish(Item{Stage: Accepted, MessageID: request[:10], Name: request[10:20], Who: request[20:30], IDs: []string{request[:10]}})
	}
	if after := held(); after > before+requests*size/10 {
		t.Errorf("%d MB are held for %d items", (after-before)>>20, requests)
	}
	if last := f.Recent(Filter{ID: "mmmmmmmmmm"}, 1); len(last) != 1 || last[0].Name != "mmmmmmmmmm" {
		t.Errorf("the last item is %+v", last)
	}
}
