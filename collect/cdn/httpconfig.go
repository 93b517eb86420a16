package cdn

import (
	"encoding/json"
	"maps"
)

// httpConfig is how SDKs are told to retry (sheet connections_protocols §1.6).
// Fields that were not given are left out and mean each SDK's own default. Whole
// numbers are whole: Kotlin forgets all of it over one that is not.
type httpConfig struct {
	RateLimit *rateLimitConfig `json:"rateLimitConfig,omitempty"`
	Backoff   *backoffConfig   `json:"backoffConfig,omitempty"`
}

// rateLimitConfig is about 429. Durations are in seconds.
type rateLimitConfig struct {
	Enabled              *bool  `json:"enabled"`
	MaxRetryCount        *int64 `json:"maxRetryCount,omitempty"`
	MaxRetryInterval     *int64 `json:"maxRetryInterval,omitempty"`
	MaxRateLimitDuration *int64 `json:"maxRateLimitDuration,omitempty"`
}

// backoffConfig is about the other failures. Durations are in seconds; what to
// do with a status is "retry" or "drop".
type backoffConfig struct {
	Enabled                 *bool             `json:"enabled"`
	MaxRetryCount           *int64            `json:"maxRetryCount,omitempty"`
	BaseBackoffInterval     *float64          `json:"baseBackoffInterval,omitempty"`
	MaxBackoffInterval      *int64            `json:"maxBackoffInterval,omitempty"`
	MaxTotalBackoffDuration *int64            `json:"maxTotalBackoffDuration,omitempty"`
	JitterPercent           *int64            `json:"jitterPercent,omitempty"`
	Default4xxBehavior      string            `json:"default4xxBehavior,omitempty"`
	Default5xxBehavior      string            `json:"default5xxBehavior,omitempty"`
	UnknownCodeBehavior     string            `json:"unknownCodeBehavior,omitempty"`
	StatusCodeOverrides     map[string]string `json:"statusCodeOverrides"`
}

// usualOverrides are the statuses that the SDKs treat unlike their kind, where
// nobody says otherwise: those of analytics.js, which has the most.
func usualOverrides() map[string]string {
	return map[string]string{
		"408": "retry", "410": "retry", "429": "retry", "460": "retry",
		"501": "drop", "505": "drop", "511": "drop",
	}
}

// completeHTTPConfig reads what a source declares and adds what the SDKs would
// each fill in differently: a map of statuses replaces the usual one in the
// mobile SDKs and is merged into it in the browser, so the whole map is
// published; and a section that is there is on, unless it says that it is off.
func completeHTTPConfig(declared json.RawMessage) (*httpConfig, error) {
	h := &httpConfig{}
	if err := json.Unmarshal(declared, h); err != nil {
		return nil, err
	}
	if h.RateLimit == nil && h.Backoff == nil {
		return nil, nil
	}
	on := true
	if r := h.RateLimit; r != nil && r.Enabled == nil {
		r.Enabled = &on
	}
	if b := h.Backoff; b != nil {
		if b.Enabled == nil {
			b.Enabled = &on
		}
		overrides := usualOverrides()
		maps.Copy(overrides, b.StatusCodeOverrides)
		b.StatusCodeOverrides = overrides
	}
	return h, nil
}
