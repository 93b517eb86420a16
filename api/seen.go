package api

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kith/event"
	"kith/fault"
	"kith/inspect"
	"kith/workspace"
)

const (
	tagUsage  = "Usage"
	tagSchema = "Schema"
)

// Seen is what inspect has counted; inspect.Schema has Source and Properties,
// inspect.Meter Counts and MTU, and Settle is that of inspect.Observer: it waits
// a moment for what has just come in.
type Seen interface {
	Source(ctx context.Context, source string) (inspect.SourceSeen, error)
	Properties(ctx context.Context, e *inspect.EventSeen, samples int, now time.Time) ([]inspect.PropertySeen, error)
	Counts(ctx context.Context, q inspect.VolumeQuery) ([]inspect.Volume, error)
	MTU(ctx context.Context, at time.Time, perSource bool) ([]inspect.MTU, error)
	Settle(ctx context.Context)
}

func (a *API) seenRoutes() {
	a.debuggerRoute()
	const period = "Counts are cumulative within the month, one entry a day from the first to the last or to today; days and months are those of UTC. "
	const calls = "A call is one event, however it was batched, that was accepted; repeated ones count, those that a tracking plan has blocked do not."
	const users = "identified counts userIds, anonymous counts anonymousIds, anonymousIdentified those of them that came with a userId in this month, " +
		"neverIdentified the others: the monthly tracked users are identified + neverIdentified. Blocked calls do not count, nor do ids of more than 500 bytes."
	handle(a, "GET", "/usage/api-calls/daily", "getDailyWorkspaceAPICallsUsage", tagUsage, a.workspaceCalls, about(period+calls))
	handle(a, "GET", "/usage/api-calls/sources/daily", "getDailyPerSourceAPICallsUsage", tagUsage, a.sourceCalls, about(period+calls))
	handle(a, "GET", "/usage/mtu/daily", "getDailyWorkspaceMTUUsage", tagUsage, a.workspaceMTU, about(period+users))
	handle(a, "GET", "/usage/mtu/sources/daily", "getDailyPerSourceMTUUsage", tagUsage, a.sourceMTU, about(period+users))
	handle(a, "GET", "/events/volume", "getEventsVolumeFromWorkspace", tagUsage, a.eventsVolume,
		about("Events that were accepted and not repeated, blocked or discarded, by when they came. Minutes are kept for 49 hours, hours for 32 days, days for 400. "+
			"A list is given as name=a&name=b, name[]=a, name[0]=a or name=a,b."))

	handle(a, "GET", "/spaces/{spaceId}/events", "listEvents", tagSchema, a.spaceEvents)
	handle(a, "GET", "/spaces/{spaceId}/events/{eventName}/properties", "listPropertiesFromEvent", tagSchema, a.spaceProperties)
	handle(a, "GET", "/spaces/{spaceId}/events/{eventName}/properties/{propertyName}/sample-values", "listSampleValuesFromEventProperty", tagSchema, a.propertySamples)
	handle(a, "GET", "/spaces/{spaceId}/traits", "listTraits", tagSchema, a.spaceTraits)
	handle(a, "GET", "/spaces/{spaceId}/traits/{traitKey}/sample-values", "listSampleValuesFromTrait", tagSchema, a.traitSamples)
	handle(a, "GET", "/sources/{sourceId}/schema", "getSchemaFromSource", tagSchema, a.sourceSchema,
		about("Kith's own: the events that a source has sent, with their counts, and whether its tracking plan knows them."))
	handle(a, "GET", "/sources/{sourceId}/schema/properties", "listPropertiesFromSource", tagSchema, a.sourceProperties,
		about("Kith's own: properties, traits and members of the context of one event of a source, nested ones by their path (a.b, and a.$ for the items of an array)."))
}

// month reads the period of a usage call: the month that it lies in. The last
// day is today in the present month.
func (a *API) month(period string) (last time.Time, err error) {
	for _, form := range []string{time.DateOnly, "2006-01", time.RFC3339Nano, "2006-01-02T15:04:05"} {
		at, err := time.Parse(form, period)
		if err != nil {
			continue
		}
		at, now := at.UTC(), a.cfg.Clock.Now()
		begin := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
		last := begin.AddDate(0, 1, -1)
		if last.After(now) {
			last = time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
		}
		if begin.After(last) {
			return time.Time{}, fault.Field("period", "%s has not begun yet", begin.Format("2006-01"))
		}
		return last, nil
	}
	return time.Time{}, fault.Field("period", "%q is no month: want its first day, such as 2026-01-01", period)
}

