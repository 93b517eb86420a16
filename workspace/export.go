package workspace

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Export writes a workspace as a file; see File. The same workspace gives the
// same text, and applying it to an empty server gives the same workspace but
// for ids and times. A secret is written as the variable ${SLUG_FIELD}: the
// destination's slug and the setting's path, in capitals.
func Export(s *Snapshot) []byte {
	x := exporter{s: s, secret: func(dest *Destination, path []string) *node {
		return textNode("${" + secretName(dest.Slug, path) + "}")
	}}
	return writeYAML(x.file())
}

// exporter turns a snapshot into the tree of its file.
type exporter struct {
	s *Snapshot
	// secret says how a sealed setting is written.
	secret func(dest *Destination, path []string) *node
}

func (x *exporter) file() *node {
	f := objectNode()
	f.set("name", textNode(x.s.Name))
	f.set("slug", textNode(x.s.Slug))
	lists := []struct {
		name string
		list []*node
		key  func(*node) string
	}{
		{listSpaces, nodes(x.s.Spaces, x.space), bySlug},
		{listSources, nodes(x.s.Sources, x.source), bySlug},
		{listDestinations, nodes(x.s.Destinations, x.destination), bySlug},
		{listPlans, nodes(x.s.TrackingPlans, x.plan), bySlug},
		{listAudiences, nodes(x.s.Audiences, x.audience), bySpaceAndKey},
	}
	for _, l := range lists {
		if len(l.list) == 0 {
			continue
		}
		slices.SortFunc(l.list, func(a, b *node) int { return strings.Compare(l.key(a), l.key(b)) })
		f.set(l.name, listNode(l.list))
	}
	return f
}

func nodes[T any](list []T, one func(*T) *node) []*node {
	var out []*node
	for i := range list {
		out = append(out, one(&list[i]))
	}
	return out
}

func bySlug(n *node) string { return n.get("slug").text }

func bySpaceAndKey(n *node) string { return n.get("space").text + "/" + n.get("key").text }

func (x *exporter) space(s *Space) *node {
	n := objectNode()
	n.set("slug", textNode(s.Slug))
	n.set("name", textNode(s.Name))
	n.setList("identifiers", nodes(s.Identifiers, func(r *IdentifierRule) *node {
		o := objectNode()
		o.set("type", textNode(r.Type))
		o.setText("collection", r.Collection)
		o.setNumber("limit", r.Limit)
		o.setText("window", r.Window)
		o.setNumber("priority", r.Priority)
		o.setList("keys", textNodes(r.Keys).list)
		o.setList("blocked", textNodes(r.Blocked).list)
		o.setList("blockedPatterns", textNodes(r.BlockedPatterns).list)
		o.setText("normalize", r.Normalize)
		if r.EmailProvider {
			o.set("emailProvider", flagNode(true))
		}
		o.setText("region", r.Region)
		o.setText("networkKey", r.NetworkKey)
		o.setText("validFor", r.ValidFor)
		return o
	}))
	if x := s.Suspicious; x != (Suspicious{}) {
		o := objectNode()
		o.setNumber("identifiers", x.Identifiers)
		o.setNumber("merges", x.Merges)
		o.setNumber("shared", x.Shared)
		o.setNumber("refused", x.Refused)
		n.set("suspicious", o)
	}
	if g := s.IdentityGuard; g != (IdentityGuard{}) {
		o := objectNode()
		o.setNumber("identifiers", g.Identifiers)
		o.setNumber("merges", g.Merges)
		n.set("identityGuard", o)
	}
	n.setText("retention", s.Retention)
	if s.SearchTraits != nil {
		n.set("searchTraits", textNodes(s.SearchTraits))
	}
	n.setList("filters", nodes(s.Filters, exportFilter))
	return n
}

