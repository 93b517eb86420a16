package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
)

// document is a JSON object that is kept as it is: settings, schemas. Numbers
// keep their text.
type document json.RawMessage

// Schema tells huma what a document may be.
func (document) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// MarshalJSON writes the document.
func (d document) MarshalJSON() ([]byte, error) {
	if len(d) == 0 {
		return []byte("{}"), nil
	}
	return d, nil
}

// UnmarshalJSON keeps the document.
func (d *document) UnmarshalJSON(text []byte) error {
	*d = bytes.Clone(text)
	return nil
}

func (d document) raw() json.RawMessage { return json.RawMessage(d) }

// merge returns base with the names of change put in; null takes a name out.
func merge(base json.RawMessage, change document) (json.RawMessage, error) {
	var into, from map[string]json.RawMessage
	if len(base) > 0 {
		if err := json.Unmarshal(base, &into); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(change, &from); err != nil {
		return nil, fault.Field("settings", "must be a JSON object")
	}
	if into == nil {
		into = map[string]json.RawMessage{}
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if string(from[name]) == "null" {
			delete(into, name)
		} else {
			into[name] = from[name]
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(into); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
