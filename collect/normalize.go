package collect

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/event"
)

// call is one event, taken apart.
type call struct {
	kind event.Type

	typ, messageID, userID, anonymousID, previousID, groupID, event, name, category gjson.Result
	timestamp, originalTimestamp, sentAt                                            gjson.Result
	properties, traits, context, integrations                                       gjson.Result

	members []member
	ctx     document
	integ   document
}

// reset forgets the event and keeps the memory.
func (k *call) reset() {
	clear(k.members)
	k.ctx.clear()
	k.integ.clear()
	*k = call{members: k.members[:0], ctx: k.ctx, integ: k.integ}
}

// read takes the event apart. Members that only the server may write are left
// out; so is the write key, which is nobody's business further on.
func (k *call) read(raw string) {
	k.reset()
	gjson.Parse(raw).ForEach(func(key, v gjson.Result) bool {
		switch key.Str {
		case "type":
			k.typ = v
		case "messageId":
			k.messageID = v
		case "userId":
			k.userID = v
		case "anonymousId":
			k.anonymousID = v
		case "previousId":
			k.previousID = v
		case "groupId":
			k.groupID = v
		case "event":
			k.event = v
		case "name":
			k.name = v
		case "category":
			k.category = v
		case "properties":
			k.properties = v
		case "traits":
			k.traits = v
		case "context":
			k.context = v
		case "integrations":
			k.integrations = v
		case "timestamp":
			k.timestamp = v
		case "sentAt":
			k.sentAt = v
		case "originalTimestamp":
			k.originalTimestamp = v
			return true
		case "writeKey", "receivedAt":
			return true
		}
		k.members = append(k.members, member{key.Raw, v.Raw, key.Str})
		return true
	})
}

// event makes a record of one event, or says why not.
func (in *intake) event(raw string) (*refusal, error) {
	k := in.call
	if raw[0] != '{' {
		k.reset()
		return &refusal{CodeEventNotObject, "an event must be a JSON object", ""}, nil
	}
	k.read(raw)
	if limit := in.c.limits.EventBytes; len(raw) > limit {
		return &refusal{CodeEventTooLarge, fmt.Sprintf("the event has %d bytes, the most is %d", len(raw), limit), ""}, nil
	}
	if len(raw) >= manyBytes {
		in.drop(k, raw)
	}
	in.mergeTimes(k)
	if refused := in.validate(k); refused != nil {
		return refused, nil
	}
	if in.from.Tracking.FilterBots && in.isBot(k) {
		return &refusal{CodeBot, "the user agent is that of a bot, and the source takes no events from bots", "context.userAgent"}, nil
	}

	id, err := event.NewRecordID(in.now, in.c.random)
	if err != nil {
		in.c.logger.Error("no randomness for a record id", "error", err)
		return nil, fmt.Errorf("make a record id: %w", err)
	}
	messageID := k.messageID.Str
	switch k.messageID.Type {
	case gjson.Number:
		messageID = k.messageID.Raw
	case gjson.Null:
		messageID = ""
	}
	if messageID == "" {
		if messageID, err = in.newMessageID(); err != nil {
			return nil, err
		}
	}
	when := in.when(k, raw)
	begin := len(in.out)
	context := in.write(k, messageID, when)
	body := in.out[begin:len(in.out):len(in.out)]

	e := event.Event{
		Type: k.kind, UserID: str(k.userID), AnonymousID: str(k.anonymousID), GroupID: str(k.groupID), Context: context,
	}
	if k.traits.IsObject() {
		e.Traits = k.traits.Raw
	}
	name := ""
	switch k.kind {
	case event.Track:
		name = str(k.event)
	case event.Page, event.Screen:
		name = str(k.name)
	}
	in.records = append(in.records, event.Record{
		Head: event.Head{
			Kind: event.KindEvent, ID: id, At: in.now.UnixMilli(), Time: when.UnixMilli(), Type: k.kind, Name: name,
			Source: in.from.ID, MessageID: messageID, IDs: event.StandardIdentifiers(&e),
		},
		Body: body,
	})
	return nil, nil
}

