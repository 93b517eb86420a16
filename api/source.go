package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"kith/fault"
	"kith/workspace"
)

const tagSources = "Sources"

func (a *API) sourceRoutes() {
	handle(a, http.MethodGet, "/sources", "listSources", tagSources, a.listSources)
	handle(a, http.MethodPost, "/sources", "createSource", tagSources, a.createSource, created)
	handle(a, http.MethodGet, "/sources/{sourceId}", "getSource", tagSources, a.getSource)
	handle(a, http.MethodPatch, "/sources/{sourceId}", "updateSource", tagSources, a.updateSource,
		about("settings are merged into those there are; null takes one away."))
	handle(a, http.MethodDelete, "/sources/{sourceId}", "deleteSource", tagSources, a.deleteSource,
		about("The destinations that get this source's events go with it, and it leaves its tracking plan. Refused while one of them is connected to an audience."))
	handle(a, http.MethodGet, "/sources/{sourceId}/connected-destinations", "listConnectedDestinationsFromSource", tagSources, a.listConnected)
	handle(a, http.MethodPost, "/sources/{sourceId}/labels", "addLabelsToSource", tagSources, a.addLabels)
	handle(a, http.MethodPut, "/sources/{sourceId}/labels", "replaceLabelsInSource", tagSources, a.replaceLabels)
	handle(a, http.MethodGet, "/sources/{sourceId}/settings", "listSchemaSettingsInSource", tagSources, a.getSchema)
	handle(a, http.MethodPatch, "/sources/{sourceId}/settings", "updateSchemaSettingsInSource", tagSources, a.updateSchema)
	handle(a, http.MethodGet, "/sources/{sourceId}/snippet", "getSnippetOfSource", tagSources, a.getSnippet,
		about("What a web page needs in its head to send to this source."))
	handle(a, http.MethodGet, "/sources/{sourceId}/tracking", "getTrackingOfSource", tagSources, a.getTracking,
		about("Kith's own."))
	handle(a, http.MethodPatch, "/sources/{sourceId}/tracking", "updateTrackingOfSource", tagSources, a.updateTracking,
		about("Kith's own: what the Tracking API refuses, and how the SDKs are told to retry."))
	handle(a, http.MethodPost, "/sources/{sourceId}/writekey", "createWriteKeyForSource", tagSources, a.createWriteKey)
	handle(a, http.MethodDelete, "/sources/{sourceId}/writekey/{writeKey}", "removeWriteKeyFromSource", tagSources, a.removeWriteKey)
}

type logos struct {
	Default string `json:"default"`
}

// integrationOption is a setting, as the catalogue shows it.
type integrationOption struct {
	Name         string          `json:"name"`
	Type         string          `json:"type"`
	Required     bool            `json:"required"`
	Description  string          `json:"description,omitempty"`
	DefaultValue json.RawMessage `json:"defaultValue,omitempty"`
	Label        string          `json:"label,omitempty"`
}

// sourceMetadata is the kind of a source. Kith keeps its id as given and has no
// catalogue of sources.
type sourceMetadata struct {
	ID                 string              `json:"id"`
	Name               string              `json:"name"`
	Slug               string              `json:"slug"`
	Description        string              `json:"description"`
	Logos              logos               `json:"logos"`
	Options            []integrationOption `json:"options"`
	Categories         []string            `json:"categories"`
	IsCloudEventSource bool                `json:"isCloudEventSource"`
	Status             string              `json:"status"`
}

type sourceBody struct {
	ID          string            `json:"id"`
	Slug        string            `json:"slug"`
	Name        string            `json:"name"`
	Metadata    sourceMetadata    `json:"metadata"`
	WorkspaceID string            `json:"workspaceId"`
	Enabled     bool              `json:"enabled"`
	WriteKeys   []string          `json:"writeKeys"`
	Settings    document          `json:"settings"`
	Labels      []workspace.Label `json:"labels"`
	SpaceID     string            `json:"spaceId" doc:"Kith's own: the space that the source feeds"`
	CreatedAt   string            `json:"createdAt" doc:"Kith's own"`
}

