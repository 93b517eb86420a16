package workspace

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// File is a workspace written down: one YAML document with one list for each
// kind of resource. Names of fields are the API's; a resource refers to
// another by slug (an audience is named by its space and key), never by id.
//
//	name: Grand Hotels
//	slug: grand-hotels
//	spaces:
//	  - slug: default
//	    name: Default
//	    identifiers: [{type: user_id, limit: 1, priority: 1}]
//	    filters: [{name: No heartbeats, if: "event = 'Heartbeat'"}]
//	sources:
//	  - slug: booking-engine
//	    name: Booking engine         # the slug when missing
//	    metadataId: http-api         # any slug; "http-api" when missing
//	    enabled: true                # true when missing, here and below
//	    space: default               # "default" when missing
//	    writeKeys: [demo-key]        # one is made when missing
//	    settings: {}
//	    labels: [{key: env, value: prod}]
//	    schema: {track: {allowUnplannedEvents: false, commonEventOnViolations: BLOCK}}
//	    tracking: {filterBots: true, requireToken: false, httpConfig: {backoffConfig: {maxRetryCount: 5}}}
//	destinations:
//	  - slug: crm
//	    metadataId: webhook
//	    source: booking-engine       # may be missing
//	    settings: {url: "https://example.com/hook", sharedSecret: "${CRM_SHARED_SECRET}"}
//	    subscriptions:
//	      - {name: Bookings, action: send, trigger: 'event = "Booking Completed"', settings: {}}
//	trackingPlans:
//	  - slug: bookings
//	    name: Bookings
//	    type: LIVE
//	    rules: [{type: TRACK, key: Booking Completed, version: 1, jsonSchema: {}}]
//	    sources: [booking-engine]
//	audiences:
//	  - key: recent_bookers          # the snake_case of the name when missing
//	    space: default
//	    name: Recent bookers
//	    definition: {query: "event('Booking Completed').count() >= 1"}
//	    options: {includeHistoricalData: false, filterByExternalIds: [user_id]}
//	    connections:
//	      - destination: crm
//	        activations: [{activationName: In, activationType: Audience Entered}]
//
// What is listed becomes exactly what the file says: a field that is missing
// takes its default, except that write keys stay. What is not listed stays as
// it is, unless it is pruned. ${NAME} in a text of a destination's settings is
// replaced by the variable of that name, and the text is then a secret whatever
// setting it is: sealed, and never shown. $${NAME} is the text ${NAME}.
type File struct {
	name, slug    *string
	spaces        []fileSpace
	sources       []fileSource
	destinations  []fileDestination
	trackingPlans []filePlan
	audiences     []fileAudience
	// listed tells which lists are in the file, an empty one too.
	listed map[string]bool
}

type fileSpace struct {
	Space
	at place
}

type fileSource struct {
	Source
	space string
	at    place
}

type fileDestination struct {
	Destination
	source   string
	settings *node
	at       place
}

type filePlan struct {
	TrackingPlan
	sources []string
	at      place
}

type fileAudience struct {
	Audience
	space       string
	connections []fileConnection
	at          place
}

type fileConnection struct {
	AudienceConnection
	destination string
	at          place
}

// place is where something stands in a file.
type place struct {
	path string
	line int
}

// The lists of a file.
const (
	listSpaces       = "spaces"
	listSources      = "sources"
	listDestinations = "destinations"
	listPlans        = "trackingPlans"
	listAudiences    = "audiences"
)

// defaultMetadata is the kind of a source whose file or call names none.
const defaultMetadata = "http-api"

// DefaultSchema is what a source's settings are until somebody changes them:
// nothing is refused.
func DefaultSchema() SchemaSettings {
	traits := TraitsSettings{AllowUnplannedTraits: true, AllowTraitsOnViolations: true, CommonEventOnViolations: Allow}
	return SchemaSettings{
		Track: TrackSettings{
			AllowUnplannedEvents: true, AllowUnplannedEventProperties: true,
			AllowEventOnViolations: true, AllowPropertiesOnViolations: true, CommonEventOnViolations: Allow,
		},
		Identify: traits, Group: traits,
	}
}

// ParseFile reads a workspace file. What is wrong with its form comes back as
// fault.Invalid errors, joined, each with its path and line; see Problems.
func ParseFile(text []byte) (*File, error) {
	root, err := readYAML(text)
	if err != nil {
		return nil, err
	}
	p := &problems{}
	o := &object{p: p, n: root, used: map[string]bool{}}
	f := &File{listed: map[string]bool{}}
	if n := o.field("name", isText); n != nil {
		f.name = &n.text
	}
	if n := o.field("slug", isText); n != nil {
		f.slug = &n.text
	}
	f.listed[listSpaces] = o.each(listSpaces, f.readSpace)
	f.listed[listSources] = o.each(listSources, f.readSource)
	f.listed[listDestinations] = o.each(listDestinations, f.readDestination)
	f.listed[listPlans] = o.each(listPlans, f.readPlan)
	f.listed[listAudiences] = o.each(listAudiences, f.readAudience)
	o.done()
	if err := p.err(); err != nil {
		return nil, err
	}
	return f, nil
}

