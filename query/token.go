package query

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"kith/fault"
)

// Pos is a place in a query's text, both counted from one, columns in
// characters.
type Pos struct{ Line, Column int }

// String returns "line:column".
func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }

// Error is what is wrong with a query and where.
type Error struct {
	Pos
	Message string
}

// Error returns "line:column: message".
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

// refuse returns a fault.Invalid error; errors.As finds the *Error in it.
func refuse(at Pos, format string, args ...any) error {
	return fault.New(fault.Invalid, "%w", &Error{Pos: at, Message: fmt.Sprintf(format, args...)})
}

type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a function, a keyword, a unit
	tokenString           // text is what the quotes hold, unescaped
	tokenNumber           // text is as written
	tokenDate             // text is as written
	tokenSign             // ( ) { } [ ] , : . and the comparison signs
)

type token struct {
	kind tokenKind
	text string
	at   Pos
}

// String describes the token as an error names it.
func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the query"
	case tokenString:
		return "the string " + quote(shorten(t.text))
	}
	return fmt.Sprintf("%q", shorten(t.text))
}

// shorten keeps an error readable when the text it cites is long.
func shorten(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// lexer cuts a text into tokens. The text is valid UTF-8.
type lexer struct {
	text string
	off  int
	pos  Pos
}

func (l *lexer) peek() rune {
	if l.off >= len(l.text) {
		return 0
	}
	r, _ := utf8.DecodeRuneInString(l.text[l.off:])
	return r
}

func (l *lexer) step() rune {
	r, n := utf8.DecodeRuneInString(l.text[l.off:])
	l.off += n
	if r == '\n' {
		l.pos.Line++
		l.pos.Column = 1
	} else {
		l.pos.Column++
	}
	return r
}

// take steps over an ASCII run of n characters without line breaks.
func (l *lexer) take(n int) string {
	s := l.text[l.off : l.off+n]
	l.off += n
	l.pos.Column += n
	return s
}

func (l *lexer) next() (token, error) {
	for l.off < len(l.text) && strings.ContainsRune(" \t\r\n\u00a0\ufeff", l.peek()) {
		l.step()
	}
	at := l.pos
	if l.off >= len(l.text) {
		return token{kind: tokenEnd, at: at}, nil
	}
	rest := l.text[l.off:]
	switch c := l.peek(); {
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rune(rest[n])) || isDigit(rune(rest[n]))) {
			n++
		}
		return token{kind: tokenWord, text: l.take(n), at: at}, nil
	case c == '\'' || c == '"':
		s, err := l.string()
		return token{kind: tokenString, text: s, at: at}, err
	case isDigit(c) || c == '-' && len(rest) > 1 && isDigit(rune(rest[1])):
		if n := dateLength(rest); n > 0 {
			return token{kind: tokenDate, text: l.take(n), at: at}, nil
		}
		n := numberLength(rest)
		return token{kind: tokenNumber, text: l.take(n), at: at}, nil
	case strings.ContainsRune("‘’“”„", c):
		return token{}, refuse(at, "found the typographic quote %q: strings stand between plain quotes, 'like this'", c)
	}
	for _, sign := range []string{">=", "<=", "==", "!=", "=", ">", "<", "(", ")", "{", "}", "[", "]", ",", ":", "."} {
		if strings.HasPrefix(rest, sign) {
			return token{kind: tokenSign, text: l.take(len(sign)), at: at}, nil
		}
	}
	return token{}, refuse(at, "found the character %q, which has no meaning here", l.peek())
}

// string reads a quoted string. \\, \', \", \n, \r and \t are escapes; "\."
// keeps its backslash, since it is the path's escape and not the string's.
func (l *lexer) string() (string, error) {
	at := l.pos
	end := l.step()
	var b strings.Builder
	for l.off < len(l.text) {
		pos := l.pos
		switch c := l.step(); c {
		case end:
			return b.String(), nil
		case '\\':
			if l.off >= len(l.text) {
				continue
			}
			switch e := l.step(); e {
			case '\\', '\'', '"':
				b.WriteRune(e)
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '.':
				b.WriteString(`\.`)
			default:
				return "", refuse(pos, `found the escape "\%c": a string knows \\ \' \" \. \n \r and \t`, e)
			}
		default:
			b.WriteRune(c)
		}
	}
	return "", refuse(at, "the string that begins here has no closing %c", end)
}

func isLetter(c rune) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c rune) bool  { return c >= '0' && c <= '9' }

// numberLength returns how much of s, which begins with a number, is one.
func numberLength(s string) int {
	digits := func(i int) int {
		for i < len(s) && isDigit(rune(s[i])) {
			i++
		}
		return i
	}
	n := 0
	if s[0] == '-' {
		n++
	}
	n = digits(n)
	if n+1 < len(s) && s[n] == '.' && isDigit(rune(s[n+1])) {
		n = digits(n + 1)
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		i := n + 1
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if i < len(s) && isDigit(rune(s[i])) {
			n = digits(i)
		}
	}
	return n
}

// dateLength returns how much of s is a bare date or timestamp, or zero.
func dateLength(s string) int {
	if !shaped(s, "0000-00-00") {
		return 0
	}
	n := 10
	if len(s) > n && s[n] == 'T' {
		n++
		for n < len(s) && (isDigit(rune(s[n])) || strings.IndexByte(":.+-Z", s[n]) >= 0) {
			n++
		}
		// A dot that ends the timestamp begins what is chained to it.
		if s[n-1] == '.' {
			n--
		}
	}
	return n
}

// shaped reports whether s begins with the shape: digits where it has zeros,
// the same characters elsewhere.
func shaped(s, shape string) bool {
	if len(s) < len(shape) {
		return false
	}
	for i := range len(shape) {
		if shape[i] == '0' && !isDigit(rune(s[i])) || shape[i] != '0' && s[i] != shape[i] {
			return false
		}
	}
	return true
}
