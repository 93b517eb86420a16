package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kith/event"
	"kith/fault"
	"kith/identity"
)

func (a *API) suspiciousRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/suspicious", "listSuspiciousClusters", tagIdentity, a.listSuspicious,
		about("Kith's own: who may be no one person, the largest first: profiles with many identifiers, profiles into which many were merged within 24 hours, "+
			"identifiers that were on the events of many profiles and could not be used (a kiosk, a till), profiles whose events carried many different identifiers that could not be used. "+
			"What was separated or deleted since is not listed. Thresholds that are missing are the space's; 0 leaves a reason out."))
}

type suspiciousInput struct {
	SpacePath
	Identifiers int `query:"identifiers" minimum:"0" maximum:"1000000" doc:"From so many identifiers on a profile; 8 at least"`
	Merges      int `query:"merges" minimum:"0" maximum:"1000000" doc:"From so many merges within 24 hours; 4 at least"`
	Shared      int `query:"shared" minimum:"0" maximum:"1000000" doc:"From so many profiles on whose events an identifier could not be used; 3 at least"`
	Refused     int `query:"refused" minimum:"0" maximum:"1000000" doc:"From so many different identifiers that the events of a profile could not use; 3 at least"`
	Limit       int `query:"limit" default:"20" minimum:"1" maximum:"200" doc:"Of each reason"`

	given url.Values
}

// Resolve notes which thresholds were given, since 0 is one.
func (in *suspiciousInput) Resolve(ctx huma.Context) []error {
	at := ctx.URL()
	in.given = at.Query()
	return nil
}

type suspectBody struct {
	Reason      string             `json:"reason" enum:"identifiers,merges,shared,refused"`
	Figure      int                `json:"figure"`
	Words       string             `json:"words" doc:"The same in words, and what may be done"`
	ProfileID   string             `json:"profileId,omitempty" doc:"The profile; of a shared identifier: who has it"`
	Identifier  *event.ExternalID  `json:"identifier,omitempty" doc:"Of shared: which"`
	PeakAt      string             `json:"peakAt,omitempty" doc:"Of merges: when the busiest 24 hours ended"`
	Identifiers []event.ExternalID `json:"identifiers" doc:"Some of the profile's"`
}

type suspiciousAnswer struct {
	Suspicious []suspectBody `json:"suspicious"`
	Complete   bool          `json:"complete" doc:"false: more were there than were looked at; raise the thresholds"`
}

func (a *API) listSuspicious(ctx context.Context, in *suspiciousInput) (suspiciousAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return suspiciousAnswer{}, err
	}
	epoch, err := a.cfg.Epoch(ctx, space.Number)
	if err != nil {
		return suspiciousAnswer{}, err
	}
	out := suspiciousAnswer{Suspicious: []suspectBody{}, Complete: true}
	thresholds := map[identity.Suspicion]int{
		identity.ManyIdentifiers: in.Identifiers, identity.ManyMerges: in.Merges, identity.SharedValue: in.Shared, identity.ManyRefused: in.Refused,
	}
	for _, s := range identity.Suspicions() {
		threshold := thresholds[s]
		if !in.given.Has(s.String()) {
			threshold = s.Threshold(space)
		}
		if threshold == 0 {
			continue
		}
		if threshold < s.Floor() {
			return suspiciousAnswer{}, fault.Field(s.String(), "%d is too few: nothing below %d is noted", threshold, s.Floor())
		}
		list, complete, err := a.cfg.Explainer.Suspects(ctx, space.Number, epoch, s, threshold, in.Limit)
		if err != nil {
			return suspiciousAnswer{}, err
		}
		out.Complete = out.Complete && complete
		for i := range list {
			out.Suspicious = append(out.Suspicious, suspectOf(&list[i]))
		}
	}
	slices.SortStableFunc(out.Suspicious, func(a, b suspectBody) int { return b.Figure - a.Figure })
	return out, nil
}

func suspectOf(x *identity.Suspect) suspectBody {
	b := suspectBody{Reason: x.Suspicion.String(), Figure: x.Figure, ProfileID: profileText(x.Profile), Identifiers: []event.ExternalID{}}
	var known []string
	for _, id := range x.Some {
		b.Identifiers = append(b.Identifiers, event.ExternalIDOf(id))
		known = append(known, id.Type+":"+id.Value)
	}
	who := b.ProfileID
	if len(known) > 0 {
		who += " (" + strings.Join(known[:min(len(known), 2)], ", ") + ")"
	}
	switch x.Suspicion {
	case identity.ManyIdentifiers:
		b.Words = fmt.Sprintf("%s has %d identifiers. Block the value that joins them, or tighten a limit.", who, x.Figure)
	case identity.ManyMerges:
		b.PeakAt = when(time.UnixMilli(x.PeakAt))
		b.Words = fmt.Sprintf("%d profiles became part of %s within 24 hours, until %s. Look for a value that is nobody's own: a test account, a default.", x.Figure, who, b.PeakAt)
	case identity.SharedValue:
		id := event.ExternalIDOf(x.Identifier)
		b.Identifier = &id
		b.Words = fmt.Sprintf("%s:%s was on the events of %d profiles that could not use it: several people share it. Block the value if it is a kiosk's.", id.Type, id.ID, x.Figure)
	case identity.ManyRefused:
		b.Words = fmt.Sprintf("The events of %s carried %d different identifiers that they could not use. If it is a device, rank its type below those of people.", who, x.Figure)
	}
	return b
}
