package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/api"
	"kith/archive"
	"kith/delivery"
	"kith/event"
	"kith/fault"
	"kith/pipeline"
	"kith/workspace"
)

// telling puts a trace together.
type telling struct {
	tracer
	trace *api.Trace
	space *space
	snap  *workspace.Snapshot
	raw   *event.Record
}

func (t *telling) stage(name, outcome, next string, details ...string) {
	if details == nil {
		details = []string{}
	}
	t.trace.Stages = append(t.trace.Stages, api.TraceStage{Stage: name, Outcome: outcome, Details: details, Next: next})
}

// collected tells how it arrived.
func (t *telling) collected() {
	m := t.trace
	what := strings.TrimSpace(m.Type + " " + strings.TrimSpace(m.Event))
	if m.Kind != "event" {
		what = strings.TrimSpace(m.Kind + " " + m.Event)
	}
	from := m.Source
	if from == "" && m.SourceID != "" {
		from = "source " + m.SourceID + ", which is no longer there"
	}
	details := []string{what}
	if from != "" {
		details[0] += " from " + from
	}
	if late := t.raw.At - t.raw.Time; late >= 1000 {
		details = append(details, fmt.Sprintf("it happened %s before", (time.Duration(late)*time.Millisecond).Round(time.Second)))
	}
	t.stage("collect", "accepted", "", details...)
}

// passed tells what the row did.
func (t *telling) passed(ctx context.Context, p *archive.Passed) error {
	m := t.trace
	if !p.Profile.IsZero() {
		m.ProfileID = p.Profile.String()
	}
	if !p.Account.IsZero() {
		m.AccountID = p.Account.String()
	}
	switch p.Verdict.Code {
	case pipeline.Duplicate:
		return t.duplicate(ctx, p)
	case pipeline.Blocked:
		m.Status, m.Reason = "blocked", p.Verdict.Reason
		if err := t.copies(ctx, p); err != nil {
			return err
		}
		return t.blocked(ctx, p)
	case pipeline.Dropped:
		m.Status, m.Reason = "dropped", p.Verdict.Reason
		if err := t.copies(ctx, p); err != nil {
			return err
		}
		t.stage("processing", "dropped", "", p.Verdict.Reason)
		return nil
	}
	m.Status = "admitted"
	if p.Head.Kind != event.KindEvent {
		if p.Head.Kind == event.KindObject {
			t.stage("processing", "kept", "", "objects feed no profile and go to no destination")
		}
		m.CopiesComplete = true
		return nil
	}
	if err := t.copies(ctx, p); err != nil {
		return err
	}
	t.planned(p)
	caused, err := t.outputs(ctx, t.space, p)
	if fault.Is(err, fault.NotFound) {
		m.Notes = append(m.Notes, "What it brought about is older than the retention of the space and is not kept any more.")
		return nil
	}
	if err != nil {
		return err
	}
	t.changes(caused, p.Link.Known)
	if !p.Link.Known {
		m.Notes = append(m.Notes, "It passed before Kith kept links from messages to what they brought about: messages made because of it are not shown.")
	}
	return t.deliveries(ctx, caused)
}

// duplicate tells of a copy, and of the one that counted.
func (t *telling) duplicate(ctx context.Context, p *archive.Passed) error {
	m := t.trace
	m.Status, m.Reason, m.CopiesComplete = "duplicate", p.Verdict.Reason, true
	first, err := t.copyOf(ctx, t.space, p.Verdict.Of)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil {
		m.First = &first
		t.stage("deduplication", "duplicate", "Trace the first one: kith trace "+first.RecordID,
			"the same messageId came before, at "+first.ReceivedAt+"; only that one counts")
		return nil
	}
	t.stage("deduplication", "duplicate", "", "the same messageId came before; only that one counts")
	return nil
}

