package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/inspect"
	"kith/workspace"
)

// Debugger looks for what a source has sent lately; inspect.Debugger.
type Debugger interface {
	List(ctx context.Context, q inspect.DebugQuery) (inspect.DebugPage, error)
}

func (a *API) debuggerRoute() {
	handle(a, "GET", "/sources/{sourceId}/debugger", "listDebuggerEventsFromSource", tagInspect, a.debug,
		about("Kith's own: what a source has sent, the newest first: what was taken and what was refused, as it was sent and as it was processed. "+
			"It reads the log itself, so nothing is left out. One look goes through 20,000 records at most: with a next cursor there may be more, also on an empty page. "+
			"Refused messages are kept for a week. Write keys are not shown."))
}

type debuggerInput struct {
	SourcePath
	ID      string   `query:"id" doc:"Only with this messageId, record id, userId, anonymousId, groupId or other identifier; also as type:value"`
	Search  string   `query:"search" maxLength:"500" doc:"Only with this text anywhere in the event as it was sent"`
	Event   string   `query:"event" doc:"Only of this name, or Page Viewed, Screen Viewed"`
	Type    string   `query:"type" doc:"Only calls of this type, as track"`
	Outcome []string `query:"outcome" doc:"Only these: accepted (not processed yet), admitted, duplicate, blocked, discarded, rejected, warning"`
	Paging
}

type debuggedIdentifier struct {
	Collection string `json:"collection"`
	Type       string `json:"type"`
	Value      string `json:"value"`
}

type debuggerEvent struct {
	ID          string               `json:"id" doc:"Of the record, or of the refusal"`
	Outcome     string               `json:"outcome" enum:"accepted,admitted,duplicate,blocked,discarded,rejected,warning"`
	ReceivedAt  string               `json:"receivedAt"`
	Timestamp   string               `json:"timestamp,omitempty"`
	Type        string               `json:"type"`
	Event       string               `json:"event,omitempty" doc:"The name under which it is counted"`
	MessageID   string               `json:"messageId,omitempty"`
	Identifiers []debuggedIdentifier `json:"identifiers,omitempty"`
	ProfileID   string               `json:"profileId,omitempty" doc:"Whose it was when it was processed"`
	Offset      *uint64              `json:"offset,omitempty" doc:"Its place in the space's raw log"`
	Code        string               `json:"code,omitempty" doc:"Why it was refused"`
	Reason      string               `json:"reason,omitempty" doc:"In plain words"`
	Field       string               `json:"field,omitempty"`
	Count       int                  `json:"count" doc:"How many messages it stands for"`
	Raw         json.RawMessage      `json:"raw,omitempty" doc:"As it was accepted, completed with its times and ids"`
	Processed   json.RawMessage      `json:"processed,omitempty" doc:"As the tracking plan let it pass, when that is different"`
	Text        string               `json:"text,omitempty" doc:"What was refused, as it came, cut at 8 KiB"`
	Truncated   bool                 `json:"truncated,omitempty"`
	Trimmed     bool                 `json:"trimmed,omitempty" doc:"It is older than the space's retention: raw and processed are gone"`
}

type debuggerAnswer struct {
	Events     []debuggerEvent `json:"debuggerEvents"`
	Pagination pageInfo        `json:"pagination"`
}

// outcomes are the stages that a look may be asked for.
func outcomes() []inspect.Stage {
	return []inspect.Stage{inspect.Accepted, inspect.Admitted, inspect.Duplicate, inspect.Blocked, inspect.Discarded, inspect.Rejected, inspect.Warned}
}

func (a *API) debug(ctx context.Context, in *debuggerInput) (out debuggerAnswer, err error) {
	snap, source, err := a.source(in.SourceID)
	if err != nil {
		return out, err
	}
	space := snap.Space(source.SpaceID)
	if space == nil {
		return out, notFound("space", source.SpaceID)
	}
	q := inspect.DebugQuery{Space: space.Number, Source: source.ID, ID: in.ID, Text: in.Search, Event: in.Event}
	if in.Type != "" {
		if q.Type = event.ParseType(in.Type); q.Type == event.None {
			return out, fault.Field("type", "%q is no type of call: want one such as track", in.Type)
		}
	}
	for _, s := range in.Outcome {
		if !slices.Contains(outcomes(), inspect.Stage(s)) {
			return out, fault.Field("outcome", "%q is no outcome: want some of %v", s, outcomes())
		}
		q.Stages = append(q.Stages, inspect.Stage(s))
	}
	if q.Limit, q.Cursor, err = in.wantPassed(maxBodiesPage); err != nil {
		return out, err
	}
	if q.Epoch, err = a.cfg.Epoch(ctx, space.Number); err != nil {
		return out, err
	}
	page, err := a.cfg.Debugger.List(ctx, q)
	if err != nil {
		return out, err
	}
	out.Events = each(page.List, func(d *inspect.Debugged) debuggerEvent { return debugged(d, source) })
	out.Pagination = passed(q.Cursor, page.Next)
	return out, nil
}

// debugged shows an entry, without its source's write keys.
func debugged(d *inspect.Debugged, source *workspace.Source) debuggerEvent {
	e := debuggerEvent{Outcome: string(d.Stage), ReceivedAt: when(d.At), Count: 1}
	if x := d.Rejection; x != nil {
		e.ID, e.Type, e.MessageID, e.Code, e.Reason, e.Field, e.Count = x.ID, x.Type, x.MessageID, x.Code, x.Message, x.Field, x.Count
		e.Text, e.Truncated = string(inspect.MaskKeys([]byte(x.Body), source.WriteKeys)), x.Truncated
		return e
	}
	h := &d.Recent.Head
	e.ID, e.MessageID, e.Timestamp, e.Type, e.Event = h.ID.String(), h.MessageID, when(time.UnixMilli(h.Time).UTC()), h.Type.String(), event.Label(h.Type, h.Name)
	if h.Kind == event.KindObject {
		e.Type, e.Event = "object", h.Name
	}
	e.Offset, e.Reason = ptr(uint64(d.Recent.Offset)), d.Recent.Verdict.Reason
	if d.Stage == inspect.Blocked || d.Stage == inspect.Discarded {
		e.Code, _, _ = strings.Cut(e.Reason, ":")
	}
	if !d.Recent.Profile.IsZero() {
		e.ProfileID = d.Recent.Profile.String()
	}
	e.Identifiers = each(h.IDs, func(id *event.Identifier) debuggedIdentifier {
		return debuggedIdentifier{id.Collection, id.Type, id.Value}
	})
	e.Trimmed = d.Recent.Trimmed
	e.Raw = inspect.MaskKeys(d.Recent.Raw, source.WriteKeys)
	if d.Recent.Verdict.Body != nil {
		e.Processed = inspect.MaskKeys(d.Recent.Verdict.Body, source.WriteKeys)
	}
	return e
}
