package cdn

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"kith/workspace"
)

// worthPacking is the size from which a document is compressed.
const worthPacking = 1 << 10

// settings finds the settings document of a request's source.
func (c *CDN) settings(r *http.Request) (*file, *refusal) {
	snapshot, source, key, no := c.sourceOf(r)
	if no != nil {
		return nil, no
	}
	base := c.Base(r)
	if base == "" {
		return nil, noHost()
	}
	name := key + " " + base
	if f := c.documents.get(snapshot.Number, name); f != nil {
		return f, nil
	}
	text, err := c.document(snapshot, source, key, base)
	if err != nil { // our own types do not marshal
		c.logger.Error("the settings of a source cannot be written", "source", source.ID, "error", err)
		return nil, &refusal{http.StatusInternalServerError, "the settings cannot be written; the server's log says why"}
	}
	var zipped []byte
	if len(text) >= worthPacking {
		zipped = pack(text)
	}
	f := newFile(typeJSON, c.shared(keepShortly), text, zipped)
	c.documents.put(snapshot.Number, name, f)
	return f, nil
}

// settingsDocument is what every SDK's parser accepts, and no more (sheet
// connections_protocols §1.10). Nothing in it is ever null, which breaks
// Kotlin's; consentSettings is left out, since an empty one blocks every upload
// where a consent plugin is installed.
type settingsDocument struct {
	// Integrations has one key: analytics.js takes a second one for a
	// destination that it must load code for.
	Integrations struct {
		Segment segmentSettings `json:"Segment.io"`
	} `json:"integrations"`
	Plan               planSettings    `json:"plan"`
	EdgeFunction       struct{}        `json:"edgeFunction"`
	MiddlewareSettings struct{}        `json:"middlewareSettings"`
	EnabledMiddleware  struct{}        `json:"enabledMiddleware"`
	Metrics            metricsSettings `json:"metrics"`
	LegacyVideoPlugins bool            `json:"legacyVideoPluginsEnabled"`
	RemotePlugins      []struct{}      `json:"remotePlugins"`
}

// segmentSettings say where and how events are sent.
type segmentSettings struct {
	APIKey   string `json:"apiKey"`             // Kotlin reads nothing without it
	APIHost  string `json:"apiHost"`            // without scheme, with /v1
	Protocol string `json:"protocol,omitempty"` // read by analytics.js alone; empty is https
	// UnbundledIntegrations are the destinations that the server delivers to:
	// all of them. They come back in an event's _metadata.
	UnbundledIntegrations []string        `json:"unbundledIntegrations"`
	AddBundledMetadata    bool            `json:"addBundledMetadata"`
	MaybeBundledConfigIDs struct{}        `json:"maybeBundledConfigIds"`
	VersionSettings       versionSettings `json:"versionSettings"`
	HTTPConfig            *httpConfig     `json:"httpConfig,omitempty"`
}

// versionSettings are those of a component that runs in browsers.
type versionSettings struct {
	Version        string   `json:"version"`
	ComponentTypes []string `json:"componentTypes"`
}

type metricsSettings struct {
	SampleRate int `json:"sampleRate"` // 0: SDKs report nothing about themselves
}

// planSettings tell the SDKs which events may go to destinations on the device;
// whatever they say, the event itself comes here. Traits are never blocked there
// (Segment's documentation on schema configuration).
type planSettings struct {
	Track    map[string]planEvent `json:"track"`
	Identify map[string]planEntry `json:"identify"`
	Group    map[string]planEntry `json:"group"`
}

type planEvent struct {
	Enabled      bool     `json:"enabled"`
	Integrations struct{} `json:"integrations"`
}

type planEntry struct {
	Enabled bool `json:"enabled"`
}

// planDefault names what holds for everything that is not listed.
const planDefault = "__default"

// document writes the settings of a source.
func (c *CDN) document(snapshot *workspace.Snapshot, source *workspace.Source, key, base string) ([]byte, error) {
	scheme, host, _ := strings.Cut(base, "://")
	d := settingsDocument{Plan: planOf(snapshot, source), RemotePlugins: []struct{}{}}
	d.Integrations.Segment = segmentSettings{
		APIKey: key, APIHost: host + "/v1",
		UnbundledIntegrations: c.unbundled(snapshot, source), AddBundledMetadata: true,
		VersionSettings: versionSettings{Version: "4.4.7", ComponentTypes: []string{"browser"}},
	}
	s := &d.Integrations.Segment
	if scheme == "http" {
		s.Protocol = scheme
	}
	if len(source.Tracking.HTTPConfig) > 0 {
		var err error
		if s.HTTPConfig, err = completeHTTPConfig(source.Tracking.HTTPConfig); err != nil {
			// It was checked when it was declared: another version's, perhaps.
			c.logger.Warn("a source's httpConfig is not published", "source", source.ID, "error", err)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(&d); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unbundled returns the names of the enabled destinations of a source.
func (c *CDN) unbundled(snapshot *workspace.Snapshot, source *workspace.Source) []string {
	names := []string{}
	for i := range snapshot.Destinations {
		d := &snapshot.Destinations[i]
		if d.SourceID != source.ID || !d.Enabled {
			continue
		}
		name := ""
		if c.config.Integration != nil {
			name = c.config.Integration(d.MetadataID)
		}
		if name == "" {
			name = d.MetadataID
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// planOf returns what a source's tracking plan says about events on the device.
// Events that are not in the plan are blocked there when the source's settings
// block them; everything else a plan can do is done here. Planned events are
// listed only where they differ from the default.
func planOf(snapshot *workspace.Snapshot, source *workspace.Source) planSettings {
	p := planSettings{
		Track:    map[string]planEvent{planDefault: {Enabled: true}},
		Identify: map[string]planEntry{planDefault: {Enabled: true}},
		Group:    map[string]planEntry{planDefault: {Enabled: true}},
	}
	plan := snapshot.PlanOf(source.ID)
	if plan == nil || source.Schema.Track.AllowUnplannedEvents {
		return p
	}
	p.Track[planDefault] = planEvent{Enabled: false}
	for _, rule := range plan.Rules {
		if rule.Type == "TRACK" && rule.Key != "" && rule.Key != planDefault {
			p.Track[rule.Key] = planEvent{Enabled: true}
		}
	}
	return p
}
