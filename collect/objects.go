package collect

import (
	"fmt"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/event"
)

// The limits of the Objects API (sheet connections_protocols §1.9). One value
// may have as many bytes as an event: Limits.EventBytes.
const (
	maxObjects       = 10  // in one request
	maxCollectionLen = 100 // characters
	maxObjectIDLen   = 100 // characters
)

// decodeObjects finds the objects of a request to /v1/set and the write key.
// What is wrong with them is the client's fault and answered with 400, as the
// Objects API does: none of them is kept then.
func (in *intake) decodeObjects(body string) error {
	root := gjson.Parse(body)
	if !root.IsObject() {
		return &unreadable{CodeInvalidJSON, "the body must be a JSON object", body}
	}
	in.foundKey(root.Get("writeKey"))
	invalid := func(format string, args ...any) error {
		return &unreadable{CodeInvalidObject, fmt.Sprintf(format, args...), body}
	}
	collection := root.Get("collection")
	if why := badCollection(collection); why != "" {
		return invalid("collection %s", why)
	}
	list := root.Get("objects")
	if !list.IsArray() {
		return invalid("objects must be an array of 1 to %d objects, each with id and properties", maxObjects)
	}
	var err error
	list.ForEach(func(_, v gjson.Result) bool {
		if why := in.c.badObject(v); why != "" {
			err = invalid("objects[%d]%s", len(in.items), why)
		}
		in.items = append(in.items, v.Raw)
		return err == nil && len(in.items) <= maxObjects
	})
	switch n := len(in.items); {
	case err != nil:
		return err
	case n == 0:
		return invalid("objects is empty: send 1 to %d objects, each with id and properties", maxObjects)
	case n > maxObjects:
		return invalid("objects has more than %d objects: send smaller batches", maxObjects)
	}
	in.collection, in.count = collection.Str, len(in.items)
	return nil
}

// badCollection says why v is not the name of a collection: lower-case letters
// and underscores, none at the ends.
func badCollection(v gjson.Result) string {
	name := v.Str
	switch {
	case blank(v):
		return "is missing: it names what the objects are, like \"rooms\""
	case v.Type != gjson.String:
		return "must be a string"
	case len(name) > maxCollectionLen:
		return fmt.Sprintf("has %d characters, the most is %d", len(name), maxCollectionLen)
	case name[0] == '_' || name[len(name)-1] == '_':
		return "must neither begin nor end with an underscore"
	}
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') {
			return "must consist of lower-case letters and underscores"
		}
	}
	return ""
}

// badObject says where and why v is not an object, as what follows a name for
// it.
func (c *Collector) badObject(v gjson.Result) string {
	if !v.IsObject() {
		return " must be an object with id and properties"
	}
	id, properties := v.Get("id"), v.Get("properties")
	switch {
	case blank(id):
		return ".id is missing"
	case id.Type != gjson.String:
		return ".id must be a string; send it in quotes"
	case utf8.RuneCountInString(id.Str) > maxObjectIDLen:
		return fmt.Sprintf(".id has %d characters, the most is %d", utf8.RuneCountInString(id.Str), maxObjectIDLen)
	case !properties.IsObject():
		return ".properties must be an object"
	}
	why := ""
	properties.ForEach(func(key, v gjson.Result) bool {
		switch {
		case v.IsObject() || v.IsArray():
			why = fmt.Sprintf(".properties.%s must be a string, a number, true, false or null", head(key.Str, 100))
		case len(v.Raw) > c.limits.EventBytes:
			why = fmt.Sprintf(".properties.%s has %d bytes, the most is %d", head(key.Str, 100), len(v.Raw), c.limits.EventBytes)
		}
		return why == ""
	})
	return why
}

// judgeObjects turns the objects, which are known to be good, into records.
func (in *intake) judgeObjects() error {
	in.stamp = event.FormatTime(in.now)
	for _, raw := range in.items {
		if err := in.object(in.collection, gjson.Parse(raw)); err != nil {
			return err
		}
	}
	return nil
}

// object makes a record of one object. What is stored is a JSON object with
// collection, id, properties and receivedAt. Objects have no messageId: the
// same one may be sent as often as somebody likes, the newest counts.
func (in *intake) object(collection string, v gjson.Result) error {
	id, err := event.NewRecordID(in.now, in.c.random)
	if err != nil {
		in.c.logger.Error("no randomness for a record id", "error", err)
		return fmt.Errorf("make a record id: %w", err)
	}
	begin := len(in.out)
	out := gjson.AppendJSONString(append(in.out, `{"collection":`...), collection)
	out = append(append(out, `,"id":`...), v.Get("id").Raw...)
	out = append(append(out, `,"properties":`...), v.Get("properties").Raw...)
	out = append(append(append(out, `,"receivedAt":"`...), in.stamp...), '"', '}')
	in.out = out
	at := in.now.UnixMilli()
	in.records = append(in.records, event.Record{
		Head: event.Head{Kind: event.KindObject, ID: id, At: at, Time: at, Name: collection, Source: in.from.ID},
		Body: out[begin:len(out):len(out)],
	})
	return nil
}
