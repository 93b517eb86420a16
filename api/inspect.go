package api

import (
	"context"
	"encoding/json"
	"net/http"

	"kith/fault"
	"kith/inspect"
	"kith/trackingplan"
)

const tagInspect = "Inspect"

// The largest pages of what other rooms list.
const (
	maxRejected   = 200
	maxBodiesPage = 200
	maxRetry      = 1000
)

func (a *API) inspectRoutes() {
	handle(a, http.MethodGet, "/rejected-events", "listRejectedEvents", tagInspect, a.listUnclaimed,
		about("Kith's own: messages that were not accepted and came with no known write key; kept for a week."))
	handle(a, http.MethodGet, "/sources/{sourceId}/rejected-events", "listRejectedEventsFromSource", tagInspect, a.listRejected,
		about("Kith's own: messages of a source that were not accepted, and why; kept for a week."))
	handle(a, http.MethodGet, "/sources/{sourceId}/quarantined-events", "listQuarantinedEventsFromSource", tagInspect, a.listQuarantined,
		about("Kith's own: events that the source's tracking plan has blocked, with their violations."))
	handle(a, http.MethodGet, "/destinations/{destinationId}/dead-letters", "listDeadLetters", tagInspect, a.listDeadLetters,
		about("Kith's own: events that could not be delivered."))
	handle(a, http.MethodPost, "/destinations/{destinationId}/dead-letters/retry", "retryDeadLetters", tagInspect, a.retryDeadLetters,
		about("Kith's own: sends dead letters again, those named or, with all, all of them."))
	a.liveRoute()
	a.seenRoutes()
}

