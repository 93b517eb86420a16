package collect

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Rejections takes what was not kept.
type Rejections interface {
	// Reject must not wait: it drops what it cannot take.
	Reject(Rejection)
}

// Rejection is one or more events that were not kept, and why; or a Warning.
type Rejection struct {
	At        time.Time
	SourceID  string // empty when the write key is unknown or none was found
	WriteKey  string // the beginning of the key; the rest is masked
	Code      string
	Message   string // what is wrong, where, and how to mend it
	Field     string // where in the event, as a path; may be empty
	Type      string // the call, where it is known
	MessageID string
	Count     int    // how many events it stands for; more than one when a whole batch was refused
	Sample    []byte // the event as sent, or its beginning; the receiver's to keep
	Warning   bool   // nothing was lost by it: the events were kept, or have rejections of their own
	Truncated bool   // Sample is only the beginning
}

// The discard codes of sheet connections_protocols §2.8, and of Segment's
// delivery overview where the sheet has none.
const (
	CodeSourceDisabled   = "source_disabled"
	CodeProjectNotFound  = "project_not_found" // the write key is unknown or missing
	CodeEmptyBatch       = "empty_batch"
	CodeEmptyResult      = "empty_batch_result" // a warning: no event of a batch was kept
	CodeMultiUserError   = "multi_user_error"   // a warning: not all events of a batch were kept
	CodeNoUserAnonID     = "no_user_anon_id"
	CodeIDRequired       = "id_required" // group without groupId, alias without previousId or userId
	CodeIDNotString      = "id_not_string"
	CodeEventNotDefined  = "event_not_defined"
	CodeEventNotString   = "event_not_string"
	CodePropertiesNotObj = "properties_not_object"
	CodeTraitsNotObject  = "traits_not_object"
	CodeNameNotString    = "name_not_string"
	CodeCategoryNotStr   = "category_not_string"

	// Of the event "Segment Consent Preference Updated" only.
	CodeConsentMissing     = "consent_categorypreferences_should_exist"
	CodeConsentNotObject   = "consent_categorypreferences_fields_should_be_object"
	CodeConsentNotBool     = "consent_categorypreferences_fields_should_be_bool"
	CodeConsentVersion     = "consent_version_should_be_number"
	CodeConsentAdvertising = "device_advertisingid_should_be_string"
)

// Kith's own codes, for what Segment refuses without a name or cannot meet.
const (
	CodeInvalidJSON        = "invalid_json"      // 400
	CodeInvalidGzip        = "invalid_gzip"      // 400
	CodeInvalidToken       = "invalid_token"     // 401: the access token is wrong, expired, revoked or for something else
	CodeTokenRequired      = "token_required"    // 401: the source takes no events without one
	CodeBot                = "bot_user_agent"    // of a source that wants no bots
	CodeInvalidObject      = "invalid_object"    // 400: of the Objects API
	CodeInvalidQuery       = "invalid_query"     // of a pixel
	CodeTooManyRequests    = "too_many_requests" // a pixel while a queue is full
	CodeUnavailable        = "unavailable"       // a pixel while nothing can be written
	CodeBodyTooLarge       = "body_too_large"    // 400
	CodeEventTooLarge      = "event_too_large"   // 400 for a single call
	CodeBatchTooLarge      = "batch_too_large"   // more events than a batch may have
	CodeEventNotObject     = "event_not_object"  // a batch item that is no object
	CodeUnknownType        = "unknown_type"
	CodeMessageIDTooLong   = "message_id_too_long"
	CodeMessageIDNotString = "message_id_not_string"
	CodeContextNotObject   = "context_not_object"
	CodeIntegrationsNotObj = "integrations_not_object"
	CodeTimeUnreadable     = "timestamp_unreadable" // a warning
	CodePropertiesDropped  = "properties_dropped"   // a warning: an event has more than 10,000
)

// refusal is why one event is not kept.
type refusal struct {
	code, message, field string
}

// reject tells of n events that were not kept, or of a warning. raw is one of them as sent.
func (c *Collector) reject(x Rejection, r refusal, n int, raw string) {
	if x.Warning {
		c.metrics.warned.WithLabelValues(r.code).Add(float64(n))
	} else {
		c.metrics.rejected.WithLabelValues(r.code).Add(float64(n))
	}
	if c.config.Rejections == nil {
		return
	}
	x.Code, x.Message, x.Field, x.Count = r.code, r.message, r.field, n
	sample := head(raw, c.limits.SampleBytes)
	x.Sample, x.Truncated = []byte(sample), len(sample) < len(raw)
	c.config.Rejections.Reject(x)
}

// head returns at most n bytes of s, whole characters.
func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// mask shows enough of a write key to recognise it.
func mask(key string) string {
	switch {
	case key == "":
		return ""
	case len(key) < 12:
		return "…"
	}
	return strings.ToValidUTF8(key[:4], "") + "…"
}
