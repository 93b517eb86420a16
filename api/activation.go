package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"kith/fault"
	"kith/workspace"
)

const tagActivations = "Activations"

func (a *API) activationRoutes() {
	const audience = "/spaces/{spaceId}/audiences/{id}"
	const connections = audience + "/destination-connections"
	handle(a, http.MethodGet, connections, "listDestinationsFromAudience", tagActivations, a.listConnections)
	handle(a, http.MethodPost, connections, "addDestinationToAudience", tagActivations, a.addConnection,
		about("Without activations, entry and exit go out as identify and as track."))
	handle(a, http.MethodPatch, connections+"/{destinationId}", "updateDestinationForAudience", tagActivations, a.updateConnection)
	handle(a, http.MethodDelete, connections+"/{destinationId}", "removeDestinationFromAudience", tagActivations, a.removeConnection)
	handle(a, http.MethodPost, connections+"/{connectionId}/activations", "addActivationToAudience", tagActivations, a.addActivation)
	handle(a, http.MethodGet, audience+"/activations", "listActivationsFromAudience", tagActivations, a.listActivations)
	handle(a, http.MethodGet, audience+"/activations/{activationId}", "getActivationFromAudience", tagActivations, a.getActivation)
	handle(a, http.MethodPatch, audience+"/activations/{activationId}", "updateActivationForAudience", tagActivations, a.updateActivation)
	handle(a, http.MethodDelete, audience+"/activations/{activationId}", "removeActivationFromAudience", tagActivations, a.removeActivation)
}

type idSync struct {
	ExternalID string `json:"externalId"`
	Strategy   string `json:"strategy"`
	MapTo      string `json:"mapTo,omitempty"`
}

// noIDSync refuses a choice of identifiers, which Kith does not make yet: all
// of them are sent.
func noIDSync(list []idSync) error {
	if len(list) > 0 {
		return fault.Field("idSyncConfiguration", "identifiers cannot be chosen yet; leave it out, and all user ids, emails and other filtered identifiers are sent")
	}
	return nil
}

type metadataRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Slug string `json:"slug"`
}

type connectionBody struct {
	ID                 string      `json:"id" doc:"The connection's id"`
	Name               string      `json:"name"`
	SourceID           string      `json:"sourceId"`
	Enabled            bool        `json:"enabled"`
	CreatedAt          string      `json:"createdAt"`
	UpdatedAt          string      `json:"updatedAt"`
	Settings           document    `json:"settings" doc:"Secrets are masked"`
	DestinationID      string      `json:"destinationId"`
	Metadata           metadataRef `json:"metadata"`
	ConnectionSettings document    `json:"connectionSettings"`
}

type connectionsAnswer struct {
	Connections []connectionBody `json:"connections"`
	Pagination  pageInfo         `json:"pagination"`
}

type listConnectionsInput struct {
	AudiencePath
	Paging
}

func (a *API) listConnections(_ context.Context, in *listConnectionsInput) (connectionsAnswer, error) {
	snap := a.cfg.Workspace.Current()
	_, x, err := in.find(snap)
	if err != nil {
		return connectionsAnswer{}, err
	}
	page, info, err := paged(x.Connections, func(c *workspace.AudienceConnection) string { return c.ID }, &in.Paging)
	if err != nil {
		return connectionsAnswer{}, err
	}
	out := connectionsAnswer{Connections: []connectionBody{}, Pagination: info}
	for _, c := range page {
		d := snap.Destination(c.DestinationID)
		if d == nil {
			continue // a snapshot has no such connection
		}
		m := a.metadata(d.MetadataID)
		out.Connections = append(out.Connections, connectionBody{
			ID: c.ID, Name: d.Name, SourceID: d.SourceID, Enabled: d.Enabled, CreatedAt: when(d.CreatedAt), UpdatedAt: when(d.CreatedAt),
			Settings: document(workspace.MaskSettings(d.Settings)), DestinationID: d.ID, Metadata: metadataRef{m.ID, m.Name, m.Slug},
			ConnectionSettings: document(c.ConnectionSettings),
		})
	}
	return out, nil
}

type destinationRef struct {
	ID   string `json:"id"`
	Type string `json:"type" enum:"destination" doc:"destination"`
}

type addConnectionInput struct {
	AudiencePath
	Body struct {
		Destination         destinationRef `json:"destination"`
		IDSyncConfiguration []idSync       `json:"idSyncConfiguration,omitempty"`
		ConnectionSettings  document       `json:"connectionSettings,omitempty"`
	}
}

