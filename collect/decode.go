package collect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// intake is one request that is being worked on.
type intake struct {
	c       *Collector
	route   route
	request *http.Request
	key     string // the write key
	token   string // of the bearer; empty without one
	retried bool   // the sender says that this is not its first try
	now     time.Time
	stamp   string // now, as the events carry it
	from    *workspace.Source

	collection string // of objects

	items []string // the events or objects as sent, raw
	whole *refusal // why none of them is kept, if so
	count int      // how many whole speaks of
	batch shared

	// What judge makes.
	out     []byte // the events' bodies, one behind the other
	records []event.Record
	call    *call // the event at hand

	unreadTimestamp, unreadSentAt, dropped warning

	report *report // nil when nobody wants one
}

// intake returns a clean intake.
func (c *Collector) intake() *intake {
	in, _ := c.intakes.Get().(*intake)
	if in == nil {
		in = &intake{call: new(call)}
	}
	in.c = c
	return in
}

// forget keeps the memory of an intake for the next request. The log has been
// given copies, and a request's goroutine outlives its append.
func (c *Collector) forget(in *intake) {
	if cap(in.out) > maxPooled {
		return
	}
	clear(in.items)
	clear(in.records)
	in.call.reset()
	in.batch.context.clear()
	in.batch.integrations.clear()
	*in = intake{items: in.items[:0], out: in.out[:0], records: in.records[:0], call: in.call,
		batch: shared{context: document{members: in.batch.context.members}, integrations: document{members: in.batch.integrations.members}}}
	c.intakes.Put(in)
}

// shared is what a batch says for all its events.
type shared struct {
	context      document
	integrations document
	sentAt       gjson.Result
	timestamp    gjson.Result
}

// maxTimeBytes is more than any timestamp has. What is longer would be copied
// into every event.
const maxTimeBytes = 64

// brief returns what a batch says of a time, unless it is longer than any.
func (in *intake) brief(v gjson.Result, w *warning) gjson.Result {
	if len(v.Raw) > maxTimeBytes {
		in.warn(w, head(v.Raw, maxTimeBytes))
		return gjson.Result{}
	}
	return v
}

// document is a raw JSON object and its members.
type document struct {
	raw     string
	members []member
}

// member is a key and a value of an object, as sent.
type member struct {
	name string // with its quotes
	raw  string
	key  string // without quotes and escapes
}

// read takes an object apart, into the memory that d has.
func (d *document) read(v gjson.Result) {
	d.raw, d.members = v.Raw, d.members[:0]
	v.ForEach(func(key, v gjson.Result) bool {
		d.members = append(d.members, member{key.Raw, v.Raw, key.Str})
		return true
	})
}

func (d *document) clear() {
	clear(d.members)
	d.raw, d.members = "", d.members[:0]
}

func (d *document) get(key string) (raw string, ok bool) {
	for i := range d.members {
		if d.members[i].key == key {
			return d.members[i].raw, true
		}
	}
	return "", false
}

// decode finds the events of a request and the write key: that of HTTP Basic,
// else writeKey of the body, else writeKey of the first event (the browser).
// With two that differ the first one counts.
func (in *intake) decode(body string) error {
	if in.route.form == formObjects {
		return in.decodeObjects(body)
	}
	root := gjson.Parse(body)
	if !root.IsObject() {
		return &unreadable{CodeInvalidJSON, "the body must be a JSON object", body}
	}
	if in.route.single != event.None {
		in.items = append(in.items, strings.TrimRight(root.Raw, " \t\r\n"))
		if in.key == "" || in.c.debug { // only a debug line tells of a second key
			in.foundKey(root.Get("writeKey"))
		}
		return nil
	}

	var batch, first gjson.Result
	root.ForEach(func(key, v gjson.Result) bool {
		switch key.Str {
		case "batch":
			batch = v
		case "context":
			if v.IsObject() {
				in.batch.context.read(v)
			}
		case "integrations":
			if v.IsObject() {
				in.batch.integrations.read(v)
			}
		case "sentAt":
			in.batch.sentAt = in.brief(v, &in.unreadSentAt)
		case "timestamp":
			in.batch.timestamp = in.brief(v, &in.unreadTimestamp)
		case "writeKey":
			in.foundKey(v)
		}
		return true
	})
	limit := in.c.limits
	switch {
	case !batch.IsArray():
		in.whole = &refusal{CodeEmptyBatch, "the body has no batch: want an array of events under \"batch\"", "batch"}
		in.count = 1
	default:
		batch.ForEach(func(_, v gjson.Result) bool {
			if in.count == 0 {
				first = v
			}
			if in.count++; in.count <= limit.BatchEvents {
				in.items = append(in.items, v.Raw)
			}
			return true
		})
	}
	switch size := len(in.batch.context.raw) + len(in.batch.integrations.raw); {
	case in.whole != nil:
	case in.count == 0:
		in.whole = &refusal{CodeEmptyBatch, "the batch has no events", "batch"}
		in.count = 1
	case in.count > limit.BatchEvents:
		in.whole = &refusal{CodeBatchTooLarge, fmt.Sprintf("the batch has %d events, the most is %d: send smaller batches", in.count, limit.BatchEvents), "batch"}
	case size > limit.EventBytes:
		// What is merged into every event must not be a way around the limit.
		in.whole = &refusal{CodeEventTooLarge, fmt.Sprintf("context and integrations of the batch have %d bytes, the most is %d", size, limit.EventBytes), "context"}
	}
	if first.IsObject() {
		in.foundKey(first.Get("writeKey"))
	}
	return nil
}

