package api

import (
	"fmt"
	"testing"
	"time"

	"kith/fault"
	"kith/inspect"
)

// TestOverviewIsBounded: names of events come from outside, and an answer that
// tells them apart must fit into memory.
func TestOverviewIsBounded(t *testing.T) {
	q := &OverviewQuery{grain: inspect.Day, by: dimensions{name: true}}
	sums := newTally(q)
	for n := range maxThings {
		sums.add(time.Unix(0, 0), thing{name: fmt.Sprint(n)}, 1, false)
	}
	sums.add(time.Unix(0, 0), thing{name: "7"}, 1, false)
	if all, err := sums.overview(false); err != nil || all.Total != maxThings+1 {
		t.Errorf("as many as there may be: %v", err)
	}
	sums.add(time.Unix(0, 0), thing{name: "one more"}, 1, false)
	if _, err := sums.overview(false); !fault.Is(err, fault.Invalid) {
		t.Errorf("one more: %v", err)
	}
}
