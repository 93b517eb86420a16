package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/collect"
	"kith/delivery"
	"kith/destination"
	"kith/event"
	"kith/inspect"
	"kith/pipeline"
)

// shown is how much of a batch the feed gets when nobody watches, for those
// who come later.
const shown = 20

// tail returns the items of a batch that the feed is to get: all of them when
// somebody watches.
func tail[T any](watched bool, all []T) []T {
	if !watched && len(all) > shown {
		return all[len(all)-shown:]
	}
	return all
}

// counts gathers what is counted together. What follows each other is mostly of
// one kind, so a kind costs a look-up only where it changes.
type counts struct {
	kind inspect.Count
	run  uint64 // of kind, not in all yet
	all  map[inspect.Count]uint64
}

func (c *counts) add(stage inspect.Stage, source, destination string) {
	if c.run > 0 && c.kind.Stage == stage && c.kind.Source == source && c.kind.Destination == destination {
		c.run++
		return
	}
	c.flush()
	c.kind, c.run = inspect.Count{Stage: stage, Source: source, Destination: destination}, 1
}

func (c *counts) flush() {
	if c.run > 0 {
		if c.all == nil {
			c.all = map[inspect.Count]uint64{}
		}
		c.all[c.kind] += c.run
		c.run = 0
	}
}

func (s *Server) count(c *counts) {
	c.flush()
	for k, n := range c.all {
		s.feed.Count(k.Stage, k.Source, k.Destination, n)
	}
}

// tapAccepted shows what collect has made durable.
func (s *Server) tapAccepted(number uint32, records []event.Record) {
	s.feed.Count(inspect.Accepted, records[0].Source, "", uint64(len(records))) // a request is of one source
	watched := s.feed.Watched()
	slug := s.slug(number)
	records = tail(watched, records)
	items := make([]inspect.Item, 0, len(records))
	for i := range records {
		item := itemOf(&records[i].Head, slug)
		item.Stage = inspect.Accepted
		if watched {
			item.Body = append([]byte(nil), records[i].Body...)
		}
		items = append(items, item)
	}
	s.feed.Publish(items...)
}

func (s *Server) slug(number uint32) string {
	if sp := s.space(number); sp != nil {
		return sp.slug
	}
	return ""
}

// isSent reports whether a record is what somebody has sent.
func isSent(h *event.Head) bool { return h.Kind == event.KindEvent || h.Kind == event.KindObject }

// itemOf fills in what a head tells.
func itemOf(h *event.Head, space string) inspect.Item {
	item := inspect.Item{
		At: time.UnixMilli(h.At).UTC(), Space: space, Source: h.Source, Type: h.Type.String(),
		Name: event.Label(h.Type, h.Name), MessageID: h.MessageID,
	}
	item.IDs = append(make([]string, 0, 1+len(h.IDs)), h.ID.String())
	for _, id := range h.IDs {
		item.IDs = append(item.IDs, id.Value)
	}
	if h.Kind == event.KindObject {
		item.Type, item.Name = "object", h.Name
	}
	if len(h.IDs) > 0 {
		item.Who = h.IDs[0].Type + ":" + h.IDs[0].Value
	}
	return item
}

// rejectTap shows and keeps what collect has refused.
type rejectTap struct{ s *Server }

// Reject takes what was not kept; see collect.Rejections.
func (t rejectTap) Reject(x collect.Rejection) {
	if !x.Warning {
		t.s.feed.Count(inspect.Rejected, x.SourceID, "", uint64(max(x.Count, 1)))
		item := inspect.Item{
			At: x.At, Stage: inspect.Rejected, Source: x.SourceID, Type: x.Type, MessageID: x.MessageID,
			Detail: x.Code + ": " + x.Message,
		}
		if t.s.feed.Watched() {
			item.Body, item.IDs = shownSample(x.Sample)
		}
		t.s.feed.Publish(item)
	}
	t.s.rejections.Reject(inspect.Rejection{
		At: x.At, Source: x.SourceID, WriteKey: x.WriteKey, Code: x.Code, Message: x.Message, Field: x.Field, Type: x.Type,
		MessageID: x.MessageID, Count: x.Count, Warning: x.Warning, Body: string(x.Sample), Truncated: x.Truncated,
	})
}

// shownSample returns what was refused as JSON, and the ids that it names. What
// is no JSON becomes a string.
func shownSample(sample []byte) (json.RawMessage, []string) {
	sample = inspect.MaskKeys(bytes.Clone(sample), nil)
	if !json.Valid(sample) {
		text, err := json.Marshal(string(sample))
		if err != nil { // a string can always be written
			return nil, nil
		}
		return text, nil
	}
	var ids []string
	for _, id := range gjson.GetManyBytes(sample, "userId", "anonymousId", "groupId", "previousId") {
		if id.Type == gjson.String {
			ids = append(ids, id.Str)
		}
	}
	return sample, ids
}

