package api

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
	"kith/inspect"
)

// spans are how long a time may be asked for, and how far back, by granularity
// (Segment's Public API, delivery overview).
var spans = map[inspect.Grain]struct{ most, oldest time.Duration }{
	inspect.Minute: {4 * time.Hour, 48 * time.Hour},
	inspect.Hour:   {14 * 24 * time.Hour, 30 * 24 * time.Hour},
	inspect.Day:    {30 * 24 * time.Hour, 30 * 24 * time.Hour},
}

// OverviewQuery is what all six are asked with.
type OverviewQuery struct {
	SourceID    string   `query:"sourceId" required:"true" doc:"The source's id"`
	StartTime   string   `query:"startTime" required:"true" doc:"ISO 8601, inclusive"`
	EndTime     string   `query:"endTime" required:"true" doc:"ISO 8601, not inclusive"`
	Granularity string   `query:"granularity" required:"true" enum:"day,hour,minute"`
	GroupBy     []string `query:"groupBy" doc:"Some of eventName, eventType, discardReason, appVersion, separated by commas; or as groupBy[0]"`
	Paging

	grain    inspect.Grain
	from, to time.Time
	by       dimensions
	filter   map[string][]string
}

// dimensions are what is grouped by.
type dimensions struct{ name, kind, version, reason bool }

// indexed is a parameter that is an element of a list, as some clients write
// lists: groupBy[0]=eventName, filter[eventName][0]=Seen.
var indexed = regexp.MustCompile(`^(groupBy|filter)(?:\[(\w+)\])?(?:\[\d*\])?$`)

// Resolve reads the lists, which come in several forms.
func (q *OverviewQuery) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	q.read(u.Query())
	return nil
}

func (q *OverviewQuery) read(values url.Values) {
	groups := q.GroupBy
	q.GroupBy, q.filter = nil, map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts := indexed.FindStringSubmatch(name)
		switch {
		case parts == nil:
		case parts[1] == "groupBy" && name != "groupBy":
			groups = append(groups, values[name]...)
		case parts[1] == "groupBy":
			groups = values[name]
		case parts[2] != "":
			q.filter[parts[2]] = append(q.filter[parts[2]], values[name]...)
		}
	}
	for _, g := range groups {
		for _, one := range strings.Split(g, ",") {
			if one = strings.TrimSpace(one); one != "" {
				q.GroupBy = append(q.GroupBy, one)
			}
		}
	}
}

// complete checks the query and widens its time to whole buckets.
func (q *OverviewQuery) complete(now time.Time) (err error) {
	q.grain = inspect.Grain(strings.ToUpper(q.Granularity))
	if q.from, err = momentOf("startTime", q.StartTime); err != nil {
		return err
	}
	if q.to, err = momentOf("endTime", q.EndTime); err != nil {
		return err
	}
	if q.from, q.to, err = widen(q.grain, q.from, q.to, now); err != nil {
		return err
	}
	for _, g := range q.GroupBy {
		switch g {
		case "eventName":
			q.by.name = true
		case "eventType":
			q.by.kind = true
		case "appVersion":
			q.by.version = true
		case "discardReason":
			q.by.reason = true
		default:
			return fault.Field("groupBy", "%q: want some of eventName, eventType, discardReason, appVersion", g)
		}
	}
	for name := range q.filter {
		if !slices.Contains([]string{"eventName", "eventType", "appVersion", "discardReason"}, name) {
			return fault.Field("filter", "%q: want eventName, eventType, discardReason or appVersion", name)
		}
	}
	return nil
}

func momentOf(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fault.Field(field, "%q is not a time: want 2026-01-31T12:00:00Z", text)
	}
	return t.UTC(), nil
}

