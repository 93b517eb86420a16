package cli

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

// plain writes text for people. Whoever may send events chooses the names in
// it, and must not steer the terminal with them: control characters, and those
// that turn the direction of writing, become U+FFFD.
type plain struct{ to io.Writer }

// Write writes whole characters.
func (w plain) Write(p []byte) (int, error) {
	text := bytes.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError
		}
		return r
	}, p)
	if _, err := w.to.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}