// copies tells of later copies.
func (t *telling) copies(ctx context.Context, p *archive.Passed) error {
	m := t.trace
	offsets, complete, err := t.s.archive.Copies(ctx, t.space.number, p.Offset, traceRuns, traceCopies)
	if err != nil {
		return err
	}
	m.CopiesComplete = complete
	for _, at := range offsets {
		c, err := t.copyOf(ctx, t.space, at)
		if err != nil {
			return err
		}
		m.Copies = append(m.Copies, c)
	}
	switch {
	case len(offsets) > 0:
		n := fmt.Sprint(len(offsets))
		if !complete {
			n = "at least " + n
		}
		t.stage("deduplication", "first", "", n+" later with the same messageId dropped, the last at "+m.Copies[len(m.Copies)-1].ReceivedAt)
	case complete:
		t.stage("deduplication", "first", "", "it came once")
	default:
		t.stage("deduplication", "first", "", "no copy soon after it")
	}
	return nil
}

// blocked tells why the tracking plan has kept it back.
func (t *telling) blocked(ctx context.Context, p *archive.Passed) error {
	details := []string{p.Verdict.Reason}
	entry, err := t.quarantine.Entry(ctx, t.space.number, p.Head.Source, time.UnixMilli(p.Head.At), p.Offset)
	if err != nil {
		return err
	}
	if entry != nil {
		plan := entry.Plan
		if is := t.snap.PlanOf(p.Head.Source); is != nil && is.ID == plan {
			plan = is.Slug
		}
		details = []string{entry.Reason, "by the plan " + plan}
		if len(entry.Violations) > 1 { // one stands in the reason
			for _, v := range entry.Violations {
				details = append(details, v.String())
			}
		}
	}
	t.stage("tracking plan", "blocked", "Correct the event, or the plan's rule and the source's settings, and send it again; it rests in quarantine.", details...)
	return nil
}

// planned tells what the tracking plan did to an event that it let pass.
func (t *telling) planned(p *archive.Passed) {
	switch {
	case p.Verdict.Body != nil:
		t.stage("tracking plan", "let pass, changed", "", planNotes(p.Verdict.Body)...)
	case t.snap.PlanOf(p.Head.Source) == nil:
		t.stage("tracking plan", "let pass", "", "its source has no tracking plan")
	default:
		t.stage("tracking plan", "let pass", "")
	}
}

// maxNotes is how many findings of the tracking plan a trace shows.
const maxNotes = 20

// planNotes tells what the tracking plan has noted in an event that it let pass
// (sheet connections_protocols §5.2).
func planNotes(body []byte) []string {
	found := gjson.GetBytes(body, "context.protocols")
	var lines []string
	found.Get("violations").ForEach(func(_, v gjson.Result) bool {
		lines = append(lines, fmt.Sprintf("violation: %s (%s)", v.Get("description"), v.Get("field")))
		return true
	})
	for _, list := range []struct{ name, means string }{
		{"unplanned", "not in the plan: "}, {"omitted", "taken out, not in the plan: "}, {"omitted_on_violation", "taken out for its violation: "},
	} {
		found.Get(list.name).ForEach(func(_, v gjson.Result) bool {
			lines = append(lines, list.means+v.String())
			return true
		})
	}
	if more := len(lines) - maxNotes; more > 0 {
		lines = append(lines[:maxNotes], fmt.Sprintf("and %d more, in context.protocols of the event", more))
	}
	return lines
}