// foundKey takes a write key that stands in the body.
func (in *intake) foundKey(v gjson.Result) {
	key := ""
	if v.Type == gjson.String {
		key = strings.TrimSpace(v.Str)
	}
	switch {
	case key == "" || key == in.key:
	case in.key == "":
		in.key = key
	default:
		in.c.logger.Debug("a request has two write keys; that of HTTP Basic, then that of the body counts", "counts", mask(in.key), "other", mask(key))
	}
}

// size returns about how much memory the events will take.
func (in *intake) size() int {
	perEvent := len(in.batch.context.raw) + len(in.batch.integrations.raw) + 512
	n := len(in.items) * perEvent
	for _, raw := range in.items {
		n += len(raw)
	}
	return n
}

// judge turns the events into records and refuses those that are not kept. Its
// error is that of a single call that is too large, or of the source of
// randomness.
func (in *intake) judge() error {
	if in.route.form == formObjects {
		return in.judgeObjects()
	}
	if in.whole != nil {
		in.refuseAll(*in.whole)
		return nil
	}
	in.begin()
	refusedAny := false
	for i, raw := range in.items {
		if in.report != nil {
			in.report.index = i
		}
		refused, err := in.event(raw)
		switch {
		case err != nil:
			return err
		case refused == nil:
		case refused.code == CodeEventTooLarge && in.route.single != event.None:
			return &unreadable{refused.code, refused.message, raw}
		default:
			refusedAny = true
			in.refuse(*refused, raw)
		}
	}
	in.tellWarnings(refusedAny)
	return nil
}

// begin makes room for the records.
func (in *intake) begin() {
	in.stamp = event.FormatTime(in.now)
	in.records = slices.Grow(in.records, len(in.items))
	in.out = slices.Grow(in.out, in.size())
}

// rejection begins a rejection of this request.
func (in *intake) rejection() Rejection {
	x := Rejection{At: in.now, WriteKey: mask(in.key), Type: in.route.single.String()}
	if in.route.form == formObjects {
		x.Type = "object"
	}
	if in.from != nil {
		x.SourceID = in.from.ID
	}
	return x
}

// refuse tells of one event that is not kept.
func (in *intake) refuse(r refusal, raw string) {
	x := in.rejection()
	if t := in.call.typ; t.Type == gjson.String {
		x.Type = head(t.Str, 40)
	}
	if id := in.call.messageID; id.Type == gjson.String {
		x.MessageID = head(id.Str, maxMessageIDLen)
	}
	in.tell(x, r, 1, raw)
}

// sample hides the write key in what was sent: it is shown to people who may
// look at a source's events and not write them.
func (in *intake) sample(raw string) string {
	if len(in.key) < 4 {
		return raw
	}
	return strings.ReplaceAll(raw, in.key, mask(in.key))
}

// refuseAll tells that none of the events is kept. Of an unknown source no
// sample is kept, since nobody could be shown it.
func (in *intake) refuseAll(r refusal) {
	sample := ""
	if in.from != nil && len(in.items) > 0 {
		sample = in.items[0]
	}
	if in.report != nil {
		in.report.index = -1
	}
	in.tell(in.rejection(), r, max(in.count, 1), sample)
}
