package api

import (
	"context"

	"kith/workspace"
)

// tracking is how the Tracking API and the settings CDN treat a source.
type tracking struct {
	FilterBots   bool     `json:"filterBots" doc:"Refuse events of known bots."`
	RequireToken bool     `json:"requireToken" doc:"Refuse events without an OAuth access token."`
	HTTPConfig   document `json:"httpConfig" doc:"How the SDKs retry: rateLimitConfig and backoffConfig, published with their settings. Empty: each SDK's own way."`
}

type trackingAnswer struct {
	SourceID string   `json:"sourceId"`
	Tracking tracking `json:"tracking"`
}

func showTracking(s *workspace.Source) trackingAnswer {
	return trackingAnswer{s.ID, tracking{s.Tracking.FilterBots, s.Tracking.RequireToken, document(s.Tracking.HTTPConfig)}}
}

func (a *API) getTracking(_ context.Context, in *SourcePath) (trackingAnswer, error) {
	_, s, err := a.source(in.SourceID)
	if err != nil {
		return trackingAnswer{}, err
	}
	return showTracking(s), nil
}

type updateTrackingInput struct {
	SourcePath
	Body struct {
		FilterBots   *bool    `json:"filterBots,omitempty"`
		RequireToken *bool    `json:"requireToken,omitempty"`
		HTTPConfig   document `json:"httpConfig,omitempty" doc:"Takes the place of the one that there is; {} takes it away."`
	}
}

func (a *API) updateTracking(ctx context.Context, in *updateTrackingInput) (trackingAnswer, error) {
	_, s, err := a.changeSource(ctx, in.SourceID, func(_ *workspace.Draft, s *workspace.Source) error {
		set(&s.Tracking.FilterBots, in.Body.FilterBots)
		set(&s.Tracking.RequireToken, in.Body.RequireToken)
		if in.Body.HTTPConfig != nil {
			s.Tracking.HTTPConfig = in.Body.HTTPConfig.raw()
		}
		return nil
	})
	if err != nil {
		return trackingAnswer{}, err
	}
	return showTracking(s), nil
}
