package collect

import (
	"time"

	"github.com/tidwall/gjson"

	"kith/event"
)

// longWait is how many milliseconds a sentAt may lie in the past before it says
// more about how long the batch has waited on the device than about the
// device's clock.
const longWait = int64(5 * time.Minute / time.Millisecond)

// The libraries that write sentAt once and may send much later; see
// docs/decisions/0005-offline-timestamps.md for where in their sources.
const (
	libSwift  = "analytics-swift"
	libKotlin = "analytics-kotlin"
	libCSharp = "Analytics-CSharp"
	libJava   = "analytics-java"
)

// when returns when an event happened: the client's timestamp, put right by
// what its clock said when it sent, that is receivedAt − (sentAt − timestamp)
// (sheet connections_protocols §2.5), and never later than now. Without a
// timestamp it is now. An instant that cannot be read or lies before 1970
// counts as not sent, and is a warning.
//
// The formula takes sentAt and receivedAt for the same moment. Where the
// library wrote sentAt into a file and the file has waited for a network, they
// are not, and the formula would move every event towards now by the time it
// has waited. Then the client's timestamp is taken as it is.
func (in *intake) when(k *call, raw string) time.Time {
	original, sent, hasSent := int64(0), int64(0), false
	if !blank(k.sentAt) {
		if sent, hasSent = instant(k.sentAt); !hasSent {
			in.warn(&in.unreadSentAt, raw)
		}
	}
	now := in.now.UnixMilli()
	if blank(k.timestamp) {
		return time.UnixMilli(now).UTC()
	}
	original, ok := instant(k.timestamp)
	if !ok {
		in.warn(&in.unreadTimestamp, raw)
		return time.UnixMilli(now).UTC()
	}
	ms := original
	if hasSent && !in.hasWaited(k, now-sent) {
		if fixed := now - (sent - original); fixed >= 0 {
			ms = fixed
		}
	}
	return time.UnixMilli(min(ms, now)).UTC()
}

// hasWaited reports whether a batch was on the device for the time between
// sentAt and now, in milliseconds, and not its clock behind by that much.
func (in *intake) hasWaited(k *call, gap int64) bool {
	if gap <= longWait && (gap <= 0 || !in.retried) {
		return false // nearly every event
	}
	library := gjson.Get(k.context.Raw, "library.name")
	if !library.Exists() {
		library = gjson.Get(in.batch.context.raw, "library.name")
	}
	switch library.Str {
	case libSwift, libKotlin, libCSharp:
		return true
	case libJava:
		return in.retried // it always says so
	}
	return false
}

// instant reads a timestamp as milliseconds since 1970.
func instant(v gjson.Result) (ms int64, ok bool) {
	if v.Type != gjson.String {
		return 0, false
	}
	t, ok := event.ParseTime(v.Str)
	if !ok {
		t, ok = parseLocal(v.Str)
	}
	if !ok || t.UnixMilli() < 0 {
		return 0, false
	}
	return t.UnixMilli(), true
}

// parseLocal reads what event.ParseTime does not: the forms of ISO 8601 without
// a zone, which mean UTC as they do in queries, a day alone, which is its first
// instant, and a space for the T, as databases and files have it. Were they
// taken for nothing, an import of the past would count as today.
func parseLocal(s string) (time.Time, bool) {
	if len(s) < len(time.DateOnly) || len(s) > 40 || s[4] != '-' || s[7] != '-' {
		return time.Time{}, false
	}
	day, rest := s[:10], s[10:]
	if rest == "" {
		t, err := time.Parse(time.DateOnly, day)
		return t, err == nil
	}
	if rest[0] != 'T' && rest[0] != ' ' {
		return time.Time{}, false
	}
	for _, form := range [...]string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00"} {
		if t, err := time.Parse(form, day+" "+rest[1:]); err == nil {
			return t.UTC().Truncate(time.Millisecond), true
		}
	}
	return time.Time{}, false
}
