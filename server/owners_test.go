package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/client"
	"kith/kv/memkv"
)

// TestTwoLoopsOnOneSpace has two servers run the loop of one space on one
// store, which the store on disk refuses. The one that finds that another was
// there stops and says so; the other goes on, and each event counts once.
func TestTwoLoopsOnOneSpace(t *testing.T) {
	db := memkv.New()
	config := func(roles ...Role) Config {
		cfg := inMemory()
		cfg.Store, cfg.Roles = storeIn(db), roles
		return cfg
	}
	front, base, stop := running(t, config(Collect, API))
	key := source(t, front, "web")
	post := func(from, to int) {
		for i := from; i < to; i++ {
			send(t, base, key, "track", fmt.Sprintf(`{"messageId":"m%d","userId":"one","event":"Visit"}`, i))
		}
	}
	post(0, 20)
	stop()
	// Both hold the space for theirs, with 20 events to do.
	late, err := New(t.Context(), config(Pipeline))
	if err != nil {
		t.Fatal(err)
	}
	first, base, _ := running(t, config())
	if err := first.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := late.Run(ctx); err == nil || !strings.Contains(err.Error(), "another process has taken over this space") {
		t.Errorf("the second ended with %v", err)
	}
	if err := late.Close(); err != nil {
		t.Error(err)
	}
	post(20, 40)
	if err := first.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := c.Events(t.Context(), client.Profile{Space: "default", ID: "user_id:one"}, client.Page{Limit: 100})
	once := map[string]int{}
	for _, e := range list {
		once[e.MessageID]++
	}
	if err != nil || len(list) != 40 || len(once) != 40 {
		t.Errorf("%d events of %d messages, want 40 of 40: %v", len(list), len(once), err)
	}
}