type periodInput struct {
	Period string `query:"period" required:"true" doc:"The first day of the month, as 2026-01-01"`
	Paging
}

type callsSnapshot struct {
	SourceID  string `json:"sourceId,omitempty"`
	APICalls  string `json:"apiCalls" doc:"A whole number: the calls of the month until the end of this day"`
	Timestamp string `json:"timestamp" doc:"The day"`
}

// calls returns the cumulative calls of the days of a month, by source when
// perSource is set.
func (a *API) calls(ctx context.Context, period string, perSource bool) ([]callsSnapshot, error) {
	last, err := a.month(period)
	if err != nil {
		return nil, err
	}
	a.cfg.Seen.Settle(ctx)
	begin := last.AddDate(0, 0, 1-last.Day())
	list, err := a.cfg.Seen.Counts(ctx, inspect.VolumeQuery{From: begin, To: last.AddDate(0, 0, 1), Grain: inspect.Day, NoEvents: true, NoVersions: true})
	if err != nil {
		return nil, err
	}
	daily := map[string]*[32]uint64{}
	if !perSource {
		daily[""] = &[32]uint64{}
	}
	for _, v := range list {
		if v.Stage == inspect.Rejected || v.Stage == inspect.Blocked || v.Type == "object" {
			continue
		}
		if !perSource {
			v.Source = ""
		}
		if daily[v.Source] == nil {
			daily[v.Source] = &[32]uint64{}
		}
		daily[v.Source][v.Start.Day()] += v.Count
	}
	var out []callsSnapshot
	for source, days := range daily {
		sum := uint64(0)
		for day := 1; day <= last.Day(); day++ {
			sum += days[day]
			out = append(out, callsSnapshot{SourceID: source, APICalls: strconv.FormatUint(sum, 10), Timestamp: when(begin.AddDate(0, 0, day-1))})
		}
	}
	return out, nil
}

func callsKey(c *callsSnapshot) string { return c.Timestamp + " " + c.SourceID }

type workspaceCallsAnswer struct {
	Usage      []callsSnapshot `json:"dailyWorkspaceAPICallsUsage"`
	Pagination pageInfo        `json:"pagination"`
}

func (a *API) workspaceCalls(ctx context.Context, in *periodInput) (out workspaceCallsAnswer, err error) {
	all, err := a.calls(ctx, in.Period, false)
	if err != nil {
		return out, err
	}
	out.Usage, out.Pagination, err = paged(all, callsKey, &in.Paging)
	return out, err
}

type sourceCallsAnswer struct {
	Usage      []callsSnapshot `json:"dailyPerSourceAPICallsUsage"`
	Pagination pageInfo        `json:"pagination"`
}

func (a *API) sourceCalls(ctx context.Context, in *periodInput) (out sourceCallsAnswer, err error) {
	all, err := a.calls(ctx, in.Period, true)
	if err != nil {
		return out, err
	}
	out.Usage, out.Pagination, err = paged(all, callsKey, &in.Paging)
	return out, err
}

type mtuSnapshot struct {
	SourceID            string `json:"sourceId,omitempty"`
	PeriodStart         int64  `json:"periodStart" doc:"The beginning of the month, in seconds since 1970"`
	PeriodEnd           int64  `json:"periodEnd" doc:"The end of the month, likewise"`
	Anonymous           string `json:"anonymous" doc:"anonymousIds of the month until the end of this day"`
	AnonymousIdentified string `json:"anonymousIdentified" doc:"Those of them that came with a userId"`
	Identified          string `json:"identified" doc:"userIds"`
	NeverIdentified     string `json:"neverIdentified" doc:"anonymousIds that came with no userId"`
	Timestamp           string `json:"timestamp" doc:"The day"`
}

