package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"kith/api"
	"kith/client"
)

// traces looks up every message that the sources' debuggers show: each must be
// found, and have an outcome in every stage and at every destination.
func (s *scenario) traces(ts *testscript.TestScript, args []string) error {
	least := 0
	if len(args) == 1 {
		least, _ = strconv.Atoi(args[0])
	}
	if least < 1 {
		return fmt.Errorf("usage: traces N")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.New(s.server.base, adminToken, nil)
	if err != nil {
		return err
	}
	var sources struct {
		Sources []struct{ ID string } `json:"sources"`
	}
	if err := c.Call(ctx, "GET", "/sources?pagination.count=200", nil, &sources); err != nil {
		return err
	}
	n := 0
	outcomes := map[string]int{}
	for _, source := range sources.Sources {
		var seen struct {
			Events []struct {
				MessageID string `json:"messageId"`
			} `json:"debuggerEvents"`
		}
		if err := c.Call(ctx, "GET", "/sources/"+source.ID+"/debugger?pagination.count=1000", nil, &seen); err != nil {
			return err
		}
		for _, e := range seen.Events {
			if e.MessageID == "" {
				continue
			}
			var found api.Traced
			if err := c.Call(ctx, "GET", "/messages/"+url.PathEscape(e.MessageID)+"?wait=10s", nil, &found); err != nil {
				return fmt.Errorf("%s: %w", e.MessageID, err)
			}
			n++
			m := found.Message
			if m == nil {
				if len(found.Rejections) == 0 {
					return fmt.Errorf("%s: nothing is told of it", e.MessageID)
				}
				outcomes["rejected"]++
				continue
			}
			outcomes[m.Status]++
			if m.Status == "pending" || m.Status == "admitted" && len(m.Stages) < 7 {
				return fmt.Errorf("%s: %s with %d stages", e.MessageID, m.Status, len(m.Stages))
			}
			for _, d := range m.Deliveries {
				if d.State == "unknown" || d.State == "not reached" || d.State == "under way" {
					return fmt.Errorf("%s: %s at %s", e.MessageID, d.State, d.Destination)
				}
				outcomes[d.State+" at "+d.Destination]++
			}
		}
	}
	ts.Logf("%d messages: %v", n, outcomes)
	if n < least {
		return fmt.Errorf("%d messages were traced, want %d or more", n, least)
	}
	return nil
}