// widen rounds a time to whole buckets and checks that it can be asked for.
func widen(grain inspect.Grain, from, to, now time.Time) (time.Time, time.Time, error) {
	width := widthOf(grain)
	limit, ok := spans[grain]
	if !ok {
		return from, to, fault.Field("granularity", "want minute, hour or day")
	}
	from = from.Truncate(width)
	if up := to.Truncate(width); up.Before(to) {
		to = up.Add(width)
	}
	switch {
	case !from.Before(to):
		return from, to, fault.Field("endTime", "want it after startTime")
	case to.Sub(from) > limit.most+width:
		return from, to, fault.Field("startTime", "by %s at most %s can be asked for", strings.ToLower(string(grain)), inDays(limit.most))
	case from.Before(now.Add(-limit.oldest - width)):
		return from, to, fault.Field("startTime", "by %s it may lie %s back", strings.ToLower(string(grain)), inDays(limit.oldest))
	}
	return from, to, nil
}

func inDays(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return fmt.Sprintf("%d hours", d/time.Hour)
}

func widthOf(g inspect.Grain) time.Duration {
	switch g {
	case inspect.Minute:
		return time.Minute
	case inspect.Hour:
		return time.Hour
	}
	return 24 * time.Hour
}

// thing is what is counted together.
type thing struct{ name, kind, version, reason string }

// maxThings bounds what a tally tells apart: event names come from outside.
const maxThings = 50_000

// tally adds up counts by thing and bucket.
type tally struct {
	q     *OverviewQuery
	of    map[thing]map[time.Time]*[2]uint64 // what is counted, and what waits
	total uint64
	full  bool // more than maxThings were to be told apart
}

func newTally(q *OverviewQuery) *tally {
	return &tally{q: q, of: map[thing]map[time.Time]*[2]uint64{}}
}

// add counts n of a thing; waits says that they wait for a retry.
func (t *tally) add(at time.Time, x thing, n uint64, waits bool) {
	for name, value := range map[string]string{"eventName": x.name, "eventType": x.kind, "appVersion": x.version, "discardReason": x.reason} {
		if wanted := t.q.filter[name]; len(wanted) > 0 && !slices.Contains(wanted, value) && !(waits && name == "discardReason") {
			return
		}
	}
	x = thing{pick(t.q.by.name, x.name), pick(t.q.by.kind, x.kind), pick(t.q.by.version, x.version), pick(t.q.by.reason, x.reason)}
	series := t.of[x]
	if series == nil {
		if t.full = t.full || len(t.of) >= maxThings; t.full {
			return
		}
		series = map[time.Time]*[2]uint64{}
		t.of[x] = series
	}
	at = at.Truncate(widthOf(t.q.grain))
	if series[at] == nil {
		series[at] = &[2]uint64{}
	}
	if waits {
		series[at][1] += n
		return
	}
	series[at][0] += n
	t.total += n
}

func pick(wanted bool, s string) string {
	if wanted {
		return s
	}
	return ""
}

// overview writes what was added, the largest first.
func (t *tally) overview(retries bool) (*overview, error) {
	if t.full {
		return nil, fault.Field("groupBy", "there are more than %d of these: ask for a shorter time, use a filter, or group by less", maxThings)
	}
	var all []dataset
	for x, series := range t.of {
		d := dataset{Series: []datapoint{}}
		name := func(wanted bool, s string) *string {
			if !wanted {
				return nil
			}
			return &s
		}
		d.EventName, d.EventType = name(t.q.by.name, x.name), name(t.q.by.kind, x.kind)
		d.AppVersion, d.DiscardReason = name(t.q.by.version, x.version), name(t.q.by.reason, x.reason)
		waiting := uint64(0)
		for at, n := range series {
			p := datapoint{Time: when(at), Count: n[0]}
			if retries {
				p.RetryCount = &n[1]
			}
			d.Total += n[0]
			waiting += n[1]
			d.Series = append(d.Series, p)
		}
		if retries {
			d.TotalRetryCount = &waiting
		}
		slices.SortFunc(d.Series, func(a, b datapoint) int { return strings.Compare(a.Time, b.Time) })
		all = append(all, d)
	}
	page, info, err := paged(all, func(d *dataset) string {
		key := fmt.Sprintf("%020d", ^uint64(0)-d.Total)
		for _, s := range []*string{d.EventName, d.EventType, d.AppVersion, d.DiscardReason} {
			if s != nil {
				key += "\x00" + *s
			}
		}
		return key
	}, &t.q.Paging)
	if err != nil {
		return nil, err
	}
	return &overview{Total: t.total, Dataset: page, Pagination: info}, nil
}