type idBody struct {
	ID string `json:"id"`
}

type connectionAnswer struct {
	Connection          idBody   `json:"connection"`
	IDSyncConfiguration []idSync `json:"idSyncConfiguration"`
	ConnectionSettings  document `json:"connectionSettings"`
}

func (a *API) addConnection(ctx context.Context, in *addConnectionInput) (connectionAnswer, error) {
	b := &in.Body
	if err := noIDSync(b.IDSyncConfiguration); err != nil {
		return connectionAnswer{}, err
	}
	var id string
	_, err := a.changeAudience(ctx, &in.AudiencePath, func(d *workspace.Draft, x *workspace.Audience) (string, error) {
		if connectionTo(x, b.Destination.ID) >= 0 {
			return "", fault.New(fault.Conflict, "the audience is connected to destination %s already", b.Destination.ID)
		}
		c := workspace.AudienceConnection{ID: d.NewConnectionID(), DestinationID: b.Destination.ID, ConnectionSettings: b.ConnectionSettings.raw()}
		id = c.ID
		x.Connections = append(x.Connections, c)
		return fmt.Sprintf("connections.%d", len(x.Connections)-1), nil
	})
	if err != nil {
		return connectionAnswer{}, err
	}
	return connectionAnswer{Connection: idBody{id}, IDSyncConfiguration: []idSync{}, ConnectionSettings: b.ConnectionSettings}, nil
}

// changeConnection changes one of an audience's connections, named by the
// destination's id or its own.
func (a *API) changeConnection(ctx context.Context, p *AudiencePath, id string, fn func(*workspace.Draft, *workspace.AudienceConnection) error) (*workspace.Snapshot, error) {
	return a.changeAudience(ctx, p, func(d *workspace.Draft, x *workspace.Audience) (string, error) {
		i := connectionTo(x, id)
		if i < 0 {
			return "", notFound("connection of this audience to", id)
		}
		return fmt.Sprintf("connections.%d", i), fn(d, &x.Connections[i])
	})
}

// ConnectionPath names an audience's connection in a path.
type ConnectionPath struct {
	AudiencePath
	DestinationID string `path:"destinationId" doc:"The destination's id, or the connection's"`
}

type updateConnectionInput struct {
	ConnectionPath
	Body struct {
		IDSyncConfiguration []idSync `json:"idSyncConfiguration,omitempty"`
		ConnectionSettings  document `json:"connectionSettings,omitempty"`
	}
}

type updatedConnection struct {
	Destination         idBody   `json:"destination"`
	IDSyncConfiguration []idSync `json:"idSyncConfiguration"`
	ConnectionSettings  document `json:"connectionSettings"`
}

func (a *API) updateConnection(ctx context.Context, in *updateConnectionInput) (updatedConnection, error) {
	if err := noIDSync(in.Body.IDSyncConfiguration); err != nil {
		return updatedConnection{}, err
	}
	out := updatedConnection{IDSyncConfiguration: []idSync{}}
	_, err := a.changeConnection(ctx, &in.AudiencePath, in.DestinationID, func(_ *workspace.Draft, c *workspace.AudienceConnection) error {
		if in.Body.ConnectionSettings != nil {
			c.ConnectionSettings = in.Body.ConnectionSettings.raw()
		}
		out.Destination.ID, out.ConnectionSettings = c.DestinationID, document(c.ConnectionSettings)
		return nil
	})
	return out, err
}

func (a *API) removeConnection(ctx context.Context, in *ConnectionPath) (status, error) {
	_, err := a.changeAudience(ctx, &in.AudiencePath, func(_ *workspace.Draft, x *workspace.Audience) (string, error) {
		i := connectionTo(x, in.DestinationID)
		if i < 0 {
			return "", notFound("connection of this audience to", in.DestinationID)
		}
		x.Connections = slices.Delete(x.Connections, i, i+1)
		return "", nil
	})
	return success(), err
}

type profileTraits struct {
	Properties []string          `json:"properties,omitempty" doc:"Traits to send along"`
	Mapping    map[string]string `json:"mapping,omitempty" doc:"By trait the name it is sent under"`
}

type personalization struct {
	Profile *profileTraits `json:"profile,omitempty"`
}

func (p *personalization) traits() map[string]string {
	if p == nil || p.Profile == nil {
		return nil
	}
	return workspace.TraitNames(p.Profile.Properties, p.Profile.Mapping)
}

