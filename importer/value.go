package importer

import (
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/event"
)

// appendValue writes a cell as the JSON value of a trait, or says why not. The
// cell is UTF-8 and not empty.
func appendValue(out []byte, cell, kind string) ([]byte, flaw) {
	text := strings.TrimSpace(cell)
	switch kind {
	case typeString:
		return gjson.AppendJSONString(out, cell), flaw{}
	case typeNumber:
		if !isNumber(text) {
			return out, flaw{"is not a number", "write it with digits and a dot, as -12.5 or 1e6, without separators of thousands and without a unit"}
		}
		return append(out, text...), flaw{}
	case typeBoolean:
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			return append(out, "true"...), flaw{}
		case "false", "no", "0":
			return append(out, "false"...), flaw{}
		}
		return out, flaw{"is neither true nor false", "write true or false (yes, no, 1 and 0 are read, too)"}
	case typeDate:
		at, ok := date(text)
		if !ok {
			return out, flaw{"is not a date", "write it as 2026-01-31 or 2026-01-31T14:30:00Z"}
		}
		return append(append(append(out, '"'), at...), '"'), flaw{}
	case typeJSON:
		repeated, err := event.CheckJSON([]byte(text))
		if err != nil {
			return out, flaw{err.Error(), `write a JSON value, as ["a","b"] or {"a":1}; mind the doubled quotes of CSV`}
		}
		if repeated {
			return append(out, event.LastWins([]byte(text))...), flaw{}
		}
		return append(out, text...), flaw{}
	}
	return appendGuessed(out, cell, text), flaw{}
}

// appendGuessed writes a number or a truth value where nothing is lost by it: a
// number as it would be written itself (not 007, +49 or 1,5, and not longer
// than what every reader of JSON holds), true and false. All else is text.
func appendGuessed(out []byte, cell, text string) []byte {
	switch text {
	case "true", "TRUE", "True":
		return append(out, "true"...)
	case "false", "FALSE", "False":
		return append(out, "false"...)
	}
	if len(text) <= 17 && isNumber(text) && !strings.ContainsAny(text, "eE") {
		digits := strings.TrimLeft(strings.Replace(text, ".", "", 1), "-0")
		if len(digits) <= 15 {
			return append(out, text...)
		}
	}
	return gjson.AppendJSONString(out, cell)
}

// isNumber reports whether a text is a number of JSON (RFC 8259, section 6).
func isNumber(s string) bool {
	digits := func() bool {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	s = strings.TrimPrefix(s, "-")
	if strings.HasPrefix(s, "0") {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if s = rest; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// date reads a day or an instant, and returns it as ISO 8601.
func date(text string) (string, bool) {
	if _, err := time.Parse(time.DateOnly, text); err == nil {
		return text, true
	}
	at, ok := instant(text)
	return at, ok
}

// instant reads an instant with its zone and returns it as timestamps are
// written.
func instant(text string) (string, bool) {
	at, ok := event.ParseTime(strings.Replace(text, " ", "T", 1))
	if !ok {
		return "", false
	}
	return event.FormatTime(at), true
}

// timestamp reads when a row was so: an instant, a day (its beginning in UTC),
// or seconds since 1970.
func timestamp(text string) (string, bool) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return event.FormatTime(day), day.Year() >= 1970
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return event.FormatTime(time.Unix(seconds, 0)), seconds > 0 && seconds < 1e10
	}
	at, ok := instant(text)
	return at, ok && at >= "1970"
}
