package destination

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"kith/fault"
)

// URLChecker says whether a URL may be sent to; *egress.Guard with a context
// is one. Its errors are fault.Invalid.
type URLChecker func(url string) error

// CheckSettings checks a document against fields. It returns everything that
// is wrong, joined: fault.Invalid errors with the path of the setting as their
// field. No error repeats a value. A nil check leaves URLs to the dialer.
func CheckSettings(fields []Field, settings json.RawMessage, check URLChecker) error {
	c := settingsCheck{url: check}
	c.object("", fields, settings)
	return errors.Join(c.wrong...)
}

type settingsCheck struct {
	url   URLChecker
	wrong []error
}

func (c *settingsCheck) add(path, format string, args ...any) {
	c.wrong = append(c.wrong, fault.Field(path, format, args...))
}

func (c *settingsCheck) object(path string, fields []Field, raw json.RawMessage) {
	values := map[string]json.RawMessage{}
	if raw = bytes.TrimSpace(raw); len(raw) > 0 {
		if json.Unmarshal(raw, &values) != nil || values == nil {
			c.add(path, "a JSON object is expected")
			return
		}
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.Name)
		value, given := values[f.Name]
		if !given || string(value) == "null" {
			if f.Required {
				c.add(join(path, f.Name), "is required: %s", f.Help)
			}
			continue
		}
		c.field(join(path, f.Name), f, value)
	}
	for _, name := range sortedNames(values) {
		if !slices.Contains(names, name) {
			c.add(join(path, name), "there is no such setting; there are: %s", listed(names))
		}
	}
}

func (c *settingsCheck) field(path string, f Field, raw json.RawMessage) {
	switch f.Type {
	case String, URL:
		s, ok := decoded[string](raw)
		switch {
		case !ok:
			c.add(path, "a string is expected")
		case s == "" && f.Required:
			c.add(path, "is required: %s", f.Help)
		case len(s) > f.longest():
			c.add(path, "is %d bytes long; at most %d are allowed", len(s), f.longest())
		case int64(len(s)) < f.Min:
			c.add(path, "is %d bytes long; at least %d are expected", len(s), f.Min)
		case f.Type == URL && s != "" && c.url != nil:
			if err := c.url(s); err != nil {
				c.add(path, "%v", err)
			}
		}
	case Integer:
		n, ok := decoded[int64](raw)
		if !ok || f.Max != 0 && (n < f.Min || n > f.Max) {
			c.add(path, "a whole number from %d to %d is expected", f.Min, f.Max)
		}
	case Boolean:
		if _, ok := decoded[bool](raw); !ok {
			c.add(path, "true or false is expected")
		}
	case Texts:
		texts, ok := decoded[map[string]*string](raw)
		if !ok {
			c.add(path, "an object whose values are strings is expected")
			return
		}
		if len(texts) > maxTexts {
			c.add(path, "has %d entries; at most %d are allowed", len(texts), maxTexts)
		}
		for _, name := range sortedNames(texts) {
			switch s := texts[name]; {
			case s == nil:
				c.add(join(path, name), "a string is expected")
			case len(*s) > f.longest() || len(name) > f.longest():
				c.add(join(path, clip(name)), "is too long; at most %d bytes are allowed", f.longest())
			}
		}
	case Object:
		c.object(path, f.Fields, raw)
	}
}

func (f *Field) longest() int {
	if f.Max > 0 {
		return int(f.Max)
	}
	return maxText
}

// decoded reads a JSON value that must have exactly the form of T.
func decoded[T any](raw json.RawMessage) (v T, ok bool) {
	return v, json.Unmarshal(raw, &v) == nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func join(path, name string) string {
	name = clip(name)
	if path == "" {
		return name
	}
	return path + "." + name
}

// clip keeps names that somebody made up from filling an error.
func clip(name string) string {
	if len(name) > 80 {
		return strings.ToValidUTF8(name[:80], "") + "…"
	}
	return name
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