// changes tells what happened to profiles and audiences. linked says that the
// messages that were made are among what was caused.
func (t *telling) changes(caused []archive.Caused, linked bool) {
	lines := map[string][]string{}
	messages := map[string]int{}
	for i := range caused {
		switch o := &caused[i].Output; {
		case o.Change != nil:
			stage, line := changeLine(o.Change)
			lines[stage] = append(lines[stage], line)
		case o.Message != nil:
			messages[t.slugOf(o.Message.Destination)]++
		}
	}
	m := t.trace
	identity := lines["identity"]
	switch {
	case m.ProfileID == "" && m.AccountID == "":
		identity = append(identity, "it belongs to no profile")
	case m.AccountID == "":
		identity = append(identity, "profile "+m.ProfileID)
	default:
		identity = append(identity, strings.TrimSpace("profile "+m.ProfileID+", account "+m.AccountID))
	}
	outcome := "known"
	switch {
	case m.ProfileID == "" && m.AccountID == "":
		outcome = "nobody's"
	case len(identity) > 1:
		outcome = "changed"
	}
	t.stage("identity", outcome, "", identity...)
	for _, name := range []string{"profile", "audiences"} {
		if list := lines[name]; len(list) > 0 {
			t.stage(name, "changed", "", list...)
		} else {
			t.stage(name, "unchanged", "")
		}
	}
	switch {
	case !linked:
		t.stage("activation", "unknown", "", "whether messages were made because of it is not kept")
		return
	case len(messages) == 0:
		t.stage("activation", "nothing to tell", "")
		return
	}
	var to []string
	for _, slug := range slices.Sorted(maps.Keys(messages)) {
		to = append(to, fmt.Sprintf("%d for %s", messages[slug], slug))
	}
	t.stage("activation", "messages made", "", to...)
}

// changeLine says which stage made a change, and what it is.
func changeLine(c *pipeline.Change) (stage, line string) {
	stage = "identity"
	switch c.Kind {
	case pipeline.TraitChanged, pipeline.TraitRefused:
		stage = "profile"
	case pipeline.AudienceEntered, pipeline.AudienceExited:
		stage = "audiences"
	}
	return stage, strings.TrimSpace(c.Kind.String() + " " + describe(c))
}

func (t *telling) slugOf(destination string) string {
	if d := t.snap.Destination(destination); d != nil {
		return d.Slug
	}
	return destination
}

// deliveries tells what happened at the destinations.
func (t *telling) deliveries(ctx context.Context, caused []archive.Caused) error {
	for i := range caused {
		o := &caused[i].Output
		switch {
		case o.Event != nil:
			for _, dest := range bySlug(t.snap) {
				before := len(t.trace.Deliveries)
				if err := t.delivery(ctx, dest, &caused[i], nil); err != nil {
					return err
				}
				if dest.SourceID != o.Event.Source { // it may have been when the event came
					t.trace.Deliveries = append(t.trace.Deliveries[:before], slices.DeleteFunc(t.trace.Deliveries[before:], notItsOwn)...)
				}
			}
		case o.Message != nil:
			message := t.message(o.Message)
			dest := t.snap.Destination(o.Message.Destination)
			if dest == nil {
				t.trace.Deliveries = append(t.trace.Deliveries, api.TraceDelivery{
					DestinationID: o.Message.Destination, Destination: o.Message.Destination, State: "gone", Message: message,
				})
				continue
			}
			if err := t.delivery(ctx, dest, &caused[i], message); err != nil {
				return err
			}
		}
	}
	if len(t.trace.Deliveries) == 0 {
		t.trace.Notes = append(t.trace.Notes, "No destination is connected to its source.")
	}
	return nil
}

// notItsOwn reports whether nothing happened at a destination that was never
// connected to the event's source.
func notItsOwn(d api.TraceDelivery) bool {
	return d.Code == delivery.GateSource.Code() || d.State == "unknown" || d.State == "not reached" || d.State == "under way"
}

// bySlug returns the destinations in the order of their slugs.
func bySlug(snap *workspace.Snapshot) []*workspace.Destination {
	list := make([]*workspace.Destination, 0, len(snap.Destinations))
	for i := range snap.Destinations {
		list = append(list, &snap.Destinations[i])
	}
	slices.SortFunc(list, func(a, b *workspace.Destination) int { return strings.Compare(a.Slug, b.Slug) })
	return list
}

func (t *telling) message(m *pipeline.Message) *api.TraceMessage {
	out := &api.TraceMessage{MessageID: m.MessageID, AudienceID: m.Computation}
	if e, err := event.ParseTrusted(m.Body); err == nil {
		out.Type, out.Event = e.Type.String(), event.Label(e.Type, e.Event)
	}
	if a := t.snap.Audience(m.Computation); a != nil {
		out.Audience = a.Key
	}
	return out
}

