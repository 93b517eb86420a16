package destination

import (
	"encoding/json"

	"kith/fault"
	"kith/workspace"
)

// Connector is one kind of destination.
type Connector struct {
	Spec Spec
	// Check checks settings that fit the Spec for what the Spec cannot say;
	// its errors are as those of CheckSettings. Nil: there is no more to say.
	Check func(settings json.RawMessage) error
	// Open makes a Destination. The settings are unsealed and have been
	// checked when they were saved, perhaps by an older version: what does not
	// fit is a fault.Invalid error, which never repeats a secret. Open does not
	// reach out to the remote side.
	Open func(settings json.RawMessage, env Env) (Destination, error)
}

// CheckSettings checks a destination's settings, secrets in plain text; see
// the function of that name.
func (c *Connector) CheckSettings(settings json.RawMessage, check URLChecker) error {
	if err := CheckSettings(c.Spec.Settings, settings, check); err != nil || c.Check == nil {
		return err
	}
	return c.Check(settings)
}

// Registry is the list of connectors of a server. It is never changed and
// safe for concurrent use.
type Registry struct {
	list []Connector
	by   map[string]*Connector // id and slug
}

// NewRegistry returns a registry of connectors. Two with the same id or slug
// are a fault.Conflict error.
func NewRegistry(list ...Connector) (*Registry, error) {
	r := &Registry{list: list, by: map[string]*Connector{}}
	for i := range list {
		c := &list[i]
		for _, name := range []string{c.Spec.ID, c.Spec.Slug} {
			if had := r.by[name]; had != nil && had != c {
				return nil, fault.New(fault.Conflict, "two destinations are called %q", name)
			}
			r.by[name] = c
		}
	}
	return r, nil
}

// Find returns the connector with that id or slug, or a fault.NotFound error
// that lists those there are.
func (r *Registry) Find(idOrSlug string) (*Connector, error) {
	if c := r.by[idOrSlug]; c != nil {
		return c, nil
	}
	var slugs []string
	for i := range r.list {
		slugs = append(slugs, r.list[i].Spec.Slug)
	}
	return nil, fault.New(fault.NotFound, "there is no destination %q; there are: %s", idOrSlug, listed(slugs))
}

// Specs returns the descriptions of all connectors.
func (r *Registry) Specs() []Spec {
	specs := make([]Spec, len(r.list))
	for i := range r.list {
		specs[i] = r.list[i].Spec
	}
	return specs
}

// ForWorkspace returns what the workspace needs to know of the connectors to
// check and seal settings. URLs are checked with check.
func (r *Registry) ForWorkspace(check URLChecker) []workspace.Connector {
	var out []workspace.Connector
	for i := range r.list {
		c := &r.list[i]
		w := workspace.Connector{
			ID: c.Spec.ID, Slug: c.Spec.Slug, Name: c.Spec.Name, Secrets: c.Spec.Secrets(),
			Check: func(settings json.RawMessage) error { return c.CheckSettings(settings, check) },
			CheckAction: func(action string, settings json.RawMessage) error {
				a := c.Spec.Action(action)
				if a == nil {
					return fault.New(fault.Invalid, "there is no such action") // the workspace has looked before
				}
				return CheckSettings(a.Settings, settings, check)
			},
		}
		for _, a := range c.Spec.Actions {
			w.Actions = append(w.Actions, workspace.Action{ID: a.ID, Slug: a.Slug, Name: a.Name})
		}
		out = append(out, w)
	}
	return out
}