type rejectedBody struct {
	ID        string `json:"id"`
	At        string `json:"at"`
	WriteKey  string `json:"writeKey,omitempty" doc:"The beginning of the key that was used"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Field     string `json:"field,omitempty"`
	Type      string `json:"type,omitempty"`
	MessageID string `json:"messageId,omitempty"`
	Count     int    `json:"count" doc:"How many messages it stands for"`
	Warning   bool   `json:"warning,omitempty" doc:"Nothing was lost by it: the events were kept, or have entries of their own"`
	Body      string `json:"body" doc:"One of them as it came, cut at 8 KiB"`
	Truncated bool   `json:"truncated,omitempty"`
}

type rejectedAnswer struct {
	RejectedEvents []rejectedBody `json:"rejectedEvents"`
	Pagination     pageInfo       `json:"pagination"`
}

type listRejectedInput struct {
	SourcePath
	Paging
}

func (a *API) listRejected(ctx context.Context, in *listRejectedInput) (rejectedAnswer, error) {
	if _, _, err := a.source(in.SourceID); err != nil {
		return rejectedAnswer{}, err
	}
	return a.rejected(ctx, in.SourceID, &in.Paging)
}

func (a *API) listUnclaimed(ctx context.Context, in *Paging) (rejectedAnswer, error) {
	return a.rejected(ctx, "", in)
}

func (a *API) rejected(ctx context.Context, source string, p *Paging) (rejectedAnswer, error) {
	count, cursor, err := p.wantPassed(maxRejected)
	if err != nil {
		return rejectedAnswer{}, err
	}
	list, next, err := a.cfg.Rejections.List(ctx, source, cursor, count)
	if err != nil {
		return rejectedAnswer{}, err
	}
	return rejectedAnswer{each(list, func(r *inspect.Rejection) rejectedBody {
		return rejectedBody{
			ID: r.ID, At: when(r.At), WriteKey: r.WriteKey, Code: r.Code, Message: r.Message, Field: r.Field, Type: r.Type,
			MessageID: r.MessageID, Count: r.Count, Warning: r.Warning, Body: r.Body, Truncated: r.Truncated,
		}
	}), passed(cursor, next)}, nil
}

type quarantinedBody struct {
	ID             string                   `json:"id"`
	Offset         uint64                   `json:"offset" doc:"Its place in the space's raw log"`
	MessageID      string                   `json:"messageId"`
	ReceivedAt     string                   `json:"receivedAt"`
	Timestamp      string                   `json:"timestamp"`
	Type           string                   `json:"type"`
	Event          string                   `json:"event,omitempty"`
	TrackingPlanID string                   `json:"trackingPlanId"`
	Code           string                   `json:"code"`
	Reason         string                   `json:"reason"`
	Violations     []trackingplan.Violation `json:"violations"`
	Body           json.RawMessage          `json:"body,omitempty" doc:"The event, while it is kept"`
}

type quarantinedAnswer struct {
	QuarantinedEvents []quarantinedBody `json:"quarantinedEvents"`
	Pagination        pageInfo          `json:"pagination"`
}

func (a *API) listQuarantined(ctx context.Context, in *listRejectedInput) (quarantinedAnswer, error) {
	snap, source, err := a.source(in.SourceID)
	if err != nil {
		return quarantinedAnswer{}, err
	}
	space := snap.Space(source.SpaceID)
	if space == nil {
		return quarantinedAnswer{}, notFound("space", source.SpaceID)
	}
	count, cursor, err := in.wantPassed(maxBodiesPage)
	if err != nil {
		return quarantinedAnswer{}, err
	}
	list, next, err := a.cfg.Quarantine.Quarantined(ctx, space.Number, source.ID, cursor, count)
	if err != nil {
		return quarantinedAnswer{}, err
	}
	out := quarantinedAnswer{QuarantinedEvents: []quarantinedBody{}, Pagination: passed(cursor, next)}
	for _, q := range list {
		body, err := a.cfg.Bodies.Body(ctx, space.Number, q.Offset)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return quarantinedAnswer{}, err
		}
		if q.Violations == nil {
			q.Violations = []trackingplan.Violation{}
		}
		out.QuarantinedEvents = append(out.QuarantinedEvents, quarantinedBody{
			ID: q.ID.String(), Offset: uint64(q.Offset), MessageID: q.MessageID, ReceivedAt: when(q.At), Timestamp: when(q.Timestamp),
			Type: q.Type.String(), Event: q.Event, TrackingPlanID: q.Plan, Code: q.Code, Reason: q.Reason, Violations: q.Violations, Body: body,
		})
	}
	return out, nil
}

type deadLetterBody struct {
	ID             string          `json:"id"`
	At             string          `json:"at" doc:"When it was given up"`
	SubscriptionID string          `json:"subscriptionId,omitempty"`
	ProfileID      string          `json:"profileId,omitempty"`
	MessageID      string          `json:"messageId"`
	Type           string          `json:"type"`
	Event          string          `json:"event,omitempty"`
	Reason         string          `json:"reason"`
	Attempts       int             `json:"attempts"`
	Resent         bool            `json:"resent" doc:"It was sent again by a person, and failed again"`
	Body           json.RawMessage `json:"body,omitempty" doc:"The event, while it is kept"`
}

type deadLettersAnswer struct {
	DeadLetters []deadLetterBody `json:"deadLetters"`
	Pagination  pageInfo         `json:"pagination"`
}

type listDeadLettersInput struct {
	DestinationPath
	Paging
}

func (a *API) listDeadLetters(ctx context.Context, in *listDeadLettersInput) (deadLettersAnswer, error) {
	if _, err := a.destination(in.DestinationID); err != nil {
		return deadLettersAnswer{}, err
	}
	count, cursor, err := in.wantPassed(maxBodiesPage)
	if err != nil {
		return deadLettersAnswer{}, err
	}
	list, next, err := a.cfg.DeadLetters.DeadLetters(ctx, in.DestinationID, cursor, count)
	if err != nil {
		return deadLettersAnswer{}, err
	}
	return deadLettersAnswer{each(list, func(d *DeadLetter) deadLetterBody {
		return deadLetterBody{
			ID: d.ID, At: when(d.At), SubscriptionID: d.Subscription, ProfileID: d.Profile.String(), MessageID: d.MessageID,
			Type: d.Type, Event: d.Event, Reason: d.Reason, Attempts: d.Attempts, Resent: d.Resent, Body: d.Body,
		}
	}), passed(cursor, next)}, nil
}

type retryInput struct {
	DestinationPath
	Body struct {
		IDs []string `json:"ids,omitempty" maxItems:"1000"`
		All bool     `json:"all,omitempty" doc:"All there are; then ids must be missing"`
	}
}

type retryAnswer struct {
	Retried int `json:"retried" doc:"How many are on their way again"`
}

func (a *API) retryDeadLetters(ctx context.Context, in *retryInput) (retryAnswer, error) {
	if _, err := a.destination(in.DestinationID); err != nil {
		return retryAnswer{}, err
	}
	if in.Body.All == (len(in.Body.IDs) > 0) {
		return retryAnswer{}, fault.Field("ids", "name up to %d dead letters, or say all: true", maxRetry)
	}
	n, err := a.cfg.DeadLetters.Retry(ctx, in.DestinationID, in.Body.IDs)
	return retryAnswer{n}, err
}