func showTraits(traits map[string]string) *personalization {
	p := &profileTraits{Properties: slices.Sorted(maps.Keys(traits))}
	for trait, name := range traits {
		if trait != name {
			if p.Mapping == nil {
				p.Mapping = map[string]string{}
			}
			p.Mapping[trait] = name
		}
	}
	return &personalization{Profile: p}
}

type destinationMapping struct {
	ActionID string   `json:"actionId"`
	Settings document `json:"settings,omitempty"`
}

type activationBody struct {
	ID              string           `json:"id"`
	Enabled         bool             `json:"enabled"`
	WorkspaceID     string           `json:"workspaceId"`
	SpaceID         string           `json:"spaceId"`
	AudienceID      string           `json:"audienceId"`
	ConnectionID    string           `json:"connectionId"`
	ActivationType  string           `json:"activationType"`
	ActivationName  string           `json:"activationName"`
	Personalization *personalization `json:"personalization"`
	Trigger         string           `json:"trigger,omitempty" doc:"Kith's own"`
}

func showActivation(snap *workspace.Snapshot, x *workspace.Audience, c *workspace.AudienceConnection, act *workspace.Activation) activationBody {
	return activationBody{
		ID: act.ID, Enabled: act.Enabled, WorkspaceID: snap.ID, SpaceID: x.SpaceID, AudienceID: x.ID, ConnectionID: c.ID,
		ActivationType: act.Type, ActivationName: act.Name, Personalization: showTraits(act.Traits), Trigger: act.Trigger,
	}
}

type activationAnswer struct {
	Activation activationBody `json:"activation"`
}

type activationsAnswer struct {
	Activations []activationBody `json:"activations"`
	Pagination  pageInfo         `json:"pagination"`
}

type addActivationInput struct {
	AudiencePath
	ConnectionID string `path:"connectionId" doc:"The connection's id, or the destination's"`
	Body         struct {
		Enabled            *bool               `json:"enabled,omitempty" doc:"true when missing"`
		PerformResync      *bool               `json:"performResync,omitempty" doc:"Only false: what a destination has not been told it is told in any case; telling all of it again is not offered yet"`
		ActivationType     string              `json:"activationType" enum:"Audience Entered,Audience Exited,Audience Membership Changed"`
		ActivationName     string              `json:"activationName"`
		Personalization    *personalization    `json:"personalization,omitempty"`
		DestinationMapping *destinationMapping `json:"destinationMapping,omitempty"`
		Trigger            string              `json:"trigger,omitempty" doc:"Kith's own: only what matches it goes out"`
	}
}

// checkResync refuses to promise that everything is told again.
func checkResync(asked *bool) error {
	if asked != nil && *asked {
		return fault.Field("performResync", "a full resync is not offered yet; send false: a new connection tells the members it has by itself")
	}
	return nil
}

// checkMapping refuses a mapping that nobody would follow.
func (a *API) checkMapping(m *destinationMapping, d *workspace.Destination) error {
	if m == nil || d == nil {
		return nil
	}
	c, err := a.cfg.Connectors.Find(d.MetadataID)
	if err != nil {
		return err
	}
	if c.Spec.Action(m.ActionID) == nil {
		return fault.Field("destinationMapping.actionId", "%s has no action %q", c.Spec.Slug, m.ActionID)
	}
	if s := string(m.Settings); s != "" && s != "{}" && s != "null" {
		return fault.Field("destinationMapping.settings", "%s takes no settings of an activation", c.Spec.Slug)
	}
	return nil
}

func (a *API) addActivation(ctx context.Context, in *addActivationInput) (activationAnswer, error) {
	b := &in.Body
	if err := checkResync(b.PerformResync); err != nil {
		return activationAnswer{}, err
	}
	var id string
	snap, err := a.changeAudience(ctx, &in.AudiencePath, func(d *workspace.Draft, x *workspace.Audience) (string, error) {
		i := connectionTo(x, in.ConnectionID)
		if i < 0 {
			return "", notFound("connection of this audience", in.ConnectionID)
		}
		c := &x.Connections[i]
		if err := a.checkMapping(b.DestinationMapping, d.Destination(c.DestinationID)); err != nil {
			return "", err
		}
		act := workspace.Activation{
			ID: d.NewActivationID(), Name: b.ActivationName, Type: b.ActivationType, Enabled: b.Enabled == nil || *b.Enabled,
			Traits: b.Personalization.traits(), Trigger: b.Trigger,
		}
		id = act.ID
		c.Activations = append(c.Activations, act)
		return fmt.Sprintf("connections.%d.activations.%d", i, len(c.Activations)-1), nil
	})
	if err != nil {
		return activationAnswer{}, err
	}
	return a.oneActivation(snap, &in.AudiencePath, id)
}