func (a *API) mtu(ctx context.Context, period string, perSource bool) ([]mtuSnapshot, error) {
	last, err := a.month(period)
	if err != nil {
		return nil, err
	}
	a.cfg.Seen.Settle(ctx)
	begin := last.AddDate(0, 0, 1-last.Day())
	list, err := a.cfg.Seen.MTU(ctx, last, perSource)
	if err != nil {
		return nil, err
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return each(list, func(u *inspect.MTU) mtuSnapshot {
		return mtuSnapshot{
			SourceID: u.Source, PeriodStart: begin.Unix(), PeriodEnd: begin.AddDate(0, 1, 0).Unix(), Anonymous: number(u.Anonymous),
			AnonymousIdentified: number(u.Identified), Identified: number(u.Users), NeverIdentified: number(u.NeverIdentified()), Timestamp: when(u.Day),
		}
	}), nil
}

func mtuKey(m *mtuSnapshot) string { return m.Timestamp + " " + m.SourceID }

type workspaceMTUAnswer struct {
	Usage      []mtuSnapshot `json:"dailyWorkspaceMTUUsage"`
	Pagination pageInfo      `json:"pagination"`
}

func (a *API) workspaceMTU(ctx context.Context, in *periodInput) (out workspaceMTUAnswer, err error) {
	all, err := a.mtu(ctx, in.Period, false)
	if err != nil {
		return out, err
	}
	out.Usage, out.Pagination, err = paged(all, mtuKey, &in.Paging)
	return out, err
}

type sourceMTUAnswer struct {
	Usage      []mtuSnapshot `json:"dailyPerSourceMTUUsage"`
	Pagination pageInfo      `json:"pagination"`
}

func (a *API) sourceMTU(ctx context.Context, in *periodInput) (out sourceMTUAnswer, err error) {
	all, err := a.mtu(ctx, in.Period, true)
	if err != nil {
		return out, err
	}
	out.Usage, out.Pagination, err = paged(all, mtuKey, &in.Paging)
	return out, err
}

type volumeInput struct {
	Granularity string   `query:"granularity" required:"true" enum:"DAY,HOUR,MINUTE"`
	StartTime   string   `query:"startTime" required:"true" doc:"ISO 8601, inclusive"`
	EndTime     string   `query:"endTime" required:"true" doc:"ISO 8601, exclusive"`
	GroupBy     []string `query:"groupBy" doc:"eventName, eventType, source"`
	SourceID    []string `query:"sourceId,explode" doc:"Only these sources"`
	EventName   []string `query:"eventName,explode" doc:"Only these events"`
	EventType   []string `query:"eventType,explode" doc:"Only these types, as track"`
	AppVersion  []string `query:"appVersion,explode" doc:"Only these app versions"`
	Paging
}

// Resolve reads the lists in all the forms in which clients send them.
func (in *volumeInput) Resolve(ctx huma.Context) []error {
	at := ctx.URL()
	q := at.Query()
	in.GroupBy = queryList(q, "groupBy", true)
	in.SourceID, in.EventType = queryList(q, "sourceId", true), queryList(q, "eventType", true)
	in.EventName, in.AppVersion = queryList(q, "eventName", false), queryList(q, "appVersion", false)
	return nil
}

// queryList returns a list parameter given as name=a&name=b, name[]=a or
// name[0]=a and, with commas, as name=a,b.
func queryList(q url.Values, name string, commas bool) (list []string) {
	var keys []string
	for k := range q {
		if k == name || strings.HasPrefix(k, name+"[") && strings.HasSuffix(k, "]") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		for _, v := range q[k] {
			if commas {
				list = append(list, strings.Split(v, ",")...)
			} else {
				list = append(list, v)
			}
		}
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

type volumeQueryBody struct {
	WorkspaceID string   `json:"workspaceId"`
	Granularity string   `json:"granularity"`
	StartTime   string   `json:"startTime"`
	EndTime     string   `json:"endTime"`
	GroupBy     []string `json:"groupBy,omitempty"`
	SourceID    []string `json:"sourceId,omitempty"`
	EventName   []string `json:"eventName,omitempty"`
	EventType   []string `json:"eventType,omitempty"`
	AppVersion  []string `json:"appVersion,omitempty"`
}

type volumeSource struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Slug string `json:"slug,omitempty"`
}

type volumePoint struct {
	Time  string `json:"time"`
	Count uint64 `json:"count"`
}

type volumeSeries struct {
	Source    *volumeSource `json:"source,omitempty"`
	EventName *string       `json:"eventName,omitempty" doc:"Empty for events without a name, and for those of a source that has too many"`
	EventType *string       `json:"eventType,omitempty"`
	Total     uint64        `json:"total"`
	Series    []volumePoint `json:"series"`

	key string
}

type volumeAnswer struct {
	Path       string          `json:"path"`
	Query      volumeQueryBody `json:"query"`
	Result     []volumeSeries  `json:"result"`
	Pagination pageInfo        `json:"pagination"`
}

// maxBuckets is how many points a series may have.
const maxBuckets = 2880 // two days of minutes

// volumeQuery reads what is asked for.
func (in *volumeInput) volumeQuery() (q inspect.VolumeQuery, err error) {
	for _, t := range []struct {
		field, text string
		at          *time.Time
	}{{"startTime", in.StartTime, &q.From}, {"endTime", in.EndTime, &q.To}} {
		if *t.at, err = time.Parse(time.RFC3339Nano, t.text); err != nil {
			if *t.at, err = time.Parse(time.DateOnly, t.text); err != nil {
				return q, fault.Field(t.field, "%q is no time: want one such as 2026-01-31T12:00:00Z", t.text)
			}
		}
	}
	q.Grain, q.Sources = inspect.Grain(in.Granularity), in.SourceID
	q.NoEvents, q.NoVersions = len(in.EventName) == 0 && !slices.Contains(in.GroupBy, "eventName"), len(in.AppVersion) == 0
	for _, g := range in.GroupBy {
		if g != "eventName" && g != "eventType" && g != "source" {
			return q, fault.Field("groupBy", "%q is nothing to group by: want eventName, eventType, source", g)
		}
	}
	if width := map[inspect.Grain]time.Duration{inspect.Minute: time.Minute, inspect.Hour: time.Hour, inspect.Day: 24 * time.Hour}[q.Grain]; q.To.Sub(q.From) > maxBuckets*width {
		return q, fault.Field("startTime", "from startTime to endTime is too long for the granularity %s: want at most %d of them, or a coarser one", in.Granularity, maxBuckets)
	}
	return q, nil
}

func (a *API) eventsVolume(ctx context.Context, in *volumeInput) (out volumeAnswer, err error) {
	q, err := in.volumeQuery()
	if err != nil {
		return out, err
	}
	snap := a.cfg.Workspace.Current()
	a.cfg.Seen.Settle(ctx)
	list, err := a.cfg.Seen.Counts(ctx, q)
	if err != nil {
		return out, err
	}
	all := map[string]*volumeSeries{}
	by := func(what string) bool { return slices.Contains(in.GroupBy, what) }
	for _, v := range list {
		if v.Stage != inspect.Admitted || v.Type == "object" || !in.wants(&v) {
			continue
		}
		name := volumeSeries{}
		if by("source") {
			name.Source = &volumeSource{ID: v.Source}
			if s := snap.Source(v.Source); s != nil {
				name.Source.Name, name.Source.Slug = s.Name, s.Slug
			}
			name.key = v.Source
		}
		if by("eventType") {
			name.EventType = ptr(v.Type)
			name.key += "\x00" + v.Type
		}
		if by("eventName") {
			name.EventName = ptr(v.Event)
			name.key += "\x00" + v.Event
		}
		s := all[name.key]
		if s == nil {
			s = &name
			all[name.key] = s
		}
		s.Total += v.Count
		at := when(v.Start)
		if n := len(s.Series); n > 0 && s.Series[n-1].Time == at { // they come by time
			s.Series[n-1].Count += v.Count
		} else {
			s.Series = append(s.Series, volumePoint{at, v.Count})
		}
	}
	if len(in.GroupBy) == 0 && len(all) == 0 {
		all[""] = &volumeSeries{Series: []volumePoint{}}
	}
	series := make([]volumeSeries, 0, len(all))
	for _, s := range all {
		series = append(series, *s)
	}
	out.Path = "/events/volume"
	out.Query = volumeQueryBody{snap.ID, in.Granularity, in.StartTime, in.EndTime, in.GroupBy, in.SourceID, in.EventName, in.EventType, in.AppVersion}
	out.Result, out.Pagination, err = paged(series, func(s *volumeSeries) string { return s.key }, &in.Paging)
	return out, err
}

func (in *volumeInput) wants(v *inspect.Volume) bool {
	has := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return has(in.EventName, v.Event) && has(in.EventType, v.Type) && has(in.AppVersion, v.AppVersion)
}

// sourcesOf returns the sources that feed a space.
func sourcesOf(snap *workspace.Snapshot, space *workspace.Space) (list []*workspace.Source) {
	for i := range snap.Sources {
		if snap.Sources[i].SpaceID == space.ID {
			list = append(list, &snap.Sources[i])
		}
	}
	return list
}

// apiType writes a type of call as the Public API does: "TRACK".
func apiType(t event.Type) string { return strings.ToUpper(t.String()) }
