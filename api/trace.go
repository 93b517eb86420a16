package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"kith/fault"
	"kith/workspace"
)

const tagMessages = "Messages"

// Tracer says what became of a message. The server has one, since it takes all
// rooms together.
type Tracer interface {
	// Trace looks for a message. Without a scan a message that is not found is
	// fault.NotFound.
	Trace(ctx context.Context, q TraceQuery) (*Traced, error)
}

// MaxTraceWait is how long a trace waits at most.
const MaxTraceWait = 30 * time.Second

// TraceQuery is what is looked for.
type TraceQuery struct {
	ID     string            // a messageId or a record's id
	Spaces []workspace.Space // to look in, in this order
	Wait   time.Duration     // until what is accepted by now has passed everything, or this is over
	Scan   bool              // look through the heads of the raw log
	After  string            // where a scan goes on: TraceScan.Next
	Body   bool              // with the event itself
}

// Traced is what a look has found. Message is nil when only a scan, which may
// go on, or rejections are to be told of.
type Traced struct {
	Message    *Trace           `json:"message"`
	Rejections []TraceRejection `json:"rejections" doc:"Times that a message with this messageId was refused, the newest first; kept for a week"`
	Scan       *TraceScan       `json:"scan,omitempty" doc:"How far the scan is, when one was asked for and has not found the message yet"`
}

