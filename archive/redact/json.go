package redact

import (
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"

	"kith/event"
)

// Head takes the identifiers of the set out of an event's head, in place. What
// it returns are the short values among them, which Body is told of; changed
// says whether there was anything.
func (s *Set) Head(h *event.Head) (short []string, changed bool) {
	if s.Empty() {
		return nil, false
	}
	for _, id := range h.IDs {
		if s.Has(id) {
			changed = true
			if len(id.Value) < MinValue {
				short = append(short, id.Value)
			}
		}
	}
	if changed {
		h.IDs = slices.DeleteFunc(slices.Clone(h.IDs), s.Has)
	}
	for _, text := range []*string{&h.Name, &h.MessageID} {
		if clean := s.Text(*text); clean != *text {
			*text, changed = clean, true
		}
	}
	return short, changed
}

// Own returns the values that a head's own identifiers have: they are its
// person's, also where somebody else's identifier of another type is written
// alike.
func (s *Set) Own(h *event.Head) (own []string) {
	for _, id := range h.IDs {
		if s.long[fold(id.Value)] && !s.Has(id) {
			own = append(own, id.Value)
		}
	}
	return own
}

// JSON takes the values of the set out of a JSON text, and short ones that are
// named besides: a string or a number that is one becomes null, one within a
// longer string or the name of a member becomes Erased. Values of own stay. It
// returns the text itself when there is nothing to take out.
func (s *Set) JSON(body []byte, short, own []string) []byte {
	if s.Empty() || len(short) == 0 && !s.In(body) {
		return body
	}
	w := walk{set: s, body: body, short: short, own: own}
	w.value(0)
	if w.out == nil {
		return body
	}
	return append(w.out, body[w.from:]...)
}

// walk is JSON at work. The text is valid JSON, which events are held to before
// they are kept; of any other it changes what it understands.
type walk struct {
	set        *Set
	body       []byte
	short, own []string
	out        []byte // nil: nothing was changed
	from       int    // what of body has not been written to out yet
}

// value goes through the text from i on.
func (w *walk) value(i int) {
	for i < len(w.body) {
		switch c := w.body[i]; {
		case c == '"':
			end := stringEnd(w.body, i)
			w.text(i, end)
			i = end
		case c == '-' || c >= '0' && c <= '9':
			end := i + 1
			for end < len(w.body) && isNumber(w.body[end]) {
				end++
			}
			if raw := string(w.body[i:end]); w.is(raw) {
				w.put(i, end, "null")
			}
			i = end
		default:
			i++
		}
	}
}

// text looks at the string between two places, quotes included.
func (w *walk) text(i, end int) {
	raw := w.body[i:end]
	if len(raw) < 2 {
		return
	}
	plain := string(raw[1 : len(raw)-1])
	if slices.Contains(raw, '\\') {
		plain = gjson.ParseBytes(raw).String()
	}
	member := false
	for j := end; j < len(w.body); j++ {
		if c := w.body[j]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			member = c == ':'
			break
		}
	}
	switch {
	case w.is(plain) && !member:
		w.put(i, end, "null")
	case w.is(plain):
		w.put(i, end, `"`+Erased+`"`)
	default:
		if clean := w.set.Text(plain); clean != plain && !w.holdsOwn(plain) {
			if b, err := json.Marshal(clean); err == nil { // a string always can
				w.put(i, end, string(b))
			}
		}
	}
}

func (w *walk) is(text string) bool {
	return slices.Contains(w.short, text) || w.set.whole(text) && !slices.Contains(w.own, text)
}

// holdsOwn reports whether all that Text would take out of a text is the
// person's own.
func (w *walk) holdsOwn(text string) bool {
	b := []byte(text)
	for i := 0; ; {
		at, n := w.set.next(b, i)
		if n == 0 {
			return true
		}
		if alone(b, at, n) && !slices.Contains(w.own, string(b[at:at+n])) {
			return false
		}
		i = at + 1
	}
}

func (w *walk) put(i, end int, instead string) {
	w.out = append(append(w.out, w.body[w.from:i]...), instead...)
	w.from = end
}

// stringEnd returns the place behind the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}
