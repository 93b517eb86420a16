package cli

import (
	"fmt"
	"net/url"
	"strconv"
)

// suspiciousCommand lists who may be no one person.
type suspiciousCommand struct {
	remote
	Space       string `default:"default" placeholder:"SLUG" help:"The space."`
	Identifiers *int   `placeholder:"N" help:"From so many identifiers on a profile; 0 for not at all. Without a flag, as the space's setting suspicious says: 30 identifiers, and 10 of the others, unless it is set."`
	Merges      *int   `placeholder:"N" help:"From so many merges within 24 hours; 0 for not at all."`
	Shared      *int   `placeholder:"N" help:"From so many profiles that could not use an identifier; 0 for not at all."`
	Refused     *int   `placeholder:"N" help:"From so many different identifiers refused on one profile; 0 for not at all."`
	Limit       int    `default:"20" help:"How many of each, at most 200."`
}

// Run lists them.
func (c *suspiciousCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	for name, n := range map[string]*int{"identifiers": c.Identifiers, "merges": c.Merges, "shared": c.Shared, "refused": c.Refused} {
		if n != nil {
			q.Set(name, strconv.Itoa(*n))
		}
	}
	var found struct {
		Suspicious []struct {
			Reason     string `json:"reason"`
			Figure     int    `json:"figure"`
			Words      string `json:"words"`
			ProfileID  string `json:"profileId,omitempty"`
			PeakAt     string `json:"peakAt,omitempty"`
			Identifier *struct {
				Type string `json:"type"`
				ID   string `json:"id"`
			} `json:"identifier,omitempty"`
			Identifiers []struct {
				Type string `json:"type"`
				ID   string `json:"id"`
			} `json:"identifiers"`
		} `json:"suspicious"`
		Complete bool `json:"complete"`
	}
	if err := server.Call(r.ctx, "GET", "/spaces/"+url.PathEscape(c.Space)+"/identity/suspicious?"+q.Encode(), nil, &found); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(found)
	}
	for _, x := range found.Suspicious {
		fmt.Fprintln(r.Stdout, x.Words)
	}
	if len(found.Suspicious) == 0 {
		fmt.Fprintln(r.Stderr, "Nobody is suspicious.")
	}
	if !found.Complete {
		fmt.Fprintln(r.Stderr, "There are more than were looked at: raise the thresholds.")
	}
	return nil
}
