package workspace_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"kith/clock"
	"kith/fault"
	"kith/kv/memkv"
	"kith/workspace"
)

const tracked = `
sources:
  - slug: app
    tracking:
      filterBots: true
      requireToken: true
      httpConfig:
        rateLimitConfig: {enabled: true, maxRetryCount: 10, maxRetryInterval: 300, maxRateLimitDuration: 43200}
        backoffConfig:
          maxRetryCount: 100
          baseBackoffInterval: 0.5
          jitterPercent: 10
          default4xxBehavior: drop
          unknownCodeBehavior: drop
          statusCodeOverrides: {"429": retry, 460: retry}
`

func TestTrackingOfASource(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	one, err := apply(t, s, tracked, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	got := one.Sources[0].Tracking
	if !got.FilterBots || !got.RequireToken || !json.Valid(got.HTTPConfig) || !strings.Contains(string(got.HTTPConfig), `"460":"retry"`) {
		t.Errorf("%+v %s", got, got.HTTPConfig)
	}
	if again, err := apply(t, s, string(workspace.Export(one)), nil, false); err != nil || again != one {
		t.Errorf("the export says something else: %v\n%s", err, workspace.Export(one))
	}
	two, err := apply(t, s, strings.Replace(strings.Replace(tracked, "filterBots: true", "filterBots: false", 1), "maxRetryCount: 100", "maxRetryCount: 5", 1), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	changes := workspace.Diff(one, two)
	want := []string{"tracking.filterBots: - true", "tracking.httpConfig.backoffConfig.maxRetryCount: 100 → 5"}
	if len(changes) != 1 || changes[0].Name != "app" || !slices.Equal(changes[0].Fields, want) {
		t.Errorf("the difference: %v", changes)
	}
	three, err := apply(t, s, "sources: [{slug: app, tracking: {httpConfig: {}}}]", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := three.Sources[0].Tracking; got.FilterBots || got.RequireToken || got.HTTPConfig != nil {
		t.Errorf("nothing was asked for: %+v", got)
	}
	if strings.Contains(string(workspace.Export(three)), "tracking") {
		t.Error("the export speaks of what is as usual")
	}
}

func TestHTTPConfigIsChecked(t *testing.T) {
	for config, want := range map[string]string{
		`{}`: "", `{"rateLimitConfig":{}}`: "", `{"backoffConfig":{"enabled":false}}`: "",
		`{"backoffConfig":{"baseBackoffInterval":0.5,"jitterPercent":0,"statusCodeOverrides":{}}}`: "",
		`{"backoffConfig":{"maxRetryCount":1.5}}`:                                                  "backoffConfig.maxRetryCount: want a whole number, not 1.5",
		`{"backoffConfig":{"maxRetryCount":1e2}}`:                                                  "backoffConfig.maxRetryCount: want a whole number, not 1e2",
		`{"backoffConfig":{"maxRetryCount":"5"}}`:                                                  "backoffConfig.maxRetryCount: want a number, not a text",
		`{"backoffConfig":{"maxRetryCount":-1}}`:                                                   "backoffConfig.maxRetryCount: -1 is not between",
		`{"backoffConfig":{"jitterPercent":101}}`:                                                  "backoffConfig.jitterPercent: 101 is not between",
		`{"backoffConfig":{"baseBackoffInterval":0}}`:                                              "backoffConfig.baseBackoffInterval: 0 is not between",
		`{"backoffConfig":{"enabled":"yes"}}`:                                                      "backoffConfig.enabled: want true or false, not a text",
		`{"backoffConfig":{"default4xxBehavior":"ignore"}}`:                                        `backoffConfig.default4xxBehavior: want "retry" or "drop"`,
		`{"backoffConfig":{"statusCodeOverrides":{"200":"drop"}}}`:                                 `backoffConfig.statusCodeOverrides.200: "200" is not a status of a failure`,
		`{"backoffConfig":{"statusCodeOverrides":{"5xx":"drop"}}}`:                                 `"5xx" is not a status`,
		`{"backoffConfig":{"statusCodeOverrides":{"429":true}}}`:                                   `statusCodeOverrides.429: want "retry" or "drop"`,
		`{"backoffConfig":{"statusCodeOverrides":["429"]}}`:                                        "statusCodeOverrides: want an object, not a list",
		`{"backoffConfig":{"retries":5}}`:                                                          `there is no field "retries" here; there are: baseBackoffInterval, `,
		`{"backoffConfig":null}`:                                                                   "backoffConfig: want an object, not nothing",
		`{"rateLimitConfig":{"maxRetryInterval":0}}`:                                               "rateLimitConfig.maxRetryInterval: 0 is not between 1",
		`{"rateLimitConfig":{"jitterPercent":1}}`:                                                  `there is no field "jitterPercent" here`,
		`{"retryConfig":{}}`:                                                                       "retryConfig: there is no such section",
		`[]`:                                                                                       "must be a JSON object",
		`{"x":"` + strings.Repeat("x", 17<<10) + `"}`:                                              "bytes of JSON; at most",
		`{"backoffConfig":{"maxTotalBackoffDuration":99999999999999999999}}`:                       "maxTotalBackoffDuration: 99999999999999999999 is not between",
	} {
		s := open(t, memkv.New(), options(clock.NewManual(start), 1))
		_, err := s.Update(t.Context(), func(d *workspace.Draft) error {
			d.Sources = append(d.Sources, workspace.Source{
				ID: d.NewSourceID(), Slug: "app", Name: "App", MetadataID: "swift", SpaceID: d.Space(workspace.DefaultSpace).ID,
				Tracking: workspace.Tracking{HTTPConfig: json.RawMessage(config)},
			})
			return nil
		})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", config, err)
		case want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "sources.app.tracking.httpConfig") || !strings.Contains(err.Error(), want)):
			t.Errorf("%.80s: %v; want %q", config, err, want)
		}
	}
	if _, err := workspace.ParseFile([]byte("sources: [{slug: app, tracking: {filterBot: true}}]")); err == nil || !strings.Contains(err.Error(), "filterBots") {
		t.Errorf("a name that does not exist: %v", err)
	}
}