// stageOf names a verdict as a stage.
func stageOf(v pipeline.VerdictCode) inspect.Stage {
	switch v {
	case pipeline.Duplicate:
		return inspect.Duplicate
	case pipeline.Blocked:
		return inspect.Blocked
	case pipeline.Dropped:
		return inspect.Discarded
	}
	return inspect.Admitted
}

// tapCommitted shows what a batch of a loop did.
func (s *Server) tapCommitted(done pipeline.Committed) {
	s.observer.Nudge()
	s.reviser.Committed(done.Records)
	s.insights.Nudge()
	c := &counts{}
	for _, r := range done.Records {
		if isSent(&r.Head) {
			c.add(stageOf(r.Verdict.Code), r.Head.Source, "")
		}
	}
	for i := range done.Outputs {
		switch o := &done.Outputs[i]; {
		case o.Change != nil:
			c.add(inspect.Changed, "", "")
			if o.Change.Kind == pipeline.EventFiltered {
				s.filtered.WithLabelValues(s.slug(done.Space)).Inc()
			}
		case o.Message != nil:
			c.add(inspect.Announced, "", o.Message.Destination)
		}
	}
	s.count(c)
	watched := s.feed.Watched()
	slug := s.slug(done.Space)
	var items []inspect.Item
	for _, r := range tail(watched, done.Records) {
		if !isSent(&r.Head) {
			continue
		}
		item := itemOf(&r.Head, slug)
		item.Stage, item.Profile, item.Detail = stageOf(r.Verdict.Code), r.Profile.String(), r.Verdict.Reason
		switch {
		case !watched:
		case r.Event != nil:
			item.Body = append([]byte(nil), r.Event.Body...)
		case r.Object != nil:
			item.Body = append([]byte(nil), r.Object...)
		}
		items = append(items, item)
	}
	for _, o := range tail(watched, done.Outputs) {
		item := inspect.Item{At: time.UnixMilli(o.At).UTC(), Space: slug, Profile: o.Profile.String()}
		switch {
		case o.Change != nil:
			item.Stage, item.Name = inspect.Changed, o.Change.Kind.String()
			item.Detail = describe(o.Change)
		case o.Message != nil:
			item.Stage, item.Destination, item.MessageID = inspect.Announced, o.Message.Destination, o.Message.MessageID
			if e, err := event.ParseTrusted(o.Message.Body); err == nil {
				item.Type, item.Name = e.Type.String(), event.Label(e.Type, e.Event)
			}
			if watched {
				item.Body = append([]byte(nil), o.Message.Body...)
			}
		default:
			continue
		}
		items = append(items, item)
	}
	s.feed.Publish(items...)
}

// tapDelivery shows what became of attempts.
func (s *Server) tapDelivery(reports []delivery.Report) {
	c := &counts{}
	for i := range reports {
		c.add(stageOfStatus(reports[i].Status), "", reports[i].Destination)
	}
	s.count(c)
	watched := s.feed.Watched()
	reports = tail(watched, reports)
	items := make([]inspect.Item, 0, len(reports))
	for i := range reports {
		r := &reports[i]
		item := inspect.Item{
			At: r.At, Stage: stageOfStatus(r.Status), Space: s.slug(r.Space), Destination: r.Destination,
			Profile: r.Profile.String(), Detail: r.Reason,
		}
		if r.Attempts > 1 {
			item.Detail = strings.TrimSpace(fmt.Sprintf("attempt %d %s", r.Attempts, item.Detail))
		}
		if e, err := event.ParseTrusted(r.Body); err == nil {
			item.Type, item.Name, item.MessageID = e.Type.String(), event.Label(e.Type, e.Event), e.MessageID
		} else if r.Output != nil && r.Output.Event != nil {
			o := r.Output.Event
			item.Type, item.Name, item.MessageID, item.Source = o.Type.String(), event.Label(o.Type, o.Name), o.MessageID, o.Source
		}
		if watched && json.Valid(r.Body) {
			item.Body = append([]byte(nil), r.Body...)
		}
		items = append(items, item)
	}
	s.feed.Publish(items...)
}

// stageOfStatus names what became of an attempt as a stage.
func stageOfStatus(status destination.Status) inspect.Stage {
	switch status {
	case destination.Delivered:
		return inspect.Sent
	case destination.Permanent:
		return inspect.Dead
	}
	return inspect.Retrying
}

// describe says in plain words what a change is about.
func describe(c *pipeline.Change) string {
	text := c.Subject
	if !c.Other.IsZero() {
		text += " " + c.Other.String()
	}
	if c.Detail != "" {
		text += " (" + c.Detail + ")"
	}
	return text
}
