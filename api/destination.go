package api

import (
	"context"
	"net/http"
	"slices"

	"kith/workspace"
)

const tagDestinations = "Destinations"

func (a *API) destinationRoutes() {
	handle(a, http.MethodGet, "/destinations", "listDestinations", tagDestinations, a.listDestinations)
	handle(a, http.MethodPost, "/destinations", "createDestination", tagDestinations, a.createDestination,
		about("GET /catalog/destinations lists the kinds there are, with their settings."))
	handle(a, http.MethodGet, "/destinations/{destinationId}", "getDestination", tagDestinations, a.getDestination)
	handle(a, http.MethodPatch, "/destinations/{destinationId}", "updateDestination", tagDestinations, a.updateDestination,
		about("settings are merged into those there are; null takes one away, and a secret that is given as it is shown stays."))
	handle(a, http.MethodDelete, "/destinations/{destinationId}", "deleteDestination", tagDestinations, a.deleteDestination,
		about("Refused while an audience is connected to it."))
	const one = "/destinations/{destinationId}/subscriptions"
	handle(a, http.MethodGet, one, "listSubscriptionsFromDestination", tagDestinations, a.listSubscriptions)
	handle(a, http.MethodPost, one, "createDestinationSubscription", tagDestinations, a.createSubscription)
	handle(a, http.MethodGet, one+"/{id}", "getSubscriptionFromDestination", tagDestinations, a.getSubscription)
	handle(a, http.MethodPatch, one+"/{id}", "updateSubscriptionForDestination", tagDestinations, a.updateSubscription)
	handle(a, http.MethodDelete, one+"/{id}", "removeSubscriptionFromDestination", tagDestinations, a.removeSubscription)
}

type destinationBody struct {
	ID        string              `json:"id"`
	Name      string              `json:"name"`
	Enabled   bool                `json:"enabled"`
	Metadata  destinationMetadata `json:"metadata"`
	SourceID  string              `json:"sourceId" doc:"Empty when it gets no source's events"`
	Settings  document            `json:"settings" doc:"Secrets are masked"`
	Slug      string              `json:"slug" doc:"Kith's own: its name in a workspace file"`
	CreatedAt string              `json:"createdAt" doc:"Kith's own"`
}

func (a *API) showDestination(d *workspace.Destination) destinationBody {
	return destinationBody{
		ID: d.ID, Name: d.Name, Enabled: d.Enabled, Metadata: a.metadata(d.MetadataID), SourceID: d.SourceID,
		Settings: document(workspace.MaskSettings(d.Settings)), Slug: d.Slug, CreatedAt: when(d.CreatedAt),
	}
}

type destinationAnswer struct {
	Destination destinationBody `json:"destination"`
}

type destinationsAnswer struct {
	Destinations []destinationBody `json:"destinations"`
	Pagination   pageInfo          `json:"pagination"`
}

func (a *API) showDestinations(list []workspace.Destination, p *Paging) (destinationsAnswer, error) {
	page, info, err := paged(list, func(d *workspace.Destination) string { return d.ID }, p)
	return destinationsAnswer{each(page, a.showDestination), info}, err
}

func (a *API) listDestinations(_ context.Context, in *Paging) (destinationsAnswer, error) {
	return a.showDestinations(a.cfg.Workspace.Current().Destinations, in)
}

type createDestinationInput struct {
	Body struct {
		SourceID   string   `json:"sourceId,omitempty" doc:"The source whose events it gets; none when missing"`
		MetadataID string   `json:"metadataId" doc:"Segment's id or a slug, as in GET /catalog/destinations"`
		Enabled    *bool    `json:"enabled,omitempty" doc:"true when missing"`
		Name       *string  `json:"name,omitempty" nullable:"true" doc:"The kind's name when missing"`
		Settings   document `json:"settings,omitempty"`
		Slug       string   `json:"slug,omitempty" doc:"Kith's own; made of the name when missing"`
	}
}

func (a *API) createDestination(ctx context.Context, in *createDestinationInput) (destinationAnswer, error) {
	b := &in.Body
	var id, slug string
	snap, err := a.updateNamed(ctx, func() string { return "destinations." + slug }, func(d *workspace.Draft) error {
		dest := workspace.Destination{
			ID: d.NewDestinationID(), Slug: b.Slug, MetadataID: b.MetadataID, Enabled: b.Enabled == nil || *b.Enabled,
			SourceID: b.SourceID, Settings: b.Settings.raw(),
		}
		if set(&dest.Name, b.Name); dest.Name == "" {
			dest.Name = a.metadata(b.MetadataID).Name
		}
		if dest.Slug == "" {
			dest.Slug = workspace.FreeSlug(dest.Name, func(slug string) bool {
				return slices.ContainsFunc(d.Destinations, func(h workspace.Destination) bool { return h.Slug == slug })
			})
		}
		id, slug = dest.ID, dest.Slug
		d.Destinations = append(d.Destinations, dest)
		return nil
	})
	if err != nil {
		return destinationAnswer{}, err
	}
	return destinationAnswer{a.showDestination(snap.Destination(id))}, nil
}

// DestinationPath names a destination in a path.
type DestinationPath struct {
	DestinationID string `path:"destinationId"`
}

func (a *API) destination(id string) (*workspace.Destination, error) {
	if d := a.cfg.Workspace.Current().Destination(id); d != nil {
		return d, nil
	}
	return nil, notFound("destination", id)
}

func (a *API) changeDestination(ctx context.Context, id string, fn func(*workspace.Destination) error) (*workspace.Destination, error) {
	path := ""
	snap, err := a.updateNamed(ctx, func() string { return path }, func(d *workspace.Draft) error {
		dest := d.Destination(id)
		if dest == nil {
			return notFound("destination", id)
		}
		err := fn(dest)
		path = "destinations." + dest.Slug
		return err
	})
	if err != nil {
		return nil, err
	}
	return snap.Destination(id), nil
}

func (a *API) getDestination(_ context.Context, in *DestinationPath) (destinationAnswer, error) {
	d, err := a.destination(in.DestinationID)
	if err != nil {
		return destinationAnswer{}, err
	}
	return destinationAnswer{a.showDestination(d)}, nil
}

type updateDestinationInput struct {
	DestinationPath
	Body struct {
		Name     *string  `json:"name,omitempty" nullable:"true"`
		Enabled  *bool    `json:"enabled,omitempty"`
		Settings document `json:"settings,omitempty"`
		Slug     *string  `json:"slug,omitempty" doc:"Kith's own"`
		SourceID *string  `json:"sourceId,omitempty" doc:"Kith's own: another source, or none"`
	}
}

func (a *API) updateDestination(ctx context.Context, in *updateDestinationInput) (destinationAnswer, error) {
	d, err := a.changeDestination(ctx, in.DestinationID, func(d *workspace.Destination) (err error) {
		set(&d.Name, in.Body.Name)
		set(&d.Enabled, in.Body.Enabled)
		set(&d.Slug, in.Body.Slug)
		set(&d.SourceID, in.Body.SourceID)
		if in.Body.Settings != nil {
			d.Settings, err = merge(d.Settings, in.Body.Settings)
		}
		return err
	})
	if err != nil {
		return destinationAnswer{}, err
	}
	return destinationAnswer{a.showDestination(d)}, nil
}

func (a *API) deleteDestination(ctx context.Context, in *DestinationPath) (status, error) {
	_, err := a.update(ctx, "", func(d *workspace.Draft) error {
		if d.Destination(in.DestinationID) == nil {
			return notFound("destination", in.DestinationID)
		}
		return d.RemoveDestination(in.DestinationID)
	})
	return success(), err
}