func (x *exporter) source(s *Source) *node {
	n := objectNode()
	n.set("slug", textNode(s.Slug))
	n.set("name", textNode(s.Name))
	n.set("metadataId", textNode(s.MetadataID))
	n.set("enabled", flagNode(s.Enabled))
	if space := x.s.Space(s.SpaceID); space != nil {
		n.set("space", textNode(space.Slug))
	}
	n.setList("writeKeys", textNodes(s.WriteKeys).list)
	n.setDocument("settings", jsonNode(s.Settings))
	n.setList("labels", nodes(s.Labels, func(l *Label) *node {
		o := objectNode()
		o.set("key", textNode(l.Key))
		o.set("value", textNode(l.Value))
		o.setText("description", l.Description)
		return o
	}))
	if s.Schema != DefaultSchema() {
		schema := objectNode()
		t := objectNode()
		t.set("allowUnplannedEvents", flagNode(s.Schema.Track.AllowUnplannedEvents))
		t.set("allowUnplannedEventProperties", flagNode(s.Schema.Track.AllowUnplannedEventProperties))
		t.set("allowEventOnViolations", flagNode(s.Schema.Track.AllowEventOnViolations))
		t.set("allowPropertiesOnViolations", flagNode(s.Schema.Track.AllowPropertiesOnViolations))
		t.setText("commonEventOnViolations", s.Schema.Track.CommonEventOnViolations)
		schema.set("track", t)
		schema.set("identify", s.Schema.Identify.node())
		schema.set("group", s.Schema.Group.node())
		n.set("schema", schema)
	}
	n.setDocument("tracking", s.Tracking.node())
	return n
}

func (t *TraitsSettings) node() *node {
	n := objectNode()
	n.set("allowUnplannedTraits", flagNode(t.AllowUnplannedTraits))
	n.set("allowTraitsOnViolations", flagNode(t.AllowTraitsOnViolations))
	n.setText("commonEventOnViolations", t.CommonEventOnViolations)
	return n
}

func (x *exporter) destination(d *Destination) *node {
	n := objectNode()
	n.set("slug", textNode(d.Slug))
	n.set("name", textNode(d.Name))
	n.set("metadataId", textNode(d.MetadataID))
	n.set("enabled", flagNode(d.Enabled))
	if src := x.s.Source(d.SourceID); src != nil {
		n.set("source", textNode(src.Slug))
	}
	n.setDocument("settings", x.settings(d, nil, jsonNode(d.Settings)))
	n.setList("subscriptions", nodes(d.Subscriptions, func(s *Subscription) *node {
		o := objectNode()
		o.set("name", textNode(s.Name))
		action := s.ActionSlug
		if action == "" {
			action = s.ActionID
		}
		o.set("action", textNode(action))
		o.set("enabled", flagNode(s.Enabled))
		o.set("trigger", textNode(s.Trigger))
		o.setDocument("settings", jsonNode(s.Settings))
		return o
	}))
	return n
}

// settings returns a destination's settings with its secrets as secret writes
// them and all other texts escaped.
func (x *exporter) settings(d *Destination, path []string, n *node) *node {
	out := &node{kind: n.kind, text: n.text}
	if n.kind == isText {
		if strings.HasPrefix(n.text, SealedPrefix) {
			return x.secret(d, path)
		}
		out.text = escape(n.text)
	}
	for i, item := range n.list {
		out.list = append(out.list, x.settings(d, append(slices.Clone(path), decimal(i)), item))
	}
	for _, f := range n.fields {
		out.set(f.name, x.settings(d, append(slices.Clone(path), f.name), f.value))
	}
	return out
}

// secretName is the variable of a destination's secret: slug and field in
// capitals, words joined by underscores.
func secretName(slug string, path []string) string {
	var b strings.Builder
	for i, part := range append([]string{slug}, path...) {
		if i > 0 {
			b.WriteByte('_')
		}
		lower := false
		for _, r := range part {
			if lower && unicode.IsUpper(r) {
				b.WriteByte('_')
			}
			lower = unicode.IsLower(r)
			switch {
			case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
				b.WriteRune(unicode.ToUpper(r))
			default:
				b.WriteByte('_')
			}
		}
	}
	name := b.String()
	if unicode.IsDigit(rune(name[0])) {
		name = "_" + name
	}
	return name
}

