package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/inspect"
	"kith/workspace"
)

const tagIdentity = "Identity"

// Explainer says what identity did and why; the server has one, since it takes
// the rooms together.
type Explainer interface {
	// Explain explains a profile, or why two identifiers are one person or not;
	// identity.Explainer has it.
	Explain(ctx context.Context, q identity.Question) (*identity.Explanation, error)
	// Insights searches, after waiting a moment for what has just come in; see
	// inspect.InsightReader.
	Insights(ctx context.Context, q inspect.InsightQuery) (inspect.InsightPage, error)
	// InsightCounts counts, likewise.
	InsightCounts(ctx context.Context, q inspect.InsightCountQuery) ([]inspect.InsightCount, error)
	// Types are those of identity.Explainer.
	Types(ctx context.Context, space *workspace.Space, epoch uint32) ([]identity.TypeInfo, error)
	// Suspects are those of identity.Reader.
	Suspects(ctx context.Context, space, epoch uint32, s identity.Suspicion, threshold, limit int) (list []identity.Suspect, complete bool, err error)
}

func (a *API) explainRoutes() {
	a.suspiciousRoutes()
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/explain", "explainProfile", tagIdentity, a.explainProfile,
		about("Kith's own: why a profile is what it is: every identifier and the message that attached it, every merge with the identifiers that caused it and "+
			"the rules in force, what protection refused, what commands took away or keep apart; or, with another identifier, why the two are one person or not. "+
			"As data, as sentences, and as nodes and edges to be drawn."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/types", "listIdentifierTypes", tagIdentity, a.identifierTypes,
		about("Kith's own: the types of identifiers of a space with their rules as they work, by priority: those that are declared, and those that events have registered. "+
			"Behind them the types that events carry in a standard place and no rule names, which identify nobody: how often, and on which events."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/insights", "listIdentityInsights", tagIdentity, a.listInsights,
		about("Kith's own: what identity did and refused, the newest first: violations, events of nobody, merges, mappings, traits that were not taken. "+
			"Searchable for as long as the server keeps them (30 days unless it is told otherwise); messageId leads to the trace of a message."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/insights/counts", "countIdentityInsights", tagIdentity, a.countInsights,
		about("Kith's own: how many insights of each kind there were, over time. Minutes are kept for 49 hours, hours for 32 days, days for 400."))
}

type explainInput struct {
	SpacePath
	ID   string `query:"id" required:"true" maxLength:"700" doc:"An identifier, as email:jo@example.com, or a profile's id, use_…"`
	With string `query:"with" maxLength:"700" doc:"Another identifier: are the two one person, and why?"`
}

func (a *API) explainProfile(ctx context.Context, in *explainInput) (*identity.Explanation, error) {
	snap := a.cfg.Workspace.Current()
	space, err := in.find(snap)
	if err != nil {
		return nil, err
	}
	q := identity.Question{Space: space, SourceName: sourceSlug(snap)}
	if q.ID, err = identifierOf(space, "id", in.ID, true); err != nil {
		return nil, err
	}
	if in.With != "" {
		other, err := identifierOf(space, "with", in.With, false)
		if err != nil {
			return nil, err
		}
		q.With = &other
	}
	if q.Epoch, err = a.cfg.Epoch(ctx, space.Number); err != nil {
		return nil, err
	}
	return a.cfg.Explainer.Explain(ctx, q)
}

type typesAnswer struct {
	Types []identity.TypeInfo `json:"types"`
}

func (a *API) identifierTypes(ctx context.Context, in *SpacePath) (typesAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return typesAnswer{}, err
	}
	epoch, err := a.cfg.Epoch(ctx, space.Number)
	if err != nil {
		return typesAnswer{}, err
	}
	list, err := a.cfg.Explainer.Types(ctx, space, epoch)
	return typesAnswer{list}, err
}

// sourceSlug returns how to find the slug of a source, also for one that is not
// there any more: then it is the id.
func sourceSlug(snap *workspace.Snapshot) func(id string) string {
	return func(id string) string {
		if src := snap.Source(id); src != nil {
			return src.Slug
		}
		return id
	}
}

// identifierOf reads "type:value" in a parameter; a profile's id becomes an
// identifier without a type.
func identifierOf(space *workspace.Space, field, text string, profile bool) (event.Identifier, error) {
	if profile && strings.HasPrefix(text, "use_") {
		if _, err := event.ParseProfileID(text); err != nil {
			return event.Identifier{}, fault.Field(field, "%v", err)
		}
		return event.Identifier{Collection: event.Users, Value: text}, nil
	}
	kind, value, ok := strings.Cut(text, ":")
	if !ok || kind == "" || value == "" {
		return event.Identifier{}, fault.Field(field, "%q is no identifier: want its type and its value, as email:jo@example.com", text)
	}
	return event.Identifier{Collection: identity.CollectionOf(space, kind), Type: kind, Value: value}, nil
}

type insightsInput struct {
	SpacePath
	Kind      []string `query:"kind,explode" doc:"violation, drop, merge, mapping, profile, trait, split, removal, account, erasure, rebuild, guard; several are given as kind=a&kind=b"`
	Violation string   `query:"violation" maxLength:"200" doc:"The name of a violation, or another reason, whole"`
	Type      string   `query:"type" maxLength:"100" doc:"The identifier's type"`
	Value     string   `query:"value" maxLength:"600" doc:"The identifier's value"`
	Profile   string   `query:"profile" maxLength:"40" doc:"A profile's id, use_…, or an identifier: whose profile"`
	Source    string   `query:"source" doc:"A source's id or slug"`
	MessageID string   `query:"messageId" maxLength:"500"`
	From      string   `query:"from" doc:"RFC 3339, or a length of time until now: 24h, 7d"`
	To        string   `query:"to" doc:"Likewise"`
	Limit     int      `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Next      string   `query:"next" maxLength:"20" doc:"Where a page goes on: next of the page before"`
}

type insightBody struct {
	At         string            `json:"at" doc:"When the message was appended"`
	Kind       string            `json:"kind" enum:"violation,drop,merge,mapping,profile,trait,split,removal,account,erasure,rebuild,guard"`
	What       string            `json:"what" doc:"In plain words"`
	Reason     string            `json:"reason,omitempty" doc:"The violation's name, why an event is nobody's, or why traits were not taken"`
	Identifier *insightID        `json:"identifier,omitempty"`
	Trait      string            `json:"trait,omitempty" doc:"The first trait that was not taken"`
	Detail     string            `json:"detail,omitempty"`
	ProfileID  string            `json:"profileId,omitempty"`
	OtherID    string            `json:"otherId,omitempty" doc:"merge: the profile that was merged away; account: the account"`
	Message    *insightMessage   `json:"message,omitempty" doc:"The message that brought it about; missing for a command"`
	RecordID   string            `json:"recordId,omitempty"`
	Links      map[string]string `json:"links,omitempty" doc:"Where to read on: trace, explain"`
}

type insightID struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type insightMessage struct {
	MessageID string `json:"messageId"`
	Offset    uint64 `json:"offset"`
	SourceID  string `json:"sourceId,omitempty"`
	Source    string `json:"source,omitempty" doc:"The source's slug"`
	Type      string `json:"type"`
	Event     string `json:"event,omitempty"`
}

type insightsAnswer struct {
	Insights []insightBody `json:"insights"`
	Next     string        `json:"next,omitempty" doc:"Give it back to go on; a page may be short or empty and still have one, when much had to be looked through"`
	Back     string        `json:"searchedBackTo,omitempty" doc:"How far back the search is; missing at its end"`
}

// moments reads from and to.
func (a *API) moments(from, to string) (begin, end time.Time, err error) {
	now := a.cfg.Clock.Now()
	for _, m := range []struct {
		field, text string
		at          *time.Time
	}{{"from", from, &begin}, {"to", to, &end}} {
		if m.text == "" {
			continue
		}
		if *m.at, err = instantOrAgo(m.text, now); err != nil {
			return begin, end, fault.Field(m.field, "%v", err)
		}
	}
	return begin, end, nil
}

func instantOrAgo(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return time.Time{}, fault.New(fault.Invalid, "%q is neither an instant, as 2026-01-31T12:00:00Z, nor a length of time, as 24h or 7d", text)
	}
	return now.Add(-ago), nil
}

func (a *API) listInsights(ctx context.Context, in *insightsInput) (insightsAnswer, error) {
	snap := a.cfg.Workspace.Current()
	space, err := in.find(snap)
	if err != nil {
		return insightsAnswer{}, err
	}
	q := inspect.InsightQuery{Space: space.Number, Reason: in.Violation, Type: in.Type, Value: in.Value, MessageID: in.MessageID, Limit: in.Limit, After: in.Next}
	if q.Kinds, err = insightKinds(in.Kind); err != nil {
		return insightsAnswer{}, err
	}
	if in.Source != "" {
		i := slices.IndexFunc(snap.Sources, func(x workspace.Source) bool { return x.ID == in.Source || x.Slug == in.Source })
		if i < 0 {
			return insightsAnswer{}, notFound("source", in.Source)
		}
		q.Source = snap.Sources[i].ID
	}
	if in.Profile != "" {
		if q.Profile, err = event.ParseProfileID(in.Profile); err != nil {
			return insightsAnswer{}, fault.Field("profile", "%v", err)
		}
	}
	if q.From, q.To, err = a.moments(in.From, in.To); err != nil {
		return insightsAnswer{}, err
	}
	page, err := a.cfg.Explainer.Insights(ctx, q)
	if err != nil {
		return insightsAnswer{}, err
	}
	name := sourceSlug(snap)
	out := insightsAnswer{Insights: each(page.Insights, func(x *inspect.Insight) insightBody { return shownInsight(x, space, name) }), Next: page.Next}
	if !page.Back.IsZero() && page.Next != "" {
		out.Back = when(page.Back)
	}
	return out, nil
}

func insightKinds(list []string) (kinds []inspect.InsightKind, err error) {
	for _, text := range list {
		for _, k := range strings.Split(text, ",") {
			kind := inspect.InsightKind(k)
			if !slices.Contains(inspect.InsightKinds(), kind) {
				return nil, fault.Field("kind", "%q is none of violation, drop, merge, mapping, profile, trait, split, removal, account, erasure, rebuild, guard", k)
			}
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

func shownInsight(x *inspect.Insight, space *workspace.Space, source func(string) string) insightBody {
	b := insightBody{
		At: when(x.At), Kind: string(x.Kind), What: x.What, Reason: x.Reason, Trait: x.Trait, Detail: x.Detail,
		ProfileID: profileText(x.Profile), OtherID: profileText(x.Other), Links: map[string]string{},
	}
	if !x.Record.IsZero() {
		b.RecordID = x.Record.String()
	}
	if x.Type != "" {
		b.Identifier = &insightID{x.Type, x.Value}
	}
	if x.FromMessage() {
		b.Message = &insightMessage{
			MessageID: x.MessageID, Offset: uint64(x.Offset), SourceID: x.Source, Type: x.EventType.String(), Event: event.Label(x.EventType, x.Event),
		}
		if x.Source != "" {
			b.Message.Source = source(x.Source)
		}
	}
	if b.RecordID != "" {
		b.Links["trace"] = "/api/messages/" + b.RecordID + "?space=" + space.Slug
	}
	if b.ProfileID != "" {
		b.Links["explain"] = "/api/spaces/" + space.Slug + "/identity/explain?id=" + b.ProfileID
	}
	return b
}

func profileText(p event.ProfileID) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}

type insightCountsInput struct {
	SpacePath
	Grain string   `query:"grain" default:"day" enum:"minute,hour,day"`
	Kind  []string `query:"kind,explode" doc:"As in the search"`
	From  string   `query:"from" default:"30d" doc:"RFC 3339, or a length of time until now: 24h, 30d"`
	To    string   `query:"to" doc:"Likewise; now when it is missing"`
	By    []string `query:"by,explode" doc:"Tell apart: source, type; several are given as by=source&by=type"`
}

type insightCount struct {
	Start    string `json:"start" doc:"Of the bucket, in UTC"`
	Kind     string `json:"kind"`
	Reason   string `json:"reason,omitempty"`
	Type     string `json:"type,omitempty" doc:"The identifier's type, when asked to tell it apart"`
	SourceID string `json:"sourceId,omitempty" doc:"When asked to tell it apart; missing for what no message brought about"`
	Source   string `json:"source,omitempty"`
	Count    uint64 `json:"count"`
}

type insightCountsAnswer struct {
	Counts []insightCount `json:"counts"`
}

func (a *API) countInsights(ctx context.Context, in *insightCountsInput) (insightCountsAnswer, error) {
	snap := a.cfg.Workspace.Current()
	space, err := in.find(snap)
	if err != nil {
		return insightCountsAnswer{}, err
	}
	q := inspect.InsightCountQuery{Space: space.Number, Grain: inspect.Grain(strings.ToUpper(in.Grain))}
	for _, text := range in.By {
		for _, by := range strings.Split(text, ",") {
			switch by {
			case "source":
				q.BySource = true
			case "type":
				q.ByType = true
			default:
				return insightCountsAnswer{}, fault.Field("by", "%q is neither source nor type", by)
			}
		}
	}
	if q.Kinds, err = insightKinds(in.Kind); err != nil {
		return insightCountsAnswer{}, err
	}
	if q.From, q.To, err = a.moments(in.From, in.To); err != nil {
		return insightCountsAnswer{}, err
	}
	if q.To.IsZero() {
		q.To = a.cfg.Clock.Now().Add(time.Second) // what comes in this moment counts
	}
	list, err := a.cfg.Explainer.InsightCounts(ctx, q)
	if err != nil {
		return insightCountsAnswer{}, err
	}
	name := sourceSlug(snap)
	return insightCountsAnswer{each(list, func(c *inspect.InsightCount) insightCount {
		out := insightCount{Start: when(c.Start), Kind: string(c.Kind), Reason: c.Reason, Type: c.Type, SourceID: c.Source, Count: c.Count}
		if c.Source != "" {
			out.Source = name(c.Source)
		}
		return out
	})}, nil
}