// TraceRejection is a message that the Tracking API has not taken.
type TraceRejection struct {
	At       string `json:"at"`
	SourceID string `json:"sourceId,omitempty"`
	Source   string `json:"source,omitempty" doc:"The source's slug"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Field    string `json:"field,omitempty"`
	Type     string `json:"type,omitempty"`
	Next     string `json:"next,omitempty" doc:"What to do about it"`
}

// TraceScan is how far a scan of heads has come.
type TraceScan struct {
	Looked uint64 `json:"looked" doc:"Records looked at by this step"`
	Left   uint64 `json:"left" doc:"Records that are left"`
	Next   string `json:"next,omitempty" doc:"Send it as after to go on; missing at the end"`
}

// Trace is what became of one message.
type Trace struct {
	MessageID string `json:"messageId"`
	RecordID  string `json:"recordId" doc:"The id of the record in the raw log"`
	Kind      string `json:"kind" enum:"event,object,config,tick"`
	SpaceID   string `json:"spaceId"`
	Space     string `json:"space" doc:"The space's slug"`
	Offset    uint64 `json:"offset" doc:"Its place in the space's raw log"`
	Status    string `json:"status" enum:"pending,admitted,duplicate,blocked,dropped" doc:"pending: accepted, and not processed yet"`
	Reason    string `json:"reason,omitempty" doc:"Why it is duplicate, blocked or dropped"`
	Before    uint64 `json:"before,omitempty" doc:"While pending: how many records are processed before it"`

	Type       string `json:"type,omitempty"`
	Event      string `json:"event,omitempty" doc:"The name under which it is counted"`
	SourceID   string `json:"sourceId,omitempty"`
	Source     string `json:"source,omitempty" doc:"The source's slug"`
	ReceivedAt string `json:"receivedAt"`
	Timestamp  string `json:"timestamp" doc:"The event's own time, corrected"`

	Identifiers []TraceIdentifier `json:"identifiers"`
	ProfileID   string            `json:"profileId,omitempty" doc:"As it was when the message passed"`
	AccountID   string            `json:"accountId,omitempty"`

	First          *TraceCopy  `json:"first,omitempty" doc:"Of a duplicate: the one that counted"`
	Copies         []TraceCopy `json:"copies" doc:"Later ones with the same messageId, which were dropped"`
	CopiesComplete bool        `json:"copiesComplete" doc:"Whether these are all of them until now"`

	Stages     []TraceStage    `json:"stages" doc:"What each stage did and why, in order"`
	Deliveries []TraceDelivery `json:"deliveries" doc:"What happened at each destination, of the message and of those made because of it"`
	Notes      []string        `json:"notes"`
	Body       json.RawMessage `json:"body,omitempty" doc:"The event as intake let it pass, when asked for"`
}

// TraceIdentifier is an identifier that the message carries.
type TraceIdentifier struct {
	Collection string `json:"collection"`
	Type       string `json:"type"`
	ID         string `json:"id"`
}

// TraceCopy is another record with the same messageId.
type TraceCopy struct {
	RecordID   string `json:"recordId"`
	Offset     uint64 `json:"offset"`
	ReceivedAt string `json:"receivedAt"`
	SourceID   string `json:"sourceId,omitempty"`
}

// TraceStage is what a stage did.
type TraceStage struct {
	Stage   string   `json:"stage" enum:"collect,deduplication,tracking plan,identity,profile,audiences,activation,processing"`
	Outcome string   `json:"outcome" doc:"In a word or two: accepted, first, blocked, profile created"`
	Details []string `json:"details" doc:"For people, a line each"`
	Next    string   `json:"next,omitempty" doc:"What to do about it"`
}

// TraceDelivery is what happened at one destination, for one subscription.
type TraceDelivery struct {
	DestinationID  string        `json:"destinationId"`
	Destination    string        `json:"destination" doc:"The destination's slug"`
	SubscriptionID string        `json:"subscriptionId,omitempty"`
	Subscription   string        `json:"subscription,omitempty" doc:"The subscription's name"`
	Message        *TraceMessage `json:"message,omitempty" doc:"What was sent, when it is not the message itself but one that Kith made because of it"`
	State          string        `json:"state" enum:"delivered,filtered,waiting,dead,under way,not reached,unknown,gone" doc:"not reached: the destination has not come to it yet; unknown: the destination is newer, or it is longer ago than is kept; gone: the destination was removed"`
	Code           string        `json:"code,omitempty" doc:"The discard reason of filtered and dead, as the delivery overview counts it"`
	Reason         string        `json:"reason,omitempty" doc:"Why, for people; while it waits or is dead: the last answer"`
	Attempts       int           `json:"attempts,omitempty" doc:"Of delivered, 10 stands for 10 and more"`
	FirstTriedAt   string        `json:"firstTriedAt,omitempty"`
	NextTryAt      string        `json:"nextTryAt,omitempty"`
	Behind         uint64        `json:"behind,omitempty" doc:"While not reached: how many outputs come up to it"`
	DeadLetterID   string        `json:"deadLetterId,omitempty"`
	GivenUpAt      string        `json:"givenUpAt,omitempty"`
	ResentAt       string        `json:"resentAt,omitempty"`
	Next           string        `json:"next,omitempty" doc:"What to do about it"`
}

// TraceMessage is a message that Kith made.
type TraceMessage struct {
	MessageID  string `json:"messageId"`
	Type       string `json:"type"`
	Event      string `json:"event,omitempty"`
	AudienceID string `json:"audienceId,omitempty"`
	Audience   string `json:"audience,omitempty" doc:"The audience's key"`
}

func (a *API) traceRoutes() {
	handle(a, http.MethodGet, "/messages/{messageId}", "getMessage", tagMessages, a.getMessage,
		about("Kith's own: what became of one message: when it arrived, what each stage did and why, and what happened at each destination. "+
			"A message is found by its messageId for as long as duplicates are recognised (30 days), after that by the id of its record, or by scan."))
}

type getMessageInput struct {
	MessageID string `path:"messageId" doc:"The messageId, or the id of a record"`
	Space     string `query:"space" doc:"The space's id or slug; all spaces when missing"`
	Wait      string `query:"wait" doc:"Wait until what has been accepted is processed and sent, at most so long: 5s, up to 30s"`
	Scan      bool   `query:"scan" doc:"Look through the raw log, from its end to its beginning, one step a call"`
	After     string `query:"after" maxLength:"100" doc:"Where a scan goes on: scan.next of the step before"`
	WithBody  bool   `query:"body" doc:"With the event itself"`
}

func (a *API) getMessage(ctx context.Context, in *getMessageInput) (*Traced, error) {
	q := TraceQuery{ID: in.MessageID, Scan: in.Scan || in.After != "", After: in.After, Body: in.WithBody}
	snap := a.cfg.Workspace.Current()
	if in.Space != "" {
		space := snap.Space(in.Space)
		if space == nil {
			return nil, notFound("space", in.Space)
		}
		q.Spaces = append(q.Spaces, *space)
	} else {
		q.Spaces = snap.Spaces
	}
	if in.Wait != "" {
		d, err := time.ParseDuration(in.Wait)
		if err != nil || d < 0 || d > MaxTraceWait {
			return nil, fault.Field("wait", "%q is no length of time up to %s: want something like 5s", in.Wait, MaxTraceWait)
		}
		q.Wait = d
	}
	return a.cfg.Tracer.Trace(ctx, q)
}