func (o *object) place() place { return place{path: o.path, line: o.n.line} }

func (f *File) readSpace(o *object) {
	s := fileSpace{at: o.place()}
	s.Slug = o.must("slug")
	s.Name = o.textOr("name", s.Slug)
	o.each("identifiers", func(o *object) {
		s.Identifiers = append(s.Identifiers, IdentifierRule{
			Type: o.must("type"), Collection: o.textOr("collection", ""), Limit: o.numberOr("limit", 0),
			Window: o.textOr("window", ""), Priority: o.numberOr("priority", 0), Keys: o.texts("keys"),
			Blocked: o.texts("blocked"), BlockedPatterns: o.texts("blockedPatterns"),
			Normalize: o.textOr("normalize", ""), EmailProvider: o.flagOr("emailProvider", false), Region: o.textOr("region", ""),
			NetworkKey: o.textOr("networkKey", ""), ValidFor: o.textOr("validFor", ""),
		})
	})
	o.within("identityGuard", func(o *object) {
		s.IdentityGuard = IdentityGuard{Identifiers: o.numberOr("identifiers", 0), Merges: o.numberOr("merges", 0)}
	})
	s.Retention = o.textOr("retention", "")
	o.within("suspicious", func(o *object) {
		s.Suspicious = Suspicious{
			Identifiers: o.numberOr("identifiers", 0), Merges: o.numberOr("merges", 0), Shared: o.numberOr("shared", 0), Refused: o.numberOr("refused", 0),
		}
	})
	if s.SearchTraits = o.texts("searchTraits"); s.SearchTraits == nil && o.field("searchTraits", isList) != nil {
		s.SearchTraits = []string{} // an empty list is none, a missing one the default
	}
	o.each("filters", func(o *object) { s.Filters = append(s.Filters, readFilter(o)) })
	f.spaces = append(f.spaces, s)
}

func (f *File) readSource(o *object) {
	s := fileSource{at: o.place()}
	s.Slug = o.must("slug")
	s.Name = o.textOr("name", s.Slug)
	s.MetadataID = o.textOr("metadataId", defaultMetadata)
	s.Enabled = o.flagOr("enabled", true)
	s.space = o.textOr("space", DefaultSpace)
	s.WriteKeys = o.texts("writeKeys")
	s.Settings = o.raw("settings")
	o.each("labels", func(o *object) {
		s.Labels = append(s.Labels, Label{Key: o.must("key"), Value: o.must("value"), Description: o.textOr("description", "")})
	})
	s.Schema = DefaultSchema()
	o.within("schema", func(o *object) {
		o.within("track", func(o *object) {
			t := &s.Schema.Track
			t.AllowUnplannedEvents = o.flagOr("allowUnplannedEvents", true)
			t.AllowUnplannedEventProperties = o.flagOr("allowUnplannedEventProperties", true)
			t.AllowEventOnViolations = o.flagOr("allowEventOnViolations", true)
			t.AllowPropertiesOnViolations = o.flagOr("allowPropertiesOnViolations", true)
			t.CommonEventOnViolations = o.textOr("commonEventOnViolations", Allow)
		})
		o.within("identify", s.Schema.Identify.read)
		o.within("group", s.Schema.Group.read)
	})
	o.within("tracking", s.Tracking.read)
	f.sources = append(f.sources, s)
}

func (t *TraitsSettings) read(o *object) {
	t.AllowUnplannedTraits = o.flagOr("allowUnplannedTraits", true)
	t.AllowTraitsOnViolations = o.flagOr("allowTraitsOnViolations", true)
	t.CommonEventOnViolations = o.textOr("commonEventOnViolations", Allow)
}

func (f *File) readDestination(o *object) {
	d := fileDestination{at: o.place()}
	d.Slug = o.must("slug")
	d.Name = o.textOr("name", d.Slug)
	d.MetadataID = o.must("metadataId")
	d.Enabled = o.flagOr("enabled", true)
	d.source = o.textOr("source", "")
	if d.settings = o.field("settings", isObject); d.settings == nil {
		d.settings = objectNode()
	}
	o.each("subscriptions", func(o *object) {
		s := Subscription{
			ActionID: o.textOr("action", ""), Name: o.textOr("name", ""),
			Enabled: o.flagOr("enabled", true), Trigger: o.must("trigger"), Settings: o.raw("settings"),
		}
		if s.Name == "" {
			s.Name = s.Trigger
		}
		d.Subscriptions = append(d.Subscriptions, s)
	})
	f.destinations = append(f.destinations, d)
}

