package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"kith/delivery"
	"kith/event"
	"kith/fault"
	"kith/inspect"
	"kith/pipeline"
	"kith/workspace"
)

const tagOverview = "Delivery Overview"

// Ledger sums up what became of events at destinations; delivery.Delivery has
// its methods.
type Ledger interface {
	// Sums calls fn with how many outputs of a minute had the same outcome.
	Sums(ctx context.Context, destination string, from, to time.Time, fn func(minute time.Time, o delivery.Outcome, n uint64)) error
	// SumsByOutput is Sums for each output by itself, with what it is.
	SumsByOutput(ctx context.Context, destination string, from, to time.Time, fn func(minute time.Time, o delivery.Outcome, output *pipeline.Output)) error
	// Failures returns the newest failures of each kind.
	Failures(ctx context.Context, destination string) ([]delivery.Failures, error)
}

func (a *API) overviewRoutes() {
	type route struct{ path, id, text string }
	for _, r := range []struct {
		route
		fn func(context.Context, *ingestInput) (*overview, error)
	}{
		{route{"successfully-received", "getIngressSuccessMetricsFromDeliveryOverview", "Events of a source that were accepted, each messageId once."}, a.received},
		{route{"failed-on-ingest", "getIngressFailedMetricsFromDeliveryOverview", "Events that were not accepted."}, a.failedOnIngest},
		{route{"filtered-at-source", "getFilteredAtSourceMetricsFromDeliveryOverview", "Events that were accepted and kept back before any destination: by the tracking plan, mostly."}, a.filteredAtSource},
	} {
		handle(a, http.MethodGet, "/delivery-overview/"+r.path, r.id, tagOverview, r.fn, about(r.text+" "+aboutOverview))
	}
	for _, r := range []struct {
		route
		fn func(context.Context, *egressInput) (*overview, error)
	}{
		{route{"filtered-at-destination", "getFilteredAtDestinationMetricsFromDeliveryOverview", "Events that a destination was not sent."}, a.filteredAtDestination},
		{route{"failed-delivery", "getEgressFailedMetricsFromDeliveryOverview", "Events that could not be delivered: dead letters."}, a.failedDelivery},
		{route{"successful-delivery", "getEgressSuccessMetricsFromDeliveryOverview", "Events that were delivered."}, a.successfulDelivery},
	} {
		handle(a, http.MethodGet, "/delivery-overview/"+r.path, r.id, tagOverview, r.fn, about(r.text+" "+aboutOverview+
			" An event with several subscriptions counts for each. retryCount is how many wait for a retry now."))
	}
	handle(a, http.MethodGet, "/destinations/{destinationId}/delivery-metrics", "listDeliveryMetricsSummaryFromDestination", tagOverview, a.deliveryMetrics,
		about("The sums of a destination: successes by attempt, discards and failures by reason, and, Kith's own, what is pending."))
	handle(a, http.MethodGet, "/destinations/{destinationId}/failures", "listFailuresFromDestination", tagOverview, a.listFailures,
		about("Kith's own: the newest failed attempts of each kind, with what the destination said; kept for a week."))
}

const aboutOverview = "Counted by the instant at which the event was received; times are widened to whole buckets of UTC. Buckets in which nothing was counted are left out."

// overview is the answer to all six.
type overview struct {
	Total      uint64    `json:"total"`
	Dataset    []dataset `json:"dataset"`
	Pagination pageInfo  `json:"pagination"`
}

type dataset struct {
	EventName       *string     `json:"eventName,omitempty"`
	EventType       *string     `json:"eventType,omitempty"`
	AppVersion      *string     `json:"appVersion,omitempty"`
	DiscardReason   *string     `json:"discardReason,omitempty"`
	Total           uint64      `json:"total"`
	Series          []datapoint `json:"series"`
	TotalRetryCount *uint64     `json:"totalRetryCount,omitempty"`
}

type datapoint struct {
	Time       string  `json:"time" doc:"The beginning of the bucket"`
	Count      uint64  `json:"count"`
	RetryCount *uint64 `json:"retryCount,omitempty"`
}

type ingestInput struct{ OverviewQuery }

// ingested answers from what was counted where events come in.
func (a *API) ingested(ctx context.Context, in *ingestInput, counts func(inspect.Stage) bool) (*overview, error) {
	if _, _, err := a.source(in.SourceID); err != nil {
		return nil, err
	}
	if err := in.complete(a.cfg.Clock.Now()); err != nil {
		return nil, err
	}
	a.cfg.Seen.Settle(ctx)
	list, err := a.cfg.Seen.Counts(ctx, inspect.VolumeQuery{
		From: in.from, To: in.to, Grain: in.grain, Sources: []string{in.SourceID},
		NoEvents: !in.by.name && in.filter["eventName"] == nil, NoVersions: !in.by.version && in.filter["appVersion"] == nil,
	})
	if err != nil {
		return nil, err
	}
	t := newTally(&in.OverviewQuery)
	for i := range list {
		if v := &list[i]; counts(v.Stage) && v.Type != "object" {
			t.add(v.Start, thing{v.Event, v.Type, v.AppVersion, v.Reason}, v.Count, false)
		}
	}
	return t.overview(false)
}