func (x *exporter) plan(p *TrackingPlan) *node {
	n := objectNode()
	n.set("slug", textNode(p.Slug))
	n.set("name", textNode(p.Name))
	n.setText("description", p.Description)
	n.set("type", textNode(p.Type))
	var slugs []string
	for _, id := range p.SourceIDs {
		if src := x.s.Source(id); src != nil {
			slugs = append(slugs, src.Slug)
		}
	}
	slices.Sort(slugs)
	n.setList("sources", textNodes(slugs).list)
	n.setList("rules", nodes(p.Rules, func(r *Rule) *node {
		o := objectNode()
		o.set("type", textNode(r.Type))
		o.setText("key", r.Key)
		o.set("version", numberNode(r.Version))
		o.set("jsonSchema", jsonNode(r.JSONSchema))
		return o
	}))
	return n
}

func (x *exporter) audience(a *Audience) *node {
	n := objectNode()
	n.set("key", textNode(a.Key))
	space := ""
	if s := x.s.Space(a.SpaceID); s != nil {
		space = s.Slug
	}
	n.set("space", textNode(space))
	n.set("name", textNode(a.Name))
	n.setText("description", a.Description)
	n.set("enabled", flagNode(a.Enabled))
	definition := objectNode()
	definition.set("query", textNode(a.Query))
	n.set("definition", definition)
	options := objectNode()
	if !a.Options.includesHistory() {
		options.set("includeHistoricalData", flagNode(false))
	}
	options.setList("filterByExternalIds", textNodes(a.Options.FilterByExternalIDs).list)
	if a.Options.BackfillEventDataDays != nil {
		options.set("backfillEventDataDays", numberNode(*a.Options.BackfillEventDataDays))
	}
	n.setDocument("options", options)
	connections := nodes(a.Connections, x.connection)
	slices.SortFunc(connections, func(a, b *node) int {
		return strings.Compare(a.get("destination").text, b.get("destination").text)
	})
	n.setList("connections", connections)
	return n
}

func (x *exporter) connection(c *AudienceConnection) *node {
	n := objectNode()
	slug := ""
	if d := x.s.Destination(c.DestinationID); d != nil {
		slug = d.Slug
	}
	n.set("destination", textNode(slug))
	n.setDocument("connectionSettings", jsonNode(c.ConnectionSettings))
	n.setList("activations", nodes(c.Activations, func(a *Activation) *node {
		o := objectNode()
		o.set("activationName", textNode(a.Name))
		o.set("activationType", textNode(a.Type))
		o.set("enabled", flagNode(a.Enabled))
		o.setText("trigger", a.Trigger)
		if len(a.Traits) > 0 {
			var same []string
			mapping := objectNode()
			for _, trait := range slices.Sorted(maps.Keys(a.Traits)) {
				if a.Traits[trait] == trait {
					same = append(same, trait)
				} else {
					mapping.set(trait, textNode(a.Traits[trait]))
				}
			}
			profile, personalization := objectNode(), objectNode()
			profile.setList("properties", textNodes(same).list)
			profile.setDocument("mapping", mapping)
			personalization.set("profile", profile)
			o.set("personalization", personalization)
		}
		return o
	}))
	return n
}

// setText, setNumber, setList and setDocument leave out what is empty.
func (n *node) setText(name, text string) {
	if text != "" {
		n.set(name, textNode(text))
	}
}

func (n *node) setNumber(name string, v int) {
	if v != 0 {
		n.set(name, numberNode(v))
	}
}

func (n *node) setList(name string, list []*node) {
	if len(list) > 0 {
		n.set(name, listNode(list))
	}
}

func (n *node) setDocument(name string, doc *node) {
	if !doc.empty() {
		n.set(name, doc)
	}
}
