package e2e

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"kith/api"
)

// tracedOfEach is of how many messages of each writer TestCrash looks up what
// became of them.
const tracedOfEach = 25

// account holds what Kith says of the messages against what happened: the
// overview has received every message once and delivered it once, and a trace
// says of each that it was.
func (h *crashHouse) account(writers []*writer) {
	t := h.t
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := h.client()
	var all struct {
		Destinations []struct{ ID, Slug, SourceID string } `json:"destinations"`
	}
	if err := c.Call(ctx, "GET", "/destinations?pagination.count=200", nil, &all); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, w := range writers {
		sent += len(w.order)
	}
	now := time.Now().UTC()
	for _, d := range all.Destinations {
		if d.Slug != "all" {
			continue
		}
		q := url.Values{
			"sourceId": {d.SourceID}, "destinationConfigId": {d.ID}, "granularity": {"hour"},
			"startTime": {now.Add(-24 * time.Hour).Format(time.RFC3339)}, "endTime": {now.Add(time.Hour).Format(time.RFC3339)},
		}
		want := map[string]int{"successfully-received": sent, "failed-on-ingest": 0, "filtered-at-source": 0, "filtered-at-destination": 0, "failed-delivery": 0, "successful-delivery": sent}
		if err := until(ctx, func() error {
			for path, n := range want {
				var got struct{ Total int }
				if err := c.Call(ctx, "GET", "/delivery-overview/"+path+"?"+q.Encode(), nil, &got); err != nil {
					return err
				}
				if got.Total != n {
					return fmt.Errorf("the overview says %d of %s, want %d", got.Total, path, n)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	for _, w := range writers {
		for i := 0; i < len(w.order); i += max(1, len(w.order)/tracedOfEach) {
			var found api.Traced
			if err := c.Call(ctx, "GET", "/messages/"+url.PathEscape(w.order[i]), nil, &found); err != nil {
				t.Fatal(err)
			}
			m := found.Message
			if m == nil || m.Status != "admitted" || len(m.Deliveries) == 0 || m.Deliveries[0].Destination != "all" || m.Deliveries[0].State != "delivered" {
				t.Errorf("what became of %s: %+v", w.order[i], m)
			}
		}
	}
}