func (a *API) received(ctx context.Context, in *ingestInput) (*overview, error) {
	return a.ingested(ctx, in, func(s inspect.Stage) bool {
		return s == inspect.Admitted || s == inspect.Blocked || s == inspect.Discarded
	})
}

func (a *API) failedOnIngest(ctx context.Context, in *ingestInput) (*overview, error) {
	return a.ingested(ctx, in, func(s inspect.Stage) bool { return s == inspect.Rejected })
}

func (a *API) filteredAtSource(ctx context.Context, in *ingestInput) (*overview, error) {
	return a.ingested(ctx, in, func(s inspect.Stage) bool { return s == inspect.Blocked || s == inspect.Discarded })
}

type egressInput struct {
	OverviewQuery
	DestinationConfigID string `query:"destinationConfigId" required:"true" doc:"The destination's id"`
	SubscriptionID      string `query:"subscriptionId" doc:"Only of this subscription"`
}

// sent answers from the ledger of a destination.
func (a *API) sent(ctx context.Context, in *egressInput, counts func(*delivery.Outcome) bool, retries bool) (*overview, error) {
	dest, addressed, err := a.connected(in.DestinationConfigID, in.SourceID)
	if err != nil {
		return nil, err
	}
	if err := in.complete(a.cfg.Clock.Now()); err != nil {
		return nil, err
	}
	if in.by.version || in.filter["appVersion"] != nil {
		return nil, fault.Field("groupBy", "appVersion is counted where events come in, not at destinations")
	}
	t := newTally(&in.OverviewQuery)
	add := func(minute time.Time, o *delivery.Outcome, x thing, n uint64) {
		waits := retries && o.State == delivery.StateWaiting
		if o.Addressed != addressed || in.SubscriptionID != "" && o.Subscription != in.SubscriptionID || !waits && !counts(o) {
			return
		}
		x.reason = reasonOf(o)
		t.add(minute, x, n, waits)
	}
	if in.by.name || in.by.kind || in.filter["eventName"] != nil || in.filter["eventType"] != nil {
		err = a.cfg.Ledger.SumsByOutput(ctx, dest.ID, in.from, in.to, func(minute time.Time, o delivery.Outcome, output *pipeline.Output) {
			x := thing{}
			x.name, x.kind = labelOf(output)
			add(minute, &o, x, 1)
		})
	} else {
		err = a.cfg.Ledger.Sums(ctx, dest.ID, in.from, in.to, func(minute time.Time, o delivery.Outcome, n uint64) {
			add(minute, &o, thing{}, n)
		})
	}
	if err != nil {
		return nil, err
	}
	return t.overview(retries)
}

// connected finds a destination, and checks that it is connected to the source.
// A space's id instead of a source's asks for what Kith itself addressed to the
// destination: what its audiences told.
func (a *API) connected(destination, source string) (dest *workspace.Destination, addressed bool, err error) {
	snap := a.cfg.Workspace.Current()
	if dest = snap.Destination(destination); dest == nil {
		return nil, false, notFound("destination", destination)
	}
	if snap.Space(source) != nil {
		return dest, true, nil
	}
	if dest.SourceID != source {
		return nil, false, fault.Field("sourceId", "destination %s is not connected to the source %q", destination, source)
	}
	return dest, false, nil
}

// reasonOf is an outcome's discard reason.
func reasonOf(o *delivery.Outcome) string {
	switch o.State {
	case delivery.StateFiltered:
		return o.Gate.Code()
	case delivery.StateDead:
		return o.Code
	}
	return ""
}

// labelOf returns the name and the type of an output's event.
func labelOf(o *pipeline.Output) (name, kind string) {
	if o.Event != nil {
		return event.Label(o.Event.Type, o.Event.Name), o.Event.Type.String()
	}
	if o.Message != nil {
		if e, err := event.ParseTrusted(o.Message.Body); err == nil {
			return e.Label(), e.Type.String()
		}
	}
	return "", ""
}

// kept reports whether a destination was not sent an event that was for it.
func kept(o *delivery.Outcome) bool {
	return o.State == delivery.StateFiltered && o.Gate != delivery.GateSource
}

func (a *API) filteredAtDestination(ctx context.Context, in *egressInput) (*overview, error) {
	return a.sent(ctx, in, kept, false)
}

func (a *API) failedDelivery(ctx context.Context, in *egressInput) (*overview, error) {
	return a.sent(ctx, in, func(o *delivery.Outcome) bool { return o.State == delivery.StateDead }, true)
}

func (a *API) successfulDelivery(ctx context.Context, in *egressInput) (*overview, error) {
	return a.sent(ctx, in, func(o *delivery.Outcome) bool { return o.State == delivery.StateDelivered }, true)
}

