package profile

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// maxExamined is how many events of a history one read looks through; a page
// may then have fewer than were asked for, or none, and say that there is more.
const maxExamined = 5000

// Events returns a page of a profile's events by their time. There is no
// bound on how far back they go but that of the archive.
func (rd *Reader) Events(ctx context.Context, t Target, q EventsQuery) (*EventsPage, error) {
	limit, err := limitOf(q.Limit, MaxLimit)
	if err != nil {
		return nil, err
	}
	w, err := windowOf(q)
	if err != nil {
		return nil, err
	}
	wanted, err := q.filter()
	if err != nil {
		return nil, err
	}
	var p *identity.Profile
	err = rd.db.View(ctx, func(r kv.Reader) (err error) {
		_, p, err = locate(r, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	finder, err := identity.NewFinder(t.Space)
	if err != nil {
		return nil, err
	}
	own := make(map[event.Identifier]bool, len(p.Identifiers))
	for _, x := range p.Identifiers {
		own[x.Identifier] = true
	}
	page := &EventsPage{Data: []Event{}}
	next, examined := "", 0
	var last archive.Mark
	err = rd.history.History(ctx, t.Space.Number, t.Epoch, p.Family(), w, func(e archive.Entry) (bool, error) {
		wanted := wanted(&e)
		if examined == maxExamined || (wanted && len(page.Data) == limit) {
			next = markEvents(last)
			return false, nil
		}
		examined++
		last = archive.Mark{Time: e.Head.Time, Offset: e.Offset}
		if !wanted {
			return true, nil
		}
		shown, err := show(t, p, finder, own, &e, len(q.Types) > 0)
		if err != nil {
			return false, err
		}
		page.Data = append(page.Data, shown)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	page.Cursor = cursor(t, p.ID, "events", limit, next)
	return page, nil
}

// maxProperties is how many properties an event may have to match.
const maxProperties = 5

// filter returns which events are asked for.
func (q *EventsQuery) filter() (func(*archive.Entry) bool, error) {
	types := map[event.Type]bool{event.Track: true, event.Page: true, event.Screen: true}
	if len(q.Types) > 0 {
		types = map[event.Type]bool{}
	}
	for _, name := range q.Types {
		kind := event.ParseType(name)
		if kind == event.None {
			return nil, fault.Field("types", "%q is not a kind of call: want track, page, screen, identify, group or alias", name)
		}
		types[kind] = true
	}
	if len(q.Properties) > maxProperties {
		return nil, fault.Field("property", "%d properties; at most %d are looked at", len(q.Properties), maxProperties)
	}
	paths := make([]string, len(q.Properties))
	for i, m := range q.Properties {
		var parts []string
		for _, part := range strings.Split(m.Path, ".") {
			parts = append(parts, gjson.Escape(part))
		}
		paths[i] = strings.Join(parts, ".")
		if m.Path == "" || m.Value == "" {
			return nil, fault.Field("property."+m.Path, "want a property and its value, as in property.plan=gold")
		}
	}
	return func(e *archive.Entry) bool {
		label := event.Label(e.Head.Type, e.Head.Name)
		switch {
		case !types[e.Head.Type],
			label == "" && len(q.Include) > 0,
			label != "" && slices.Contains(q.Exclude, label),
			len(q.Include) > 0 && !slices.Contains(q.Include, label),
			len(q.Sources) > 0 && !slices.Contains(q.Sources, e.Head.Source):
			return false
		}
		in := "properties."
		if e.Head.Type == event.Identify || e.Head.Type == event.Group {
			in = "traits."
		}
		for i, m := range q.Properties {
			v := gjson.GetBytes(e.Body, in+paths[i])
			if text, ok := textOf(v.Raw); !ok || text != m.Value {
				return false
			}
		}
		return true
	}, nil
}

// show writes an event as the Profile API does; typed says that it keeps its
// type.
func show(t Target, p *identity.Profile, finder *identity.Finder, own map[event.Identifier]bool, e *archive.Entry, typed bool) (Event, error) {
	body := &event.Event{Type: e.Head.Type}
	if !e.Trimmed {
		var err error
		if body, err = event.ParseTrusted(e.Body); err != nil {
			return Event{}, fmt.Errorf("event at %d: %w", e.Offset, err)
		}
	}
	shown := Event{
		Trimmed:     e.Trimmed,
		ExternalIDs: []EventID{}, Context: objectOf(body.Context), Type: event.Track.String(), MessageID: e.Head.MessageID, SourceID: e.Head.Source,
		Timestamp: instant(e.Head.Time), Properties: objectOf(body.Properties), Event: event.Label(e.Head.Type, e.Head.Name),
		Related: map[string]string{t.Collection: p.ID.String()},
	}
	if typed {
		shown.Type, shown.Name, shown.Traits = e.Head.Type.String(), body.Name, json.RawMessage(body.Traits)
		shown.GroupID, shown.PreviousID = body.GroupID, body.PreviousID
	}
	// What an event was resolved by is what it carries and the profile owns:
	// an identifier that was blocked or refused is not the profile's.
	for _, id := range finder.Find(e.Head.IDs, body) {
		if own[id] {
			shown.ExternalIDs = append(shown.ExternalIDs, EventID{Collection: id.Collection, Type: id.Type, ID: id.Value, Encoding: "none"})
		}
	}
	return shown, nil
}

func objectOf(raw string) json.RawMessage {
	if raw == "" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(raw)
}

// windowOf reads what part of the history is asked for.
func windowOf(q EventsQuery) (archive.Window, error) {
	w := archive.Window{From: minTime, To: maxTime}
	switch q.Sort {
	case "", "desc":
		w.Reverse = true
	case "asc":
	default:
		return w, fault.Field("sort", "%q is not an order: want asc or desc", q.Sort)
	}
	for _, bound := range []struct {
		name, text string
		at         *int64
	}{{"start", q.Start, &w.From}, {"end", q.End, &w.To}} {
		if bound.text == "" {
			continue
		}
		at, ok := event.ParseTime(bound.text)
		if !ok {
			var err error
			if at, err = time.Parse(time.DateOnly, bound.text); err != nil {
				return w, fault.Field(bound.name, "%q is not an instant: want ISO 8601, as in 2026-01-31T09:30:00Z or 2026-01-31", bound.text)
			}
		}
		*bound.at = at.UnixMilli()
	}
	if q.Next != "" {
		after, ok := parseEventsMark(q.Next)
		if !ok {
			return w, errNext(q.Next)
		}
		w.After = after
	}
	return w, nil
}

// markEvents writes a place in a history in the form of Segment's cursors: the
// base64 of nanoseconds, two colons and something that tells events of one
// instant apart, here the offset. The nanoseconds of milliseconds end in six
// zeros; written so, they have no bound.
func markEvents(m archive.Mark) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d000000::%d", m.Time, uint64(m.Offset)))
}

func parseEventsMark(s string) (m archive.Mark, ok bool) {
	text, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return m, false
	}
	nanos, rest, _ := strings.Cut(string(text), "::")
	millis, ok := strings.CutSuffix(nanos, "000000")
	at, err := strconv.ParseInt(millis, 10, 64)
	if !ok || err != nil {
		return m, false
	}
	offset, err := strconv.ParseUint(rest, 10, 64)
	return archive.Mark{Time: at, Offset: commitlog.Offset(offset)}, err == nil
}
