package delivery_test

import (
	"context"
	"testing"
	"time"

	"kith/delivery"
	"kith/fault"
)

// TestSettledBeforeRun: who asks while delivery is being started waits for it.
func TestSettledBeforeRun(t *testing.T) {
	w := newWorld(t)
	answer := make(chan error, 1)
	w.runAfter(func(d *delivery.Delivery) {
		brief, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := d.Settled(brief, nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("settled though nothing runs: %v", err)
		}
		go func() { answer <- d.Settled(t.Context(), nil) }()
	})
	if err := <-answer; err != nil {
		t.Errorf("a call just before Run: %v", err)
	}
}