func showSource(snap *workspace.Snapshot, s *workspace.Source) sourceBody {
	labels := s.Labels
	if labels == nil {
		labels = []workspace.Label{}
	}
	return sourceBody{
		ID: s.ID, Slug: s.Slug, Name: s.Name, WorkspaceID: snap.ID, Enabled: s.Enabled, WriteKeys: s.WriteKeys,
		Metadata: sourceMetadata{
			ID: s.MetadataID, Name: s.MetadataID, Slug: s.MetadataID,
			Options: []integrationOption{}, Categories: []string{}, Status: "PUBLIC",
		},
		Settings: document(s.Settings), Labels: labels, SpaceID: s.SpaceID, CreatedAt: when(s.CreatedAt),
	}
}

type sourceAnswer struct {
	Source sourceBody `json:"source"`
}

type sourcesAnswer struct {
	Sources    []sourceBody `json:"sources"`
	Pagination pageInfo     `json:"pagination"`
}

func (a *API) listSources(_ context.Context, in *Paging) (sourcesAnswer, error) {
	snap := a.cfg.Workspace.Current()
	list, info, err := paged(snap.Sources, func(s *workspace.Source) string { return s.ID }, in)
	return sourcesAnswer{each(list, func(s *workspace.Source) sourceBody { return showSource(snap, s) }), info}, err
}

type createSourceInput struct {
	Body struct {
		Slug       string            `json:"slug"`
		Enabled    *bool             `json:"enabled,omitempty" doc:"true when missing"`
		MetadataID string            `json:"metadataId" doc:"Segment's catalogue id or any slug; kept as given"`
		Settings   document          `json:"settings,omitempty"`
		Name       string            `json:"name,omitempty" doc:"Kith's own; the slug when missing"`
		SpaceID    string            `json:"spaceId,omitempty" doc:"Kith's own: id or slug of the space that the source feeds; default when missing"`
		Labels     []workspace.Label `json:"labels,omitempty" doc:"Kith's own"`
		// DisconnectAllWarehouses is Segment's; without warehouses it asks for
		// what is so anyway.
		DisconnectAllWarehouses *bool `json:"disconnectAllWarehouses,omitempty"`
	}
}

func (a *API) createSource(ctx context.Context, in *createSourceInput) (sourceAnswer, error) {
	b := &in.Body
	var id string
	snap, err := a.update(ctx, "sources."+b.Slug, func(d *workspace.Draft) error {
		s := workspace.Source{
			ID: d.NewSourceID(), Slug: b.Slug, Name: b.Name, MetadataID: b.MetadataID, Enabled: b.Enabled == nil || *b.Enabled,
			WriteKeys: []string{d.NewWriteKey()}, Settings: b.Settings.raw(), Labels: b.Labels, Schema: workspace.DefaultSchema(),
		}
		if s.Name == "" {
			s.Name = s.Slug
		}
		var err error
		if s.SpaceID, err = feeds(d, b.SpaceID); err != nil {
			return err
		}
		id = s.ID
		d.Sources = append(d.Sources, s)
		return nil
	})
	if err != nil {
		return sourceAnswer{}, err
	}
	return sourceAnswer{showSource(snap, snap.Source(id))}, nil
}

// feeds returns the id of the space that a request names.
func feeds(d *workspace.Draft, idOrSlug string) (string, error) {
	if idOrSlug == "" {
		idOrSlug = workspace.DefaultSpace
	}
	sp := d.Space(idOrSlug)
	if sp == nil {
		var have []string
		for i := range d.Spaces {
			have = append(have, d.Spaces[i].Slug)
		}
		return "", fault.Field("spaceId", "there is no space %q; there are: %s", idOrSlug, strings.Join(have, ", "))
	}
	return sp.ID, nil
}

// SourcePath names a source in a path.
type SourcePath struct {
	SourceID string `path:"sourceId"`
}

func (a *API) source(id string) (*workspace.Snapshot, *workspace.Source, error) {
	snap := a.cfg.Workspace.Current()
	if s := snap.Source(id); s != nil {
		return snap, s, nil
	}
	return nil, nil, notFound("source", id)
}

