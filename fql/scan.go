package fql

import (
	"strings"
	"unicode/utf8"

	"kith/fault"
)

// word is a token of an expression.
type word struct {
	kind kind
	text string   // as it was written
	path []string // of a name: its parts, without backslashes
	at   int      // bytes from the beginning
}

// String names the word as it is spoken of in messages.
func (w word) String() string {
	if w.kind == eos {
		return "the end"
	}
	return w.text
}

// scanner cuts an expression into words. Unlike the lexer of triggers it has no
// published accidents to keep: it takes all that Segment's documents show, and
// does not ask for spaces where nothing is unclear without them.
type scanner struct {
	src string
	at  int
}

// scan returns the words of an expression, with eos as the last.
func scan(src string) ([]word, error) {
	s := &scanner{src: src}
	var words []word
	for {
		s.skipSpace()
		start := s.at
		w, err := s.word()
		if err != nil {
			return nil, err
		}
		w.at = start
		if w.text == "" {
			w.text = src[start:s.at]
		}
		words = append(words, w)
		if w.kind == eos {
			return words, nil
		}
	}
}

func (s *scanner) skipSpace() {
	for s.at < len(s.src) && isBlank(s.src[s.at]) {
		s.at++
	}
}

// accept moves over a sign that comes next.
func (s *scanner) accept(c byte) bool {
	if s.at < len(s.src) && s.src[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) word() (word, error) {
	if s.at == len(s.src) {
		return word{kind: eos}, nil
	}
	start, c := s.at, s.src[s.at]
	if startsName(c) {
		return s.name()
	}
	s.at++
	switch c {
	case '(':
		return word{kind: parenLeft}, nil
	case ')':
		return word{kind: parenRight}, nil
	case '[', ']':
		return word{kind: bracket}, nil
	case ',':
		return word{kind: comma}, nil
	case '=':
		if s.accept('=') {
			return word{}, failAt(s.src, start, `there is no "=="; write "="`)
		}
		return word{kind: operator}, nil
	case '!', '>':
		s.accept('=')
		return word{kind: operator}, nil
	case '<':
		if s.accept('>') {
			return word{}, failAt(s.src, start, `there is no "<>"; write "!="`)
		}
		s.accept('=')
		return word{kind: operator}, nil
	case '&', '|':
		return word{}, failAt(s.src, start, `%q is no part of the language; conditions are joined with "and" and "or"`, string(rune(c)))
	case '"', '\'':
		end := strings.IndexByte(s.src[s.at:], c)
		if end < 0 {
			return word{}, failAt(s.src, start, "the text is not closed; it wants another %c", c)
		}
		s.at += end + 1
		return word{kind: text, text: s.src[start:s.at]}, nil
	}
	if isDigit(int(c)) || c == '-' || c == '+' {
		return s.number(start)
	}
	r, _ := utf8.DecodeRuneInString(s.src[start:])
	return word{}, failAt(s.src, start, `%q is no part of the language; a text wants quotes around it, and in a field's name a "\" before it`, string(r))
}

func (s *scanner) number(start int) (word, error) {
	if !isDigit(int(s.src[start])) && (s.at == len(s.src) || !isDigit(int(s.src[s.at]))) {
		return word{}, failAt(s.src, start, `a number follows a "%c"; in a field's name put a "\" before it`, s.src[start])
	}
	s.digits()
	if s.accept('.') {
		if s.at == len(s.src) || !isDigit(int(s.src[s.at])) {
			return word{}, failAt(s.src, s.at-1, "a number does not end with a point")
		}
		s.digits()
	}
	if s.at < len(s.src) && !endsWordAt(s.src[s.at]) {
		return word{}, failAt(s.src, s.at, `%q cannot follow a number; a name that begins with a digit wants a "\" before it, a text quotes around it`, s.src[s.at:s.at+1])
	}
	return word{kind: number}, nil
}

func (s *scanner) digits() {
	for s.at < len(s.src) && isDigit(int(s.src[s.at])) {
		s.at++
	}
}

// name reads a path or a word of the language.
func (s *scanner) name() (word, error) {
	start := s.at
	w := word{kind: ident}
	for {
		part, err := s.part()
		if err != nil {
			return w, err
		}
		w.path = append(w.path, part)
		end := s.at
		s.skipSpace()
		if !s.accept('.') {
			s.at = end
			break
		}
		s.skipSpace()
		if s.at == len(s.src) || !startsName(s.src[s.at]) && !inName(int(s.src[s.at])) {
			return w, failAt(s.src, s.at, "after the point a name is expected")
		}
	}
	if s.at < len(s.src) && !endsWordAt(s.src[s.at]) {
		r, _ := utf8.DecodeRuneInString(s.src[s.at:])
		return w, failAt(s.src, s.at, `%q cannot follow a name; put a "\" before it if it belongs to the name`, string(r))
	}
	if s.at < len(s.src) && s.src[s.at] == '[' {
		return w, failAt(s.src, s.at, "an item of a list is named by its number, as in products.0")
	}
	w.text = s.src[start:s.at]
	switch w.text {
	case "and", "or":
		w.kind = conjunction
	case "in":
		w.kind = operator
	case "null":
		w.kind = null
	case "true", "false":
		w.kind = flag
	}
	return w, nil
}

// part reads a name up to the next point.
func (s *scanner) part() (string, error) {
	var b strings.Builder
	for s.at < len(s.src) {
		c := s.src[s.at]
		if c == '\\' {
			r, n := utf8.DecodeRuneInString(s.src[s.at+1:])
			if n == 0 {
				return "", failAt(s.src, s.at, `nothing follows the "\"`)
			}
			b.WriteRune(r)
			s.at += 1 + n
			continue
		}
		if !inName(int(c)) {
			break
		}
		b.WriteByte(c)
		s.at++
	}
	return b.String(), nil
}

// failAt returns an error that says where, in characters counted from one.
func failAt(src string, at int, format string, args ...any) error {
	return fault.New(fault.Invalid, "character %d: "+format, append([]any{utf8.RuneCountInString(src[:at]) + 1}, args...)...)
}

func isBlank(c byte) bool    { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func startsName(c byte) bool { return isLetter(int(c)) || c == '_' || c == '\\' }

// endsWordAt reports whether a name or a number may end before c.
func endsWordAt(c byte) bool {
	return isBlank(c) || strings.IndexByte(`.,()[]=!<>`, c) >= 0
}
