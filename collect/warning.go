package collect

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// warning is something about events that were kept.
type warning struct {
	count          int
	raw, messageID string // of the first of them
}

// warn notes a warning about the event at hand.
func (in *intake) warn(w *warning, raw string) {
	if w.count++; w.count == 1 {
		w.raw, w.messageID = raw, str(in.call.messageID)
	}
}

// tellWarnings reports the warnings of a request, each once; refused says that
// some of its events were not kept. Of a batch that is two of Segment's discard
// codes, which say so of the batch as a whole; here they are no more than that,
// since each event has a rejection of its own and is counted once.
func (in *intake) tellWarnings(refused bool) {
	if !refused && in.unreadTimestamp.count+in.unreadSentAt.count+in.dropped.count == 0 {
		return
	}
	if in.report != nil {
		in.report.index = -1
	}
	tell := func(w *warning, code, field, message string) {
		if w.count == 0 {
			return
		}
		x := in.rejection()
		x.Warning, x.MessageID = true, head(w.messageID, maxMessageIDLen)
		in.tell(x, refusal{code, message, field}, w.count, w.raw)
	}
	const wrongTime = " is no ISO 8601 instant since 1970, like 2026-01-02T03:04:05.678Z; the event was kept, "
	tell(&in.unreadTimestamp, CodeTimeUnreadable, "timestamp", "timestamp"+wrongTime+"as of when it was received")
	tell(&in.unreadSentAt, CodeTimeUnreadable, "sentAt", "sentAt"+wrongTime+"and its timestamp is as sent")
	tell(&in.dropped, CodePropertiesDropped, "properties", "an event may have 10,000 properties; it was kept with the first of them")
	if !refused || len(in.items) < 2 {
		return // the one rejection says it all
	}
	kept, all := len(in.records), len(in.items)
	w := &warning{count: all - kept}
	if kept == 0 {
		tell(w, CodeEmptyResult, "batch", fmt.Sprintf("none of the %d events of the batch was kept; each has a rejection of its own", all))
		return
	}
	tell(w, CodeMultiUserError, "batch", fmt.Sprintf("%d of the %d events of the batch were kept; each of the others has a rejection of its own", kept, all))
}

// maxProperties is how many properties or traits an event may have; what is
// more is dropped (sheet connections_protocols §1.4). manyBytes is the least
// that so many take: a key of two bytes with its quotes, a colon, a digit and
// a comma each.
const (
	maxProperties = 10_000
	manyBytes     = 6 * maxProperties
)

// drop leaves out of properties and traits what is more than an event may have.
// With the usual limit of an event's size there never is any.
func (in *intake) drop(k *call, raw string) {
	dropped := false
	for i := range k.members {
		m := &k.members[i]
		if len(m.raw) < manyBytes {
			continue
		}
		var of *gjson.Result
		switch m.key {
		case "properties":
			of = &k.properties
		case "traits":
			of = &k.traits
		}
		if of == nil || !of.IsObject() {
			continue
		}
		if rest, more := first(*of, maxProperties); more {
			*of, m.raw, dropped = gjson.Parse(rest), rest, true
		}
	}
	if dropped {
		in.warn(&in.dropped, raw)
	}
}

// first returns an object with the first n members of v, and whether v has
// more.
func first(v gjson.Result, n int) (raw string, more bool) {
	count, end := 0, 0
	v.ForEach(func(_, value gjson.Result) bool {
		if count++; count > n {
			return false
		}
		end = value.Index - v.Index + len(value.Raw)
		return true
	})
	if count <= n {
		return v.Raw, false
	}
	return strings.TrimRight(v.Raw[:end], " \t\r\n,") + "}", true
}