// updateOne changes one source and returns it as it is then.
func (a *API) changeSource(ctx context.Context, id string, fn func(*workspace.Draft, *workspace.Source) error) (*workspace.Snapshot, *workspace.Source, error) {
	slug := ""
	snap, err := a.updateNamed(ctx, func() string { return "sources." + slug }, func(d *workspace.Draft) error {
		s := d.Source(id)
		if s == nil {
			return notFound("source", id)
		}
		err := fn(d, s)
		slug = s.Slug
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return snap, snap.Source(id), nil
}

func (a *API) getSource(_ context.Context, in *SourcePath) (sourceAnswer, error) {
	snap, s, err := a.source(in.SourceID)
	if err != nil {
		return sourceAnswer{}, err
	}
	return sourceAnswer{showSource(snap, s)}, nil
}

type updateSourceInput struct {
	SourcePath
	Body struct {
		Name     *string  `json:"name,omitempty"`
		Enabled  *bool    `json:"enabled,omitempty"`
		Slug     *string  `json:"slug,omitempty"`
		Settings document `json:"settings,omitempty"`
		SpaceID  *string  `json:"spaceId,omitempty" doc:"Kith's own: id or slug of the space that the source feeds from now on"`
	}
}

func (a *API) updateSource(ctx context.Context, in *updateSourceInput) (sourceAnswer, error) {
	snap, s, err := a.changeSource(ctx, in.SourceID, func(d *workspace.Draft, s *workspace.Source) (err error) {
		set(&s.Name, in.Body.Name)
		set(&s.Enabled, in.Body.Enabled)
		set(&s.Slug, in.Body.Slug)
		if in.Body.SpaceID != nil {
			if s.SpaceID, err = feeds(d, *in.Body.SpaceID); err != nil {
				return err
			}
		}
		if in.Body.Settings != nil {
			s.Settings, err = merge(s.Settings, in.Body.Settings)
		}
		return err
	})
	if err != nil {
		return sourceAnswer{}, err
	}
	return sourceAnswer{showSource(snap, s)}, nil
}

func (a *API) deleteSource(ctx context.Context, in *SourcePath) (status, error) {
	_, err := a.update(ctx, "", func(d *workspace.Draft) error {
		if d.Source(in.SourceID) == nil {
			return notFound("source", in.SourceID)
		}
		return d.RemoveSource(in.SourceID)
	})
	return success(), err
}

type listConnectedInput struct {
	SourcePath
	Paging
}

func (a *API) listConnected(_ context.Context, in *listConnectedInput) (destinationsAnswer, error) {
	snap, s, err := a.source(in.SourceID)
	if err != nil {
		return destinationsAnswer{}, err
	}
	var connected []workspace.Destination
	for i := range snap.Destinations {
		if snap.Destinations[i].SourceID == s.ID {
			connected = append(connected, snap.Destinations[i])
		}
	}
	return a.showDestinations(connected, &in.Paging)
}

type labelsInput struct {
	SourcePath
	Body struct {
		Labels []workspace.Label `json:"labels"`
	}
}

type labelsAnswer struct {
	Labels []workspace.Label `json:"labels"`
}

// addLabels adds labels; one with a key that is there replaces it.
func (a *API) addLabels(ctx context.Context, in *labelsInput) (labelsAnswer, error) {
	return a.changeLabels(ctx, in, func(s *workspace.Source) {
		for _, l := range in.Body.Labels {
			s.Labels = append(slices.DeleteFunc(s.Labels, func(h workspace.Label) bool { return h.Key == l.Key }), l)
		}
	})
}

func (a *API) replaceLabels(ctx context.Context, in *labelsInput) (labelsAnswer, error) {
	return a.changeLabels(ctx, in, func(s *workspace.Source) { s.Labels = in.Body.Labels })
}

func (a *API) changeLabels(ctx context.Context, in *labelsInput, fn func(*workspace.Source)) (labelsAnswer, error) {
	snap, s, err := a.changeSource(ctx, in.SourceID, func(_ *workspace.Draft, s *workspace.Source) error { fn(s); return nil })
	if err != nil {
		return labelsAnswer{}, err
	}
	return labelsAnswer{showSource(snap, s).Labels}, nil
}

type schemaAnswer struct {
	SourceID string                   `json:"sourceId"`
	Settings workspace.SchemaSettings `json:"settings"`
}

func (a *API) getSchema(_ context.Context, in *SourcePath) (schemaAnswer, error) {
	_, s, err := a.source(in.SourceID)
	if err != nil {
		return schemaAnswer{}, err
	}
	return schemaAnswer{s.ID, s.Schema}, nil
}

type traitsChange struct {
	AllowUnplannedTraits    *bool   `json:"allowUnplannedTraits,omitempty"`
	AllowTraitsOnViolations *bool   `json:"allowTraitsOnViolations,omitempty"`
	CommonEventOnViolations *string `json:"commonEventOnViolations,omitempty" enum:"ALLOW,BLOCK,OMIT_TRAITS"`
}

func (c *traitsChange) apply(t *workspace.TraitsSettings) {
	if c == nil {
		return
	}
	set(&t.AllowUnplannedTraits, c.AllowUnplannedTraits)
	set(&t.AllowTraitsOnViolations, c.AllowTraitsOnViolations)
	set(&t.CommonEventOnViolations, c.CommonEventOnViolations)
}

type trackChange struct {
	AllowUnplannedEvents          *bool   `json:"allowUnplannedEvents,omitempty"`
	AllowUnplannedEventProperties *bool   `json:"allowUnplannedEventProperties,omitempty"`
	AllowEventOnViolations        *bool   `json:"allowEventOnViolations,omitempty"`
	AllowPropertiesOnViolations   *bool   `json:"allowPropertiesOnViolations,omitempty"`
	CommonEventOnViolations       *string `json:"commonEventOnViolations,omitempty" enum:"ALLOW,BLOCK,OMIT_PROPERTIES"`
}

type updateSchemaInput struct {
	SourcePath
	Body struct {
		Track    *trackChange  `json:"track,omitempty"`
		Identify *traitsChange `json:"identify,omitempty"`
		Group    *traitsChange `json:"group,omitempty"`
	}
}

func (a *API) updateSchema(ctx context.Context, in *updateSchemaInput) (schemaAnswer, error) {
	_, s, err := a.changeSource(ctx, in.SourceID, func(_ *workspace.Draft, s *workspace.Source) error {
		if c := in.Body.Track; c != nil {
			t := &s.Schema.Track
			set(&t.AllowUnplannedEvents, c.AllowUnplannedEvents)
			set(&t.AllowUnplannedEventProperties, c.AllowUnplannedEventProperties)
			set(&t.AllowEventOnViolations, c.AllowEventOnViolations)
			set(&t.AllowPropertiesOnViolations, c.AllowPropertiesOnViolations)
			set(&t.CommonEventOnViolations, c.CommonEventOnViolations)
		}
		in.Body.Identify.apply(&s.Schema.Identify)
		in.Body.Group.apply(&s.Schema.Group)
		return nil
	})
	if err != nil {
		return schemaAnswer{}, err
	}
	return schemaAnswer{s.ID, s.Schema}, nil
}

func (a *API) createWriteKey(ctx context.Context, in *SourcePath) (sourceAnswer, error) {
	snap, s, err := a.changeSource(ctx, in.SourceID, func(d *workspace.Draft, s *workspace.Source) error {
		s.WriteKeys = append(s.WriteKeys, d.NewWriteKey())
		return nil
	})
	if err != nil {
		return sourceAnswer{}, err
	}
	return sourceAnswer{showSource(snap, s)}, nil
}

type removeWriteKeyInput struct {
	SourcePath
	WriteKey string `path:"writeKey"`
}

func (a *API) removeWriteKey(ctx context.Context, in *removeWriteKeyInput) (status, error) {
	_, _, err := a.changeSource(ctx, in.SourceID, func(_ *workspace.Draft, s *workspace.Source) error {
		i := slices.Index(s.WriteKeys, in.WriteKey)
		if i < 0 {
			return notFound("write key", in.WriteKey)
		}
		s.WriteKeys = slices.Delete(s.WriteKeys, i, i+1)
		return nil
	})
	return success(), err
}
