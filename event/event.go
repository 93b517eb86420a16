package event

import (
	"time"

	"github.com/tidwall/gjson"

	"kith/fault"
)

// Type is one of the six calls of Segment's spec.
type Type uint8

// The calls. The zero value is no call: a record that carries no event.
const (
	None Type = iota
	Track
	Identify
	Page
	Screen
	Group
	Alias
)

var typeNames = [...]string{"", "track", "identify", "page", "screen", "group", "alias"}

// String returns the call's name as it stands in an event's "type".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// ParseType returns the call of that name, or None.
func ParseType(s string) Type {
	for t, name := range typeNames {
		if name == s && t > 0 {
			return Type(t)
		}
	}
	return None
}

// The names under which page and screen calls are counted, validated and shown
// as events (sheet connections_protocols §2.2).
const (
	PageViewed   = "Page Viewed"
	ScreenViewed = "Screen Viewed"
)

// Event is one call, as accepted. Strings and raw documents point into Body
// and must not be changed. Missing documents are empty.
type Event struct {
	Body []byte // the whole event, as one JSON object in Segment's shape

	Type        Type
	MessageID   string
	UserID      string
	AnonymousID string
	PreviousID  string // alias
	GroupID     string // group
	Event       string // track: the event's name
	Name        string // page and screen
	Category    string // page and screen
	Timestamp   time.Time
	ReceivedAt  time.Time

	Properties   string // raw JSON object
	Traits       string // raw JSON object
	Context      string // raw JSON object
	Integrations string // raw JSON object
}

// Label returns the name under which the event is counted: a track call's
// event, "Page Viewed", "Screen Viewed", and nothing for the other calls.
func (e *Event) Label() string { return Label(e.Type, e.Event) }

// Label returns the name under which a call of type t with that event name is
// counted and shown; see Event.Label.
func Label(t Type, name string) string {
	switch t {
	case Track:
		return name
	case Page:
		return PageViewed
	case Screen:
		return ScreenViewed
	}
	return ""
}

// Get looks a value up in the body by a gjson path ("properties.revenue").
// Names that hold dots or other path characters are escaped with
// gjson.Escape by the caller.
func (e *Event) Get(path string) gjson.Result { return gjson.GetBytes(e.Body, path) }

// Parse reads an event's body. It checks that body is one JSON object that
// nests no deeper than MaxDepth, and nothing else; otherwise the error is
// fault.Invalid. Of a repeated key the last one counts (LastWins). The Event
// keeps body, or what LastWins made of it.
func Parse(body []byte) (*Event, error) {
	repeated, err := CheckJSON(body)
	if err != nil {
		return nil, err
	}
	if repeated {
		body = LastWins(body)
	}
	return parse(body)
}

// ParseTrusted is Parse without the checks of the JSON, for bodies that Kith
// itself has written.
func ParseTrusted(body []byte) (*Event, error) { return parse(body) }

func parse(body []byte) (*Event, error) {
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return nil, fault.New(fault.Invalid, "event is not a JSON object")
	}
	e := &Event{Body: body}
	root.ForEach(func(key, v gjson.Result) bool {
		switch key.String() {
		case "type":
			e.Type = ParseType(v.String())
		case "messageId":
			e.MessageID = text(v)
		case "userId":
			e.UserID = text(v)
		case "anonymousId":
			e.AnonymousID = text(v)
		case "previousId":
			e.PreviousID = text(v)
		case "groupId":
			e.GroupID = text(v)
		case "event":
			e.Event = text(v)
		case "name":
			e.Name = text(v)
		case "category":
			e.Category = text(v)
		case "timestamp":
			e.Timestamp, _ = ParseTime(v.String())
		case "receivedAt":
			e.ReceivedAt, _ = ParseTime(v.String())
		case "properties":
			e.Properties = object(v)
		case "traits":
			e.Traits = object(v)
		case "context":
			e.Context = object(v)
		case "integrations":
			e.Integrations = object(v)
		}
		return true
	})
	return e, nil
}

// text returns a string's value and nothing for any other kind of value.
func text(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.Str
	}
	return ""
}

func object(v gjson.Result) string {
	if v.IsObject() {
		return v.Raw
	}
	return ""
}

// ParseTime reads a timestamp as the SDKs send it: RFC 3339 with zero to nine
// digits of fraction, "Z" or an offset. The result is UTC, cut to milliseconds.
func ParseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, false
	}
	return t.UTC().Truncate(time.Millisecond), true
}

// FormatTime writes a timestamp as Segment does: UTC with milliseconds.
func FormatTime(t time.Time) string { return string(AppendTime(nil, t)) }

// AppendTime appends what FormatTime returns. It is asked several times an
// event, and takes 0.1 µs where the layouts of package time take 0.7.
func AppendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	hour, minute, second := t.Clock()
	two := func(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }
	b = append(two(two(b, year/100), year%100), '-')
	b = append(two(b, int(month)), '-')
	b = append(two(b, day), 'T')
	b = append(two(b, hour), ':')
	b = append(two(b, minute), ':')
	b = append(two(b, second), '.')
	ms := t.Nanosecond() / 1e6
	return append(two(append(b, byte('0'+ms/100)), ms%100), 'Z')
}