type metricsInput struct {
	DestinationPath
	SourceID    string `query:"sourceId" required:"true" doc:"The source's id"`
	StartTime   string `query:"startTime" doc:"ISO 8601; an hour, 7 or 14 days ago when missing, by granularity"`
	EndTime     string `query:"endTime" doc:"ISO 8601; now when missing"`
	Granularity string `query:"granularity" enum:"MINUTE,HOUR,DAY" doc:"MINUTE when missing"`
}

type metric struct {
	MetricName string      `json:"metricName"`
	Total      uint64      `json:"total"`
	Breakdown  []breakdown `json:"breakdown"`
}

type breakdown struct {
	MetricName string `json:"metricName"`
	Value      uint64 `json:"value"`
}

type metricsSummary struct {
	SourceID              string   `json:"sourceId"`
	DestinationMetadataID string   `json:"destinationMetadataId"`
	Metrics               []metric `json:"metrics"`
}

type metricsAnswer struct {
	DeliveryMetricsSummary metricsSummary `json:"deliveryMetricsSummary"`
}

func (a *API) deliveryMetrics(ctx context.Context, in *metricsInput) (metricsAnswer, error) {
	dest, addressed, err := a.connected(in.DestinationID, in.SourceID)
	if err != nil {
		return metricsAnswer{}, err
	}
	grain := inspect.Grain(cmp.Or(in.Granularity, string(inspect.Minute)))
	now := a.cfg.Clock.Now().UTC()
	to, from := now, now.Add(-map[inspect.Grain]time.Duration{inspect.Minute: time.Hour, inspect.Hour: 7 * 24 * time.Hour, inspect.Day: 14 * 24 * time.Hour}[grain])
	if in.EndTime != "" {
		if to, err = momentOf("endTime", in.EndTime); err != nil {
			return metricsAnswer{}, err
		}
	}
	if in.StartTime != "" {
		if from, err = momentOf("startTime", in.StartTime); err != nil {
			return metricsAnswer{}, err
		}
	}
	if from, to, err = widen(grain, from, to, now); err != nil {
		return metricsAnswer{}, err
	}
	sums := map[string]map[string]uint64{"successes": {}, "discards": {}, "failures": {}, "pending": {}}
	err = a.cfg.Ledger.Sums(ctx, dest.ID, from, to, func(_ time.Time, o delivery.Outcome, n uint64) {
		switch {
		case o.Addressed != addressed:
		case o.State == delivery.StateDelivered:
			sums["successes"][fmt.Sprintf("attempt.%d", o.Attempts)] += n
		case o.State == delivery.StateDead:
			sums["failures"][o.Code] += n
		case o.State == delivery.StateWaiting:
			sums["pending"]["retry"] += n
		case kept(&o):
			sums["discards"][o.Gate.Code()] += n
		}
	})
	if err != nil {
		return metricsAnswer{}, err
	}
	out := metricsSummary{SourceID: in.SourceID, DestinationMetadataID: dest.MetadataID}
	for _, name := range []string{"successes", "discards", "failures", "pending"} {
		m := metric{MetricName: name, Breakdown: []breakdown{}}
		for of, n := range sums[name] {
			m.Total += n
			m.Breakdown = append(m.Breakdown, breakdown{name + "." + of, n})
		}
		slices.SortFunc(m.Breakdown, func(x, y breakdown) int { return strings.Compare(x.MetricName, y.MetricName) })
		out.Metrics = append(out.Metrics, m)
	}
	return metricsAnswer{out}, nil
}

type failureBody struct {
	At             string `json:"at"`
	SpaceID        string `json:"spaceId,omitempty"`
	SubscriptionID string `json:"subscriptionId,omitempty"`
	Attempt        int    `json:"attempt" doc:"The how manyeth it was"`
	Permanent      bool   `json:"permanent" doc:"The destination will never take it"`
	Reason         string `json:"reason" doc:"What the destination or the network said"`
}

type failuresBody struct {
	Code   string        `json:"code" doc:"As the delivery overview's discardReason"`
	Newest []failureBody `json:"newest"`
}

type failuresAnswer struct {
	Failures []failuresBody `json:"failures"`
}

func (a *API) listFailures(ctx context.Context, in *DestinationPath) (failuresAnswer, error) {
	if _, err := a.destination(in.DestinationID); err != nil {
		return failuresAnswer{}, err
	}
	list, err := a.cfg.Ledger.Failures(ctx, in.DestinationID)
	if err != nil {
		return failuresAnswer{}, err
	}
	snap := a.cfg.Workspace.Current()
	return failuresAnswer{each(list, func(f *delivery.Failures) failuresBody {
		return failuresBody{f.Code, each(f.List, func(x *delivery.Failure) failureBody {
			body := failureBody{At: when(x.At), SubscriptionID: x.Subscription, Attempt: x.Attempt, Permanent: x.Permanent, Reason: x.Reason}
			if sp := snap.SpaceByNumber(x.Space); sp != nil {
				body.SpaceID = sp.ID
			}
			return body
		})}
	})}, nil
}
