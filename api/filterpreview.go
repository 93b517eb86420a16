package api

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/fql"
	"kith/inspect"
	"kith/pipeline"
	"kith/workspace"
)

// Bounds of a preview.
const (
	previewEvents  = 1000
	previewSamples = 5
	previewNames   = 20
	previewProbe   = 4 // records that are looked at for each event that is wanted, at most
)

type previewFilterInput struct {
	SpacePath
	Body struct {
		If      string   `json:"if" doc:"The condition, in the filter query language"`
		Count   int      `json:"count,omitempty" minimum:"0" maximum:"20000" doc:"How many of the newest events to look at; 1,000 when missing"`
		Samples *int     `json:"samples,omitempty" minimum:"0" maximum:"50" doc:"How many of the events that match to show; 5 when missing"`
		Payload document `json:"payload,omitempty" doc:"Look at this event only"`
	}
}

type previewAnswer struct {
	Condition string          `json:"condition" doc:"The condition in its canonical form"`
	Looked    int             `json:"looked" doc:"How many events were looked at"`
	Matched   int             `json:"matched" doc:"How many of them match and would be kept out"`
	Profiles  int             `json:"profiles" doc:"To how many profiles those that match belong now"`
	Oldest    string          `json:"oldest,omitempty" doc:"When the oldest event that was looked at was received"`
	Newest    string          `json:"newest,omitempty"`
	Names     []previewName   `json:"names" doc:"What matches, by call and name, the most frequent first, 20 at most"`
	Samples   []previewSample `json:"samples" doc:"Some of those that match, the newest first"`
}

type previewName struct {
	Type  string `json:"type"`
	Event string `json:"event,omitempty"`
	Count int    `json:"count"`
}

type previewSample struct {
	MessageID  string          `json:"messageId"`
	Type       string          `json:"type"`
	Event      string          `json:"event,omitempty" doc:"The name under which it is counted"`
	Source     string          `json:"source,omitempty" doc:"The source's slug"`
	ReceivedAt string          `json:"receivedAt"`
	ProfileID  string          `json:"profileId,omitempty" doc:"Whose it is now"`
	Body       json.RawMessage `json:"body" doc:"As the tracking plan let it pass"`
}

// preview gathers what a condition would do.
type preview struct {
	answer    previewAnswer
	condition *fql.Expr
	snap      *workspace.Snapshot
	samples   int
	names     map[previewName]int
	profiles  map[event.ProfileID]bool
}

func (a *API) previewFilter(ctx context.Context, in *previewFilterInput) (previewAnswer, error) {
	b := &in.Body
	snap := a.cfg.Workspace.Current()
	sp, err := in.find(snap)
	if err != nil {
		return previewAnswer{}, err
	}
	if b.If == "" {
		return previewAnswer{}, fault.Field("if", "the condition is missing")
	}
	condition, err := fql.Parse(b.If)
	if err != nil {
		return previewAnswer{}, fault.Field("if", "%v", err)
	}
	p := &preview{
		answer:    previewAnswer{Condition: condition.String(), Names: []previewName{}, Samples: []previewSample{}},
		condition: condition, snap: snap, samples: previewSamples, names: map[previewName]int{}, profiles: map[event.ProfileID]bool{},
	}
	if b.Samples != nil {
		p.samples = *b.Samples
	}
	if len(b.Payload) > 0 {
		e, err := event.Parse(b.Payload)
		if err != nil {
			return previewAnswer{}, fault.Field("payload", "%v", err)
		}
		p.answer.Looked = 1
		if condition.Match(e.Body) {
			p.answer.Matched = 1
		}
		return p.answer, nil
	}
	epoch, err := a.cfg.Epoch(ctx, sp.Number)
	if err != nil {
		return previewAnswer{}, err
	}
	count := cmp.Or(b.Count, previewEvents)
	events := func(h *event.Head) bool { return h.Kind == event.KindEvent }
	_, _, err = a.cfg.Past.Back(ctx, sp.Number, epoch, commitlog.Offset(math.MaxInt64), previewProbe*max(count, previewEvents), events, func(r *archive.Recent) (bool, error) {
		if !r.Trimmed && (!r.Passed || r.Verdict.Code == pipeline.Admitted) {
			p.look(r)
		}
		return p.answer.Looked < count, nil
	})
	if err != nil {
		return previewAnswer{}, err
	}
	return p.told(), nil
}

// look asks the condition of an event. What it is handed is valid only until it
// returns.
func (p *preview) look(r *archive.Recent) {
	out := &p.answer
	at := when(time.UnixMilli(r.Head.At))
	if out.Looked == 0 {
		out.Newest = at
	}
	out.Oldest = at
	out.Looked++
	body := r.Processed()
	if !p.condition.Match(body) {
		return
	}
	out.Matched++
	name := event.Label(r.Head.Type, r.Head.Name)
	p.names[previewName{Type: r.Head.Type.String(), Event: strings.Clone(name)}]++
	if !r.Profile.IsZero() {
		p.profiles[r.Profile] = true
	}
	if len(out.Samples) == p.samples {
		return
	}
	s := previewSample{MessageID: strings.Clone(r.Head.MessageID), Type: r.Head.Type.String(), Event: strings.Clone(name), ReceivedAt: at}
	if !r.Profile.IsZero() {
		s.ProfileID = r.Profile.String()
	}
	var keys []string
	if source := p.snap.Source(r.Head.Source); source != nil {
		s.Source, keys = source.Slug, source.WriteKeys
	}
	s.Body = slices.Clone(inspect.MaskKeys(body, keys))
	out.Samples = append(out.Samples, s)
}

func (p *preview) told() previewAnswer {
	for name, n := range p.names {
		name.Count = n
		p.answer.Names = append(p.answer.Names, name)
	}
	slices.SortFunc(p.answer.Names, func(a, b previewName) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Event, b.Event))
	})
	p.answer.Names = p.answer.Names[:min(len(p.answer.Names), previewNames)]
	p.answer.Profiles = len(p.profiles)
	return p.answer
}
