package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// calls are the calls there are, and where a field goes that is none of the
// call's own.
var calls = map[string]string{
	"track": "properties", "page": "properties", "screen": "properties", "identify": "traits", "group": "traits", "alias": "",
}

// ownFields are the fields of a call, and of those the objects.
var (
	ownFields  = []string{"userId", "anonymousId", "previousId", "groupId", "messageId", "timestamp", "sentAt", "category", "properties", "traits", "context", "integrations"}
	ownObjects = []string{"properties", "traits", "context", "integrations"}
)

// send reads a call and what is in it.
func (p *parser) send(pos Pos, source string) (Statement, error) {
	s := &Send{Pos: pos, Source: source}
	if p.ended() {
		return nil, p.fail(p.at, "want a call here: track, identify, page, screen, group, alias or a JSON object")
	}
	at := p.at
	if p.text[at] == '{' {
		raw, err := p.brackets()
		if err != nil {
			return nil, err
		}
		s.Call, s.Body = gjson.GetBytes(raw, "type").String(), raw
		if _, ok := calls[s.Call]; !ok {
			return nil, p.fail(at, `the event needs a "type": track, identify, page, screen, group or alias`)
		}
		return s, nil
	}
	s.Call = p.bare("")
	section, ok := calls[s.Call]
	if !ok {
		return nil, p.fail(at, fmt.Sprintf("%q is no call; want track, identify, page, screen, group or alias", s.Call))
	}
	var body object
	text := func(name, value string) {
		raw, _ := json.Marshal(value) // a string always marshals
		body.set([]string{name}, raw)
	}
	text("type", s.Call)
	switch name := p.isName(); {
	case s.Call == "track":
		event, err := p.word("the event's name")
		if err != nil {
			return nil, err
		}
		text("event", event)
	case name && (s.Call == "page" || s.Call == "screen"):
		title, err := p.word("the name")
		if err != nil {
			return nil, err
		}
		text("name", title)
	}
	for !p.ended() {
		at := p.at
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		if f.Path[0] == "timestamp" && len(f.Path) == 1 {
			var t string
			if json.Unmarshal(f.Value, &t) == nil && (strings.HasPrefix(t, "-") || strings.HasPrefix(t, "+")) {
				d, ok := parseDuration(t[1:])
				if !ok || t == "-" || t == "+" {
					return nil, p.fail(at, fmt.Sprintf("%q is not a distance from now: want something like -3d", t))
				}
				if t[0] == '-' {
					d = -d
				}
				s.Ago = &d
				continue
			}
		}
		path := f.Path
		if !slices.Contains(ownFields, path[0]) {
			if section == "" {
				return nil, p.fail(at, fmt.Sprintf("an alias call has no field %q", path[0]))
			}
			path = append([]string{section}, path...)
		}
		if len(path) > 1 && !slices.Contains(ownObjects, path[0]) {
			return nil, p.fail(at, fmt.Sprintf("%s is not an object", path[0]))
		}
		if !body.set(path, f.Value) {
			return nil, p.fail(at, strings.Join(path, ".")+" is set twice")
		}
	}
	raw, err := json.Marshal(&body)
	if err != nil {
		return nil, p.fail(at, err.Error())
	}
	s.Body = raw
	return s, nil
}

// isName reports whether a name comes next and not a field.
func (p *parser) isName() bool {
	if p.ended() {
		return false
	}
	at := p.at
	defer func() { p.at = at }()
	_, err := p.field()
	return err != nil
}

// object is a JSON object in the making; its members keep their order.
type object struct {
	names  []string
	values []any // json.RawMessage or *object
}

// set puts a value at a path; false when something stands there.
func (o *object) set(path []string, value json.RawMessage) bool {
	i := slices.Index(o.names, path[0])
	switch {
	case len(path) == 1 && i >= 0:
		return false
	case len(path) == 1:
		o.names, o.values = append(o.names, path[0]), append(o.values, value)
		return true
	case i < 0:
		o.names, o.values = append(o.names, path[0]), append(o.values, &object{})
		i = len(o.names) - 1
	}
	child, ok := o.values[i].(*object)
	return ok && child.set(path[1:], value)
}

// MarshalJSON writes the object.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{name, o.values[i]} {
			raw, err := json.Marshal(part)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b.WriteByte(':')
			}
			b.Write(raw)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// members returns the members of a JSON object as fields, in their order.
func members(raw json.RawMessage) ([]Field, bool) {
	v := gjson.ParseBytes(raw)
	if !v.IsObject() {
		return nil, false
	}
	var list []Field
	v.ForEach(func(k, v gjson.Result) bool {
		list = append(list, Field{Path: []string{k.String()}, Value: json.RawMessage(v.Raw)})
		return true
	})
	return list, true
}