func (f *File) readPlan(o *object) {
	t := filePlan{at: o.place()}
	t.Slug = o.must("slug")
	t.Name = o.textOr("name", t.Slug)
	t.Description = o.textOr("description", "")
	t.Type = o.textOr("type", PlanLive)
	t.sources = o.texts("sources")
	o.each("rules", func(o *object) {
		r := Rule{Type: o.must("type"), Key: o.textOr("key", ""), Version: o.numberOr("version", 1), JSONSchema: o.raw("jsonSchema")}
		if r.JSONSchema == nil {
			r.JSONSchema = json.RawMessage("{}")
		}
		t.Rules = append(t.Rules, r)
	})
	f.trackingPlans = append(f.trackingPlans, t)
}

func (f *File) readAudience(o *object) {
	a := fileAudience{at: o.place()}
	a.space = o.textOr("space", DefaultSpace)
	a.Name = o.must("name")
	a.Key = o.textOr("key", AudienceKey(a.Name))
	a.Description = o.textOr("description", "")
	a.Enabled = o.flagOr("enabled", true)
	o.within("definition", func(o *object) { a.Query = o.must("query") })
	o.within("options", func(o *object) {
		if n := o.field("includeHistoricalData", isFlag); n != nil && n.text == "false" {
			no := false
			a.Options.IncludeHistoricalData = &no
		}
		a.Options.FilterByExternalIDs = o.texts("filterByExternalIds")
		if o.field("backfillEventDataDays", isNumber) != nil {
			n := o.numberOr("backfillEventDataDays", 0)
			a.Options.BackfillEventDataDays = &n
		}
	})
	o.each("connections", func(o *object) {
		c := fileConnection{at: o.place(), destination: o.must("destination")}
		c.ConnectionSettings = o.raw("connectionSettings")
		o.each("activations", func(o *object) { c.Activations = append(c.Activations, readActivation(o)) })
		a.connections = append(a.connections, c)
	})
	f.audiences = append(f.audiences, a)
}

func readActivation(o *object) Activation {
	a := Activation{
		Type: o.must("activationType"), Enabled: o.flagOr("enabled", true), Trigger: o.textOr("trigger", ""),
	}
	a.Name = o.textOr("activationName", a.Type)
	o.within("personalization", func(o *object) {
		o.within("profile", func(o *object) {
			properties := o.texts("properties")
			mapping := map[string]string{}
			if n := o.field("mapping", isObject); n != nil {
				for _, f := range n.fields {
					if f.value.kind != isText {
						o.bad("mapping."+f.name, f.value, "want a text, not %s", kindNames[f.value.kind])
					}
					mapping[f.name] = f.value.text
				}
			}
			a.Traits = TraitNames(properties, mapping)
		})
	})
	return a
}

// TraitNames returns what an activation's personalization asks for: the traits
// to send along, with the name each is sent under. A trait that is mapped need
// not be listed.
func TraitNames(properties []string, mapping map[string]string) map[string]string {
	if len(properties)+len(mapping) == 0 {
		return nil
	}
	traits := make(map[string]string, len(properties)+len(mapping))
	for _, t := range properties {
		traits[t] = t
	}
	for t, name := range mapping {
		traits[t] = name
	}
	return traits
}

// variable is a reference to a variable, or with more than one dollar the text
// that looks like one.
var variable = regexp.MustCompile(`\$+\{[A-Za-z_][A-Za-z0-9_]*\}`)

// Variables returns the names of the variables that the file needs, sorted.
func (f *File) Variables() []string {
	var names []string
	var walk func(n *node)
	walk = func(n *node) {
		for _, m := range variable.FindAllString(n.text, -1) {
			if name, ok := variableName(m); ok && n.kind == isText {
				names = append(names, name)
			}
		}
		for _, item := range n.list {
			walk(item)
		}
		for _, f := range n.fields {
			walk(f.value)
		}
	}
	for i := range f.destinations {
		walk(f.destinations[i].settings)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func variableName(match string) (name string, ok bool) {
	if strings.HasPrefix(match, "$$") {
		return "", false
	}
	return match[2 : len(match)-1], true
}

// expand returns the settings as JSON with their variables replaced; texts that
// had some are marked as confidential.
func expand(settings *node, at place, lookup func(string) (string, bool)) (json.RawMessage, error) {
	var missing error
	return settings.json(func(n *node) (string, error) {
		mark := ""
		text := variable.ReplaceAllStringFunc(n.text, func(m string) string {
			name, ok := variableName(m)
			if !ok {
				return m[1:]
			}
			mark = confidential
			value, ok := lookup(name)
			if !ok && missing == nil {
				line := n.line
				if line == 0 {
					line = at.line
				}
				missing = lineError(at.path+".settings", line, "the variable %s is not set; set it in the environment of the command", name)
			}
			return value
		})
		return mark + text, missing
	})
}

// escape writes a text so that expand gives it back.
func escape(text string) string {
	return variable.ReplaceAllStringFunc(text, func(m string) string { return "$" + m })
}
