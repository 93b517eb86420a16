package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"kith/api"
	"kith/client"
)

// traceCommand says what became of a message.
type traceCommand struct {
	remote
	ID    string        `arg:"" name:"message-id" help:"A messageId, or the id of a record."`
	Space string        `placeholder:"SLUG" help:"The space; all of them by default."`
	Wait  time.Duration `placeholder:"TIME" help:"Wait until what has been accepted is processed and sent, at most so long: 5s, up to 30s."`
	Scan  bool          `help:"Look through everything that is kept when the messageId is not remembered any more. It may take a while."`
	Body  bool          `help:"Show the event itself too."`
}

// Run shows what became of the message.
func (c *traceCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	found, err := c.look(r, server)
	switch {
	case err != nil:
		return c.explain(err)
	case found.Message == nil && len(found.Rejections) == 0:
		return fmt.Errorf("there is no message %s in all that is kept", c.ID)
	}
	if r.json {
		return r.encode(found)
	}
	return printTrace(r.Stdout, found)
}

// look asks the server, step by step while it scans.
func (c *traceCommand) look(r *run, server *client.Client) (*api.Traced, error) {
	q := url.Values{}
	set := func(name, value string, wanted bool) {
		if wanted {
			q.Set(name, value)
		}
	}
	set("space", c.Space, c.Space != "")
	set("wait", c.Wait.String(), c.Wait > 0)
	set("scan", "true", c.Scan)
	set("body", "true", c.Body)
	looked := uint64(0)
	for {
		found := &api.Traced{}
		if err := server.Call(r.ctx, "GET", "/messages/"+url.PathEscape(c.ID)+"?"+q.Encode(), nil, found); err != nil {
			return nil, err
		}
		if found.Message != nil || found.Scan == nil {
			return found, nil
		}
		looked += found.Scan.Looked
		fmt.Fprintf(r.Stderr, "looked through %d records, %d left\n", looked, found.Scan.Left)
		if found.Scan.Next == "" {
			return found, nil
		}
		q.Set("after", found.Scan.Next)
		q.Del("wait")
	}
}

// printTrace writes what was found for people.
func printTrace(to io.Writer, found *api.Traced) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	if m := found.Message; m != nil {
		title := m.MessageID
		if title == "" {
			title = m.RecordID
		}
		fmt.Fprintf(w, "%s\n  %s\n", title, strings.Join(facts(m), ", "))
		fmt.Fprintln(w)
		for _, s := range m.Stages {
			row(w, s.Stage, s.Outcome, s.Details, s.Next)
		}
		if len(m.Deliveries) > 0 {
			fmt.Fprintln(w, "\nDestinations")
			for i := range m.Deliveries {
				d := &m.Deliveries[i]
				row(w, d.Destination, d.State, deliveryDetails(d), d.Next)
			}
		}
		for i, note := range m.Notes {
			if i == 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, note)
		}
		if len(m.Body) > 0 {
			fmt.Fprintf(w, "\n%s\n", m.Body)
		}
	}
	if len(found.Rejections) > 0 {
		if found.Message != nil {
			fmt.Fprintln(w, "\nA message with this messageId was also refused")
		} else {
			fmt.Fprintln(w, "Refused")
		}
		for i := range found.Rejections {
			x := &found.Rejections[i]
			detail := x.Message
			if x.Field != "" {
				detail = x.Field + ": " + detail
			}
			from := x.Source
			if from == "" {
				from = "unknown source"
			}
			row(w, x.At, from, []string{x.Code + ": " + detail}, x.Next)
		}
	}
	return w.Flush()
}

// facts are what is told of a message in its first lines.
func facts(m *api.Trace) []string {
	list := []string{strings.TrimSpace(m.Kind + " " + strings.TrimSpace(m.Type+" "+m.Event))}
	if m.Kind == "event" {
		list[0] = strings.TrimSpace(m.Type + " " + m.Event)
	}
	if m.Source != "" {
		list = append(list, "from "+m.Source)
	}
	list = append(list, "received "+m.ReceivedAt, "record "+m.RecordID, fmt.Sprintf("at %d in the space %s", m.Offset, m.Space))
	for _, id := range m.Identifiers {
		list = append(list, id.Type+":"+id.ID)
	}
	return list
}

// row writes one thing and its details, a line each, and what to do under it.
func row(w io.Writer, name, outcome string, details []string, next string) {
	lines := append([]string{}, details...)
	if next != "" {
		lines = append(lines, "→ "+next)
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	for _, line := range lines {
		if line != "" {
			outcome += "\t" + line
		}
		fmt.Fprintf(w, "  %s\t%s\n", name, outcome)
		name, outcome = "", ""
	}
}

func deliveryDetails(d *api.TraceDelivery) (lines []string) {
	if d.Subscription != "" {
		lines = append(lines, d.Subscription)
	}
	if m := d.Message; m != nil {
		line := strings.TrimSpace(m.Type+" "+m.Event) + ", message " + m.MessageID
		if m.Audience != "" {
			line += ", of audience " + m.Audience
		}
		lines = append(lines, line)
	}
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch {
	case d.State == "delivered" && d.Attempts == 1:
		add("at the first attempt")
	case d.State == "delivered" && d.Attempts > 1:
		add("at attempt %d", d.Attempts)
	case d.Attempts == 1:
		add("1 attempt")
	case d.Attempts > 1:
		add("%d attempts", d.Attempts)
	}
	if d.Behind > 0 {
		add("as number %d from here on", d.Behind)
	}
	if d.Reason != "" {
		add("%s", d.Reason)
	}
	if d.NextTryAt != "" {
		add("next try %s", d.NextTryAt)
	}
	if d.GivenUpAt != "" {
		add("given up %s", d.GivenUpAt)
	}
	if d.ResentAt != "" {
		add("sent again %s", d.ResentAt)
	}
	if d.Code != "" {
		add("%s", d.Code)
	}
	if len(words) > 0 {
		lines = append(lines, strings.Join(words, "; "))
	}
	return lines
}
