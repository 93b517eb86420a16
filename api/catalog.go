package api

import (
	"context"
	"encoding/json"
	"net/http"

	"kith/destination"
)

const tagCatalog = "Catalog"

func (a *API) catalogRoutes() {
	handle(a, http.MethodGet, "/catalog/destinations", "getDestinationsCatalog", tagCatalog, a.listCatalog)
	handle(a, http.MethodGet, "/catalog/destinations/{destinationMetadataId}", "getDestinationMetadata", tagCatalog, a.getMetadata)
}

// destinationMetadata is a kind of destination, as the catalogue shows it.
type destinationMetadata struct {
	ID                 string              `json:"id"`
	Name               string              `json:"name"`
	Slug               string              `json:"slug"`
	Description        string              `json:"description"`
	Logos              logos               `json:"logos"`
	Options            []integrationOption `json:"options"`
	Status             string              `json:"status"`
	PreviousNames      []string            `json:"previousNames"`
	Categories         []string            `json:"categories"`
	Website            string              `json:"website"`
	Components         []component         `json:"components"`
	SupportedFeatures  features            `json:"supportedFeatures"`
	SupportedMethods   calls               `json:"supportedMethods"`
	SupportedPlatforms platforms           `json:"supportedPlatforms"`
	Actions            []actionMetadata    `json:"actions"`
	Presets            []preset            `json:"presets"`
}

type component struct {
	Type string `json:"type"`
	Code string `json:"code"`
}

type features struct {
	CloudModeInstances  string `json:"cloudModeInstances"`
	DeviceModeInstances string `json:"deviceModeInstances"`
	Replay              bool   `json:"replay"`
}

type calls struct {
	Pageview bool `json:"pageview"`
	Identify bool `json:"identify"`
	Alias    bool `json:"alias"`
	Track    bool `json:"track"`
	Group    bool `json:"group"`
}

type platforms struct {
	Browser bool `json:"browser"`
	Server  bool `json:"server"`
	Mobile  bool `json:"mobile"`
}

type preset struct {
	ActionID string   `json:"actionId"`
	Name     string   `json:"name"`
	Fields   document `json:"fields"`
	Trigger  string   `json:"trigger"`
}

type actionMetadata struct {
	ID             string        `json:"id"`
	Slug           string        `json:"slug"`
	Name           string        `json:"name"`
	Description    string        `json:"description"`
	Platform       string        `json:"platform"`
	Hidden         bool          `json:"hidden"`
	DefaultTrigger *string       `json:"defaultTrigger"`
	Fields         []actionField `json:"fields"`
}

type actionField struct {
	ID           string          `json:"id"`
	SortOrder    int             `json:"sortOrder"`
	FieldKey     string          `json:"fieldKey"`
	Label        string          `json:"label"`
	Type         string          `json:"type"`
	Description  string          `json:"description"`
	DefaultValue json.RawMessage `json:"defaultValue,omitempty"`
	Required     bool            `json:"required"`
	Multiple     bool            `json:"multiple"`
	Dynamic      bool            `json:"dynamic"`
	AllowNull    bool            `json:"allowNull"`
}

func describe(s *destination.Spec) destinationMetadata {
	m := destinationMetadata{
		ID: s.ID, Name: s.Name, Slug: s.Slug, Description: s.Description, Status: "PUBLIC",
		Options: options("", s.Settings), PreviousNames: []string{}, Categories: []string{}, Components: []component{}, Presets: []preset{},
		SupportedFeatures:  features{CloudModeInstances: "MULTIPLE", DeviceModeInstances: "NONE"},
		SupportedMethods:   calls{Pageview: true, Identify: true, Alias: true, Track: true, Group: true},
		SupportedPlatforms: platforms{Browser: true, Server: true, Mobile: true},
		Actions:            []actionMetadata{},
	}
	for i := range s.Actions {
		act := &s.Actions[i]
		show := actionMetadata{ID: act.ID, Slug: act.Slug, Name: act.Name, Description: act.Description, Platform: "CLOUD", Fields: []actionField{}}
		if act.DefaultTrigger != "" {
			show.DefaultTrigger = &act.DefaultTrigger
		}
		for j, f := range act.Settings {
			show.Fields = append(show.Fields, actionField{
				ID: f.Name, SortOrder: j, FieldKey: f.Name, Label: f.Label, Type: fieldType(f.Type), Description: f.Help,
				DefaultValue: f.Default, Required: f.Required,
			})
		}
		m.Actions = append(m.Actions, show)
	}
	return m
}

// options lists settings; those within an object follow it, named by their
// path.
func options(within string, fields []destination.Field) []integrationOption {
	list := []integrationOption{}
	for _, f := range fields {
		name := joinPath(within, f.Name)
		list = append(list, integrationOption{
			Name: name, Type: optionType(&f), Required: f.Required, Description: f.Help, DefaultValue: f.Default, Label: f.Label,
		})
		list = append(list, options(name, f.Fields)...)
	}
	return list
}

// optionType names a setting's type as Segment's catalogue does.
func optionType(f *destination.Field) string {
	switch {
	case f.Secret:
		return "password"
	case f.Type == destination.Integer:
		return "number"
	case f.Type == destination.Boolean:
		return "boolean"
	case f.Type == destination.Texts:
		return "text-map"
	case f.Type == destination.Object:
		return "object"
	}
	return "string"
}

func fieldType(t destination.Type) string {
	switch t {
	case destination.Integer:
		return "INTEGER"
	case destination.Boolean:
		return "BOOLEAN"
	case destination.Texts, destination.Object:
		return "OBJECT"
	}
	return "STRING"
}

// metadata describes the kind of a destination. One that this binary does not
// have any more is shown by its id.
func (a *API) metadata(idOrSlug string) destinationMetadata {
	c, err := a.cfg.Connectors.Find(idOrSlug)
	if err != nil {
		m := describe(&destination.Spec{ID: idOrSlug, Slug: idOrSlug, Name: idOrSlug})
		m.Status = "UNAVAILABLE"
		return m
	}
	return describe(&c.Spec)
}

type catalogAnswer struct {
	DestinationsCatalog []destinationMetadata `json:"destinationsCatalog"`
	Pagination          pageInfo              `json:"pagination"`
}

func (a *API) listCatalog(_ context.Context, in *Paging) (catalogAnswer, error) {
	page, info, err := paged(a.cfg.Connectors.Specs(), func(s *destination.Spec) string { return s.ID }, in)
	return catalogAnswer{each(page, describe), info}, err
}

type metadataInput struct {
	ID string `path:"destinationMetadataId" doc:"Id or slug"`
}

type metadataAnswer struct {
	DestinationMetadata destinationMetadata `json:"destinationMetadata"`
}

func (a *API) getMetadata(_ context.Context, in *metadataInput) (metadataAnswer, error) {
	c, err := a.cfg.Connectors.Find(in.ID)
	if err != nil {
		return metadataAnswer{}, err
	}
	return metadataAnswer{describe(&c.Spec)}, nil
}