func (a *API) oneActivation(snap *workspace.Snapshot, p *AudiencePath, id string) (activationAnswer, error) {
	_, x, err := p.find(snap)
	if err != nil {
		return activationAnswer{}, err
	}
	i, j := activationAt(x, id)
	if i < 0 {
		return activationAnswer{}, notFound("activation", id)
	}
	return activationAnswer{showActivation(snap, x, &x.Connections[i], &x.Connections[i].Activations[j])}, nil
}

// activationAt returns the places of the connection and, in it, of the
// activation; -1 when there is none.
func activationAt(x *workspace.Audience, id string) (connection, activation int) {
	for i := range x.Connections {
		j := slices.IndexFunc(x.Connections[i].Activations, func(act workspace.Activation) bool { return act.ID == id })
		if j >= 0 {
			return i, j
		}
	}
	return -1, -1
}

func (a *API) listActivations(_ context.Context, in *listConnectionsInput) (activationsAnswer, error) {
	snap := a.cfg.Workspace.Current()
	_, x, err := in.find(snap)
	if err != nil {
		return activationsAnswer{}, err
	}
	var all []activationBody
	for i := range x.Connections {
		c := &x.Connections[i]
		for j := range c.Activations {
			all = append(all, showActivation(snap, x, c, &c.Activations[j]))
		}
	}
	page, info, err := paged(all, func(b *activationBody) string { return b.ID }, &in.Paging)
	return activationsAnswer{page, info}, err
}

// ActivationPath names an activation in a path.
type ActivationPath struct {
	AudiencePath
	ActivationID string `path:"activationId"`
}

func (a *API) getActivation(_ context.Context, in *ActivationPath) (activationAnswer, error) {
	return a.oneActivation(a.cfg.Workspace.Current(), &in.AudiencePath, in.ActivationID)
}

type updateActivationInput struct {
	ActivationPath
	Body struct {
		Enabled            *bool               `json:"enabled,omitempty"`
		ActivationName     *string             `json:"activationName,omitempty"`
		Personalization    *personalization    `json:"personalization,omitempty"`
		DestinationMapping *destinationMapping `json:"destinationMapping,omitempty"`
		PerformResync      *bool               `json:"performResync,omitempty" doc:"Only false; see addActivationToAudience"`
		Trigger            *string             `json:"trigger,omitempty" doc:"Kith's own"`
	}
}

func (a *API) updateActivation(ctx context.Context, in *updateActivationInput) (activationAnswer, error) {
	b := &in.Body
	if err := checkResync(b.PerformResync); err != nil {
		return activationAnswer{}, err
	}
	snap, err := a.changeAudience(ctx, &in.AudiencePath, func(d *workspace.Draft, x *workspace.Audience) (string, error) {
		i, j := activationAt(x, in.ActivationID)
		if i < 0 {
			return "", notFound("activation", in.ActivationID)
		}
		if err := a.checkMapping(b.DestinationMapping, d.Destination(x.Connections[i].DestinationID)); err != nil {
			return "", err
		}
		act := &x.Connections[i].Activations[j]
		set(&act.Enabled, b.Enabled)
		set(&act.Name, b.ActivationName)
		set(&act.Trigger, b.Trigger)
		if b.Personalization != nil {
			act.Traits = b.Personalization.traits()
		}
		return fmt.Sprintf("connections.%d.activations.%d", i, j), nil
	})
	if err != nil {
		return activationAnswer{}, err
	}
	return a.oneActivation(snap, &in.AudiencePath, in.ActivationID)
}

func (a *API) removeActivation(ctx context.Context, in *ActivationPath) (status, error) {
	_, err := a.changeAudience(ctx, &in.AudiencePath, func(_ *workspace.Draft, x *workspace.Audience) (string, error) {
		i, j := activationAt(x, in.ActivationID)
		if i < 0 {
			return "", notFound("activation", in.ActivationID)
		}
		x.Connections[i].Activations = slices.Delete(x.Connections[i].Activations, j, j+1)
		return "", nil
	})
	return success(), err
}