// delivery tells what happened to one output at one destination.
func (t *telling) delivery(ctx context.Context, dest *workspace.Destination, caused *archive.Caused, message *api.TraceMessage) error {
	trail, err := t.s.delivery.Trail(ctx, dest.ID, t.space.number, caused.At)
	if err != nil {
		return err
	}
	base := api.TraceDelivery{DestinationID: dest.ID, Destination: dest.Slug, Message: message}
	switch {
	case trail.Unknown:
		base.State, base.Reason = "unknown", "the destination is newer than the message, or it is longer ago than outcomes are kept"
	case trail.Behind > 0:
		base.State, base.Behind = "not reached", trail.Behind
		base.Reason = t.standing(dest.ID)
		base.Next = "It goes on by itself."
		if base.Reason != "" {
			base.Next = "It goes on once the destination does."
		}
	case trail.Open:
		base.State = "under way"
		if base.Reason = t.standing(dest.ID); base.Reason != "" {
			base.Next = "It goes on once the destination does."
		}
	}
	if base.State != "" {
		t.trace.Deliveries = append(t.trace.Deliveries, base)
		return nil
	}
	for i := range trail.Steps {
		t.trace.Deliveries = append(t.trace.Deliveries, t.step(base, dest, &trail.Steps[i]))
	}
	return nil
}

// standing says why a destination sends nothing at all.
func (t *telling) standing(id string) string {
	for _, st := range t.s.delivery.Stats() {
		if st.Destination == id && st.Problem != "" {
			return "nothing is sent: " + st.Problem
		}
	}
	return ""
}

func (t *telling) step(d api.TraceDelivery, dest *workspace.Destination, step *delivery.Step) api.TraceDelivery {
	d.State, d.SubscriptionID, d.Attempts, d.Reason = step.State.String(), step.Subscription, int(step.Attempts), step.Reason
	for i := range dest.Subscriptions {
		if dest.Subscriptions[i].ID == step.Subscription {
			d.Subscription = dest.Subscriptions[i].Name
		}
	}
	d.Attempts = max(d.Attempts, step.Tries)
	d.FirstTriedAt, d.NextTryAt, d.GivenUpAt, d.ResentAt = stamp(step.FirstTried), stamp(step.Due), stamp(step.LetterAt), stamp(step.ResentAt)
	d.DeadLetterID = step.Letter
	switch step.State {
	case delivery.StateFiltered:
		d.Code = step.Gate.Code()
		d.Reason, d.Next = gateWords(step.Gate)
	case delivery.StateDead:
		d.Code = step.Code
		d.Next = fmt.Sprintf(`Once the cause is gone, send it again: POST /api/destinations/%s/dead-letters/retry {"ids":[%q]}`, dest.ID, step.Letter)
	case delivery.StateWaiting:
		switch standing := t.standing(dest.ID); {
		case standing != "":
			d.Reason = strings.TrimPrefix(d.Reason+"; "+standing, "; ")
			d.Next = "It goes on once the destination does."
		case step.Due.IsZero() && step.Tries == 0:
			d.Reason, d.Next = "an earlier event of its profile waits for a retry", "It follows when that one is done with."
		default:
			d.Next = "It is tried again by itself."
		}
	}
	return d
}

// gateWords says what a gate asks, and what can be done.
func gateWords(g delivery.Gate) (why, next string) {
	switch g {
	case delivery.GateSource:
		return "the destination is not connected to its source", ""
	case delivery.GateGone:
		return "the event is no longer kept", ""
	case delivery.GateIntegrations:
		return "its integrations object refuses the destination", "Change integrations where the event is sent, if it should arrive."
	case delivery.GateTrigger:
		return "no enabled subscription's trigger matches it", "Change a trigger or add a subscription, if it should arrive."
	case delivery.GateClient:
		return "the device has sent it there itself (_metadata.bundled)", ""
	}
	return "", ""
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return event.FormatTime(t)
}