// mergeTimes gives an event the times that it does not have itself: the batch's,
// and what the client calls the original timestamp where it names no other.
func (in *intake) mergeTimes(k *call) {
	if blank(k.timestamp) {
		k.timestamp = k.originalTimestamp
	}
	if blank(k.timestamp) {
		k.timestamp = in.batch.timestamp
	}
	if blank(k.sentAt) && !blank(in.batch.sentAt) {
		k.sentAt = in.batch.sentAt
	}
}

// write appends the event's body to out and returns its context. The members
// stand in the order in which they came; what was not there comes at the end.
func (in *intake) write(k *call, messageID string, when time.Time) (context string) {
	out := append(in.out, '{')
	var wrote struct{ typ, messageID, context, integrations, timestamp, sentAt bool }
	for i := range k.members {
		m := &k.members[i]
		switch m.key {
		case "type":
			wrote.typ = true
			out = appendName(out, "type")
			out = append(out, '"')
			out = append(out, k.kind.String()...)
			out = append(out, '"', ',')
		case "messageId":
			wrote.messageID = true
			out = appendMessageID(out, k, messageID)
		case "context":
			wrote.context = true
			out, context = in.appendContext(out, k)
		case "integrations":
			wrote.integrations = true
			out = in.appendIntegrations(out, k)
		case "timestamp":
			wrote.timestamp = true
			out = appendTimes(out, k, when)
		case "sentAt":
			wrote.sentAt = true
			out = appendSentAt(out, k)
		default:
			out = append(out, m.name...)
			out = append(out, ':')
			out = append(out, m.raw...)
			out = append(out, ',')
		}
	}
	if !wrote.typ {
		out = append(appendName(out, "type"), '"')
		out = append(append(out, k.kind.String()...), '"', ',')
	}
	if !wrote.messageID {
		out = appendMessageID(out, k, messageID)
	}
	if !wrote.context {
		out, context = in.appendContext(out, k)
	}
	if !wrote.integrations {
		out = in.appendIntegrations(out, k)
	}
	if !wrote.timestamp {
		out = appendTimes(out, k, when)
	}
	if !wrote.sentAt {
		out = appendSentAt(out, k)
	}
	out = append(appendName(out, "receivedAt"), '"')
	out = append(append(out, in.stamp...), '"', '}')
	in.out = out
	return context
}

func appendName(out []byte, name string) []byte {
	out = append(append(out, '"'), name...)
	return append(out, '"', ':')
}

func appendMessageID(out []byte, k *call, id string) []byte {
	out = appendName(out, "messageId")
	if k.messageID.Type == gjson.String && k.messageID.Str != "" {
		out = append(out, k.messageID.Raw...)
	} else {
		out = append(append(append(out, '"'), id...), '"') // hex digits, or those of a number
	}
	return append(out, ',')
}

func appendTimes(out []byte, k *call, when time.Time) []byte {
	if original := k.timestamp; !blank(original) {
		out = append(append(appendName(out, "originalTimestamp"), original.Raw...), ',')
	}
	out = append(appendName(out, "timestamp"), '"')
	out = event.AppendTime(out, when)
	return append(out, '"', ',')
}

func appendSentAt(out []byte, k *call) []byte {
	if k.sentAt.Raw == "" {
		return out
	}
	return append(append(appendName(out, "sentAt"), k.sentAt.Raw...), ',')
}

// appendContext writes the event's context: its own members, then those of the
// batch's context that it does not have, then the client's address where that
// belongs there. It returns what it wrote.
func (in *intake) appendContext(out []byte, k *call) (_ []byte, context string) {
	own := &k.ctx
	switch {
	case !k.context.IsObject():
	case in.mayChange(k.context.Raw):
		own.read(k.context)
	default:
		context = k.context.Raw
		return append(append(appendName(out, "context"), context...), ','), context
	}
	ip, agent := "", ""
	if in.wantsIP(own) {
		ip = in.c.clientIP(in.request)
	}
	if in.route.form == formPixel {
		agent = in.userAgent(own)
	}
	filled := ip != "" || agent != ""
	switch {
	case own.raw == "" && in.batch.context.raw == "" && !filled && k.context.Raw == "":
		return out, ""
	case own.raw != "" && len(in.batch.context.members) == 0 && !filled:
		context = own.raw
	case own.raw == "" && in.batch.context.raw != "" && !filled:
		context = in.batch.context.raw
	}
	if context != "" {
		return append(append(appendName(out, "context"), context...), ','), context
	}
	out = appendName(out, "context")
	begin := len(out)
	out = appendMerged(out, own, &in.batch.context)
	if filled {
		out = out[:len(out)-1]
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		if ip != "" {
			out = append(append(append(appendName(out, "ip"), '"'), ip...), '"', ',')
		}
		if agent != "" {
			out = append(gjson.AppendJSONString(appendName(out, "userAgent"), agent), ',')
		}
		out[len(out)-1] = '}'
	}
	context = string(out[begin:])
	return append(out, ','), context
}

