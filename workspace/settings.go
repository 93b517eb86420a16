package workspace

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"kith/fault"
)

// SealedPrefix begins every sealed text, whatever its version.
const SealedPrefix = "sealed:"

// Mask stands for a secret in everything that is shown. A setting that comes
// back as Mask keeps the secret it has.
const Mask = "••••••••"

// UnsealSettings returns a destination's settings with every sealed text in
// plain. Only who sends with them should ask.
func UnsealSettings(settings json.RawMessage, secrets Sealer) (json.RawMessage, error) {
	return mapTexts(settings, func(_, text string) (string, error) {
		if !strings.HasPrefix(text, SealedPrefix) {
			return text, nil
		}
		return secrets.Unseal(text)
	})
}

// MaskSettings returns a destination's settings with every sealed text masked.
func MaskSettings(settings json.RawMessage) json.RawMessage {
	masked, err := mapTexts(settings, func(_, text string) (string, error) {
		if strings.HasPrefix(text, SealedPrefix) {
			return Mask, nil
		}
		return text, nil
	})
	if err != nil { // no stored settings are broken; show nothing rather than a secret
		return json.RawMessage("{}")
	}
	return masked
}

// confidential begins, in a draft, a text that is to be sealed whatever the
// connector says of it: one that came from a variable.
const confidential = "\x00secret:"

// sealSettings seals the texts of a connector's secret settings, those that
// came from variables, and those that stand where a sealed text stood. A text
// that is unchanged from before, or that is Mask, keeps its sealed form, so
// that saving the same settings twice changes nothing.
func sealSettings(settings, before json.RawMessage, names []string, secrets Sealer) (json.RawMessage, error) {
	had := sealedTexts(before)
	return mapTexts(settings, func(path, text string) (string, error) {
		old := had[path]
		text, secret := strings.CutPrefix(text, confidential)
		if strings.HasPrefix(text, SealedPrefix) {
			if text != old {
				return "", fault.Field(path, "a value that begins with %q cannot be given; give the plain secret", SealedPrefix)
			}
			return text, nil
		}
		name, _, _ := strings.Cut(path, ".")
		if text == "" || !secret && old == "" && !slices.Contains(names, name) {
			return text, nil
		}
		if secrets == nil {
			return "", fault.New(fault.Internal, "no key to seal secrets with")
		}
		if text == Mask {
			if old == "" {
				return "", fault.Field(path, "the mask %q is no secret; give the plain secret", Mask)
			}
			return old, nil
		}
		if old != "" {
			if plain, err := secrets.Unseal(old); err == nil && plain == text {
				return old, nil
			}
		}
		return secrets.Seal(text)
	})
}

// sealedTexts returns the sealed texts in settings by path.
func sealedTexts(settings json.RawMessage) map[string]string {
	found := map[string]string{}
	_, _ = mapTexts(settings, func(path, text string) (string, error) {
		if strings.HasPrefix(text, SealedPrefix) {
			found[path] = text
		}
		return text, nil
	})
	return found
}

// mapTexts returns doc with every string value replaced by what fn makes of
// it; path is the value's place, names and indexes joined by dots. When
// nothing changes doc is returned as it is.
func mapTexts(doc json.RawMessage, fn func(path, text string) (string, error)) (json.RawMessage, error) {
	if len(bytes.TrimSpace(doc)) == 0 {
		return doc, nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fault.New(fault.Invalid, "settings are not valid JSON: %w", err)
	}
	changed := false
	var walk func(path string, v any) (any, error)
	walk = func(path string, v any) (any, error) {
		var err error
		switch v := v.(type) {
		case string:
			text, err := fn(path, v)
			changed = changed || text != v
			return text, err
		case []any:
			for i := range v {
				if v[i], err = walk(join(path, decimal(i)), v[i]); err != nil {
					return nil, err
				}
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if v[k], err = walk(join(path, k), v[k]); err != nil {
					return nil, err
				}
			}
		}
		return v, nil
	}
	v, err := walk("", v)
	if err != nil || !changed {
		return doc, err
	}
	return marshal(v)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// sameJSON reports whether a and b are the same document, whatever the order
// of names and the spaces. Nothing and null are the same.
func sameJSON(a, b json.RawMessage) bool {
	return bytes.Equal(canonical(a), canonical(b))
}

// canonical returns a document with sorted names and without spaces.
func canonical(doc json.RawMessage) []byte {
	if len(bytes.TrimSpace(doc)) == 0 {
		return []byte("null")
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return doc
	}
	out, err := marshal(v)
	if err != nil {
		return doc
	}
	return out
}
