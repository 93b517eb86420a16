package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"kith/destination"
	"kith/fault"
)

// The headers that the webhook sets itself.
const (
	SignatureHeader = "X-Signature"
	ResentHeader    = "X-Kith-Resent"
)

// What batching gathers when the setting is there and does not say.
const (
	defaultSize  = 100
	defaultAgeMs = 100
	defaultBytes = 1 << 20
)

// settings are a webhook's, as JSON.
type settings struct {
	URL          string            `json:"url"`
	Headers      map[string]string `json:"headers"`
	SharedSecret string            `json:"sharedSecret"`
	Batch        *batch            `json:"batch"`
}

type batch struct {
	Size     *int `json:"size"`
	MaxAgeMs *int `json:"maxAgeMs"`
	MaxBytes *int `json:"maxBytes"`
}

// Connector returns the webhook.
func Connector() destination.Connector {
	return destination.Connector{Spec: spec(), Check: check, Open: open}
}

func spec() destination.Spec {
	return destination.Spec{
		ID: "webhook", Slug: "webhook", Name: "Webhook",
		Description:  "Sends events to a URL as they are: a JSON object a request, or arrays of them.",
		Integrations: []string{"Webhook", "Webhooks", "webhook"},
		Settings: []destination.Field{
			{Name: "url", Label: "URL", Type: destination.URL, Required: true,
				Help: "where events are sent, for example https://example.com/hook"},
			{Name: "headers", Label: "Headers", Type: destination.Texts, Secret: true,
				Help: "HTTP headers to send along, by name; their values are kept and shown as secrets"},
			{Name: "sharedSecret", Label: "Shared secret", Type: destination.String, Secret: true,
				Help: "with it the header X-Signature is the hex HMAC-SHA1 of the body"},
			{Name: "batch", Label: "Batching", Type: destination.Object,
				Help: "sends arrays of events; without it every request holds one event",
				Fields: []destination.Field{
					{Name: "size", Label: "Events", Type: destination.Integer, Min: 1, Max: 5000, Default: json.RawMessage("100"),
						Help: "most events of a request"},
					{Name: "maxAgeMs", Label: "Age", Type: destination.Integer, Min: 0, Max: 60_000, Default: json.RawMessage("100"),
						Help: "how many milliseconds an event waits for others"},
					{Name: "maxBytes", Label: "Bytes", Type: destination.Integer, Min: 1 << 10, Max: 16 << 20, Default: json.RawMessage("1048576"),
						Help: "most bytes of events in a request; a larger event goes alone"},
				}},
		},
		Actions: []destination.Action{{ID: "send", Slug: "send", Name: "Send",
			Description:    "Sends the event as it is.",
			DefaultTrigger: `type = "track" or type = "identify" or type = "page" or type = "screen" or type = "group" or type = "alias"`}},
		Limits: destination.Limits{Concurrency: 16, Timeout: 10 * time.Second},
	}
}

// reserved headers are set by the webhook or by HTTP itself.
var reserved = []string{"Content-Type", "Content-Length", "Content-Encoding", "Host", "Connection", "Keep-Alive", "Transfer-Encoding",
	"Te", "Trailer", "Upgrade", "Expect", SignatureHeader, ResentHeader}

// check checks what the Spec cannot say: names and values of headers.
func check(raw json.RawMessage) error {
	s, err := parse(raw)
	if err != nil {
		return err
	}
	var wrong []error
	for name, value := range s.Headers {
		switch {
		case !isToken(name):
			wrong = append(wrong, fault.Field("headers", "%.40q is no header name", name))
		case slices.Contains(reserved, textproto.CanonicalMIMEHeaderKey(name)):
			wrong = append(wrong, fault.Field("headers."+name, "this header is set by Kith"))
		case !isHeaderValue(value):
			wrong = append(wrong, fault.Field("headers."+name, "a header holds no control characters"))
		}
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(wrong...)
}

func parse(raw json.RawMessage) (settings, error) {
	var s settings
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fault.New(fault.Invalid, "settings of the webhook are not as they should be") // err may quote a value
	}
	return s, nil
}

// isToken reports whether a header may have this name (RFC 9110, 5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c >= 0x7f || c <= ' ' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

func isHeaderValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// header returns the headers that every request carries.
func (s *settings) header() http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"Kith"}}
	for name, value := range s.Headers {
		h.Set(name, value)
	}
	return h
}

func (b *batch) batching() destination.Batching {
	or := func(v *int, otherwise int) int {
		if v == nil {
			return otherwise
		}
		return *v
	}
	return destination.Batching{
		Size:   max(1, or(b.Size, defaultSize)),
		Bytes:  or(b.MaxBytes, defaultBytes),
		MaxAge: time.Duration(or(b.MaxAgeMs, defaultAgeMs)) * time.Millisecond,
		Whole:  true,
	}
}