func (in *intake) appendIntegrations(out []byte, k *call) []byte {
	isObject := k.integrations.IsObject()
	switch {
	case isObject && len(in.batch.integrations.members) == 0:
		out = append(appendName(out, "integrations"), k.integrations.Raw...)
	case isObject || in.batch.integrations.raw != "" || k.integrations.Raw != "":
		if isObject {
			k.integ.read(k.integrations)
		}
		out = appendMerged(appendName(out, "integrations"), &k.integ, &in.batch.integrations)
	default:
		return out
	}
	return append(out, ',')
}

// appendMerged writes one object with the members of own and those of under
// that own does not have.
func appendMerged(out []byte, own, under *document) []byte {
	out = append(out, '{')
	first := true
	put := func(m *member) {
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(append(append(out, m.name...), ':'), m.raw...)
	}
	for i := range own.members {
		put(&own.members[i])
	}
	for i := range under.members {
		if _, ok := own.get(under.members[i].key); !ok {
			put(&under.members[i])
		}
	}
	return append(out, '}')
}

// mayChange reports whether anything may be added to an event's own context. It
// spares the events of servers, which are most, that theirs is taken apart.
func (in *intake) mayChange(context string) bool {
	return in.route.device || len(in.batch.context.members) > 0 ||
		strings.Contains(context, "direct") || strings.Contains(context, oldIOS) || strings.Contains(context, oldAndroid) || strings.Contains(context, `\u`)
}

// The libraries of devices that use the routes of servers.
const (
	oldIOS     = "analytics-ios"
	oldAndroid = "analytics-android"
)

// wantsIP reports whether the server fills context.ip in: for SDKs on devices,
// and where the sender says that it speaks to us directly, unless there is one
// already. Two old mobile SDKs use the routes of servers (sheet
// connections_protocols §1.1).
func (in *intake) wantsIP(own *document) bool {
	find := func(key string) (string, bool) {
		if raw, ok := own.get(key); ok {
			return raw, true
		}
		return in.batch.context.get(key)
	}
	if _, ok := find("ip"); ok {
		return false
	}
	if in.route.device {
		return true
	}
	if direct, _ := find("direct"); direct == "true" {
		return true
	}
	library, _ := find("library")
	name := gjson.Get(library, "name").String()
	return name == oldIOS || name == oldAndroid
}

// userAgent returns what fetched a pixel, for a context that does not say it.
// SDKs say it themselves.
func (in *intake) userAgent(own *document) string {
	if _, ok := own.get("userAgent"); ok {
		return ""
	}
	return head(strings.ToValidUTF8(in.request.UserAgent(), "\uFFFD"), 1000)
}

// isBot reports whether a bot caused the event: by the user agent that the
// event names, or else by that of the request where a device sends it itself.
// There the user agent of a browser counts alone: "okhttp/4.9" is how a mobile
// SDK speaks, not who uses it.
func (in *intake) isBot(k *call) bool {
	agent := gjson.Get(k.context.Raw, "userAgent").Str
	if agent == "" {
		agent = gjson.Get(in.batch.context.raw, "userAgent").Str
	}
	if agent == "" && in.route.device {
		if agent = in.request.UserAgent(); in.route.form != formPixel && !strings.HasPrefix(agent, "Mozilla/") {
			return false
		}
	}
	return in.c.bots().Is(agent)
}

// newMessageID returns a random UUID (RFC 9562, version 4).
func (in *intake) newMessageID() (string, error) {
	var b [16]byte
	if _, err := in.c.random.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a messageId: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}

// blank reports whether a member is missing, null or the empty string.
func blank(v gjson.Result) bool {
	return v.Raw == "" || v.Type == gjson.Null || v.Type == gjson.String && v.Str == ""
}

func str(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.Str
	}
	return ""
}
