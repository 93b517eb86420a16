package fql

import (
	"fmt"
	"strings"
	"unicode/utf16"

	"kith/fault"
)

// kind sorts tokens.
type kind uint8

const (
	eos kind = iota // the end of the text, or of a parenthesised group
	ident
	operator // = != < <= > >= !
	conjunction
	text
	number
	null
	dot
	comma
	parenLeft
	parenRight
	bracket
	flag // true, false; only in expressions
)

// token is a word of the language.
type token struct {
	kind kind
	text string // strings keep their quotes, names have lost their backslashes
	at   int    // UTF-16 code units from the beginning
}

// String names the token as it is spoken of in messages.
func (t token) String() string {
	if t.kind == eos {
		return "the end"
	}
	return t.text
}

const end = -1

// lexer cuts a text into tokens. It works on UTF-16 code units as the published
// lexer does: a backslash before a character beyond the basic plane escapes
// half of it there, and so it is an error here too.
type lexer struct {
	units []uint16
	at    int
	again int // where a closing quote was not read, counted from one
}

// lex returns the tokens of a text, with eos as the last.
func lex(src string) ([]token, error) {
	l := &lexer{units: utf16.Encode([]rune(src))}
	var tokens []token
	for {
		start := l.at
		t, err := l.token()
		if err != nil {
			return nil, err
		}
		if t.kind == blank {
			continue
		}
		t.at = start
		tokens = append(tokens, t)
		if t.kind == eos {
			return join(tokens), nil
		}
	}
}

// blank is the kind of the token that is none.
const blank kind = 255

// join makes one name of names with dots between them, with or without space
// around the dots.
func join(tokens []token) []token {
	joined := tokens[:0:0]
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		last := len(joined) - 1
		if t.kind == dot && last >= 0 && joined[last].kind == ident && tokens[i+1].kind == ident {
			joined[last].text += "." + tokens[i+1].text
			i++
			continue
		}
		joined = append(joined, t)
	}
	return joined
}

func (l *lexer) peek() int {
	if l.at == len(l.units) {
		return end
	}
	return int(l.units[l.at])
}

func (l *lexer) next() int {
	c := l.peek()
	if c != end {
		l.at++
	}
	return c
}

func (l *lexer) token() (token, error) {
	at := l.at
	c := l.next()
	switch {
	case c == end:
		return token{kind: eos}, nil
	case isSpace(c):
		return token{kind: blank}, nil
	case c == '!' && (isLetter(l.peek()) || l.peek() == '('):
		return token{kind: operator, text: "!"}, nil
	case c == '!':
		if l.accept("=") {
			return token{kind: operator, text: "!="}, nil
		}
		if l.peek() == '=' {
			return token{}, l.fail(at, "put a space after !=")
		}
		return token{}, l.fail(at, `after "!" comes "=" or a function`)
	case c == '=':
		return token{kind: operator, text: "="}, nil
	case c == '<' || c == '>':
		if l.accept("=") {
			return token{kind: operator, text: string(rune(c)) + "="}, nil
		}
		return token{kind: operator, text: string(rune(c))}, nil
	case c == 'a' && l.accept("nd"):
		return token{kind: conjunction, text: "and"}, nil
	case c == 'o' && l.accept("r"):
		return token{kind: conjunction, text: "or"}, nil
	case c == 'n' && l.accept("ull"):
		return token{kind: null, text: "null"}, nil
	case isLetter(c) || c == '\\' || c == '_':
		return l.name(c)
	case isDigit(c) || c == '-' || c == '+':
		return l.number(c)
	case c == '"' || c == '\'':
		return l.string(c)
	}
	mark := token{text: string(rune(c))}
	switch c {
	case '.':
		mark.kind = dot
	case ',':
		mark.kind = comma
	case '(':
		mark.kind = parenLeft
	case ')':
		mark.kind = parenRight
	case '[', ']':
		mark.kind = bracket
	default:
		return token{}, l.fail(at, "%q is no part of the language", string(utf16.Decode(l.units[at:])[:1]))
	}
	return mark, nil
}

// accept reads word where it stands alone, followed by space, ",", "]", ")" or
// the end. Where the text ends within the word, what was read of it is lost:
// the published lexer forgets to go back there ("… = an" reads as "… = a").
func (l *lexer) accept(word string) bool {
	start := l.at
	for range len(word) {
		c := l.next()
		if c == end {
			return false
		}
		if endsWord(c) {
			break
		}
	}
	if string(utf16.Decode(l.units[start:l.at])) == word && endsWord(l.peek()) {
		return true
	}
	l.at = start
	return false
}

func (l *lexer) name(c int) (token, error) {
	var name []uint16
	for {
		if c == '\\' {
			at := l.at - 1
			if c = l.next(); c == end {
				return token{}, l.fail(at, `nothing follows the "\"`)
			}
		}
		name = append(name, uint16(c))
		if !inName(l.peek()) {
			break
		}
		c = l.next()
	}
	switch c := l.peek(); {
	case endsWord(c), c == '.', c == '(', c == '=', c == '!':
		return token{kind: ident, text: string(utf16.Decode(name))}, nil
	case c == '<' || c == '>':
		return token{}, l.fail(l.at, "put a space before %c", c)
	default:
		return token{}, l.fail(l.at, `%q cannot follow a name; put a "\" before it if it belongs to the name`, string(rune(c)))
	}
}

func (l *lexer) number(c int) (token, error) {
	digits := string(rune(c))
	point := false
	for isDigit(l.peek()) || l.peek() == '.' {
		at := l.at
		c := l.next()
		if c == '.' {
			if endsWord(l.peek()) {
				return token{}, l.fail(at, "a number does not end with a point")
			}
			if point {
				return token{}, l.fail(at, "a number has one decimal point")
			}
			point = true
		}
		digits += string(rune(c))
	}
	return token{kind: number, text: digits}, nil
}

func (l *lexer) string(quote int) (token, error) {
	start := l.at - 1
	for l.peek() != quote {
		if l.next() == end {
			if l.again == start+1 {
				return token{}, l.fail(start, "put a space after the closing quote")
			}
			return token{}, l.fail(start, "the string is not closed; it wants another %c", quote)
		}
	}
	s := string(utf16.Decode(l.units[start:l.at])) + string(rune(quote))
	// A closing quote that something follows directly is not read: it opens
	// the next string.
	if !l.accept(string(rune(quote))) {
		l.again = l.at + 1
	}
	return token{kind: text, text: s}, nil
}

// fail returns an error that says where, in characters counted from one.
func (l *lexer) fail(at int, format string, args ...any) error {
	return fail(l.units, at, format, args...)
}

func fail(units []uint16, at int, format string, args ...any) error {
	return fault.New(fault.Invalid, "character %d: %s", character(units, at), fmt.Sprintf(format, args...))
}

// character returns the number of the character at a place, counted from one.
func character(units []uint16, at int) int {
	return len(utf16.Decode(units[:at])) + 1
}

func isSpace(c int) bool  { return c == ' ' || c == '\t' || c == '\n' }
func isDigit(c int) bool  { return '0' <= c && c <= '9' }
func isLetter(c int) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func inName(c int) bool   { return isLetter(c) || isDigit(c) || c == '_' || c == '-' || c == '\\' }
func endsWord(c int) bool { return c == end || isSpace(c) || c == ',' || c == ']' || c == ')' }

// unquote removes double quotes around a string. Single quotes stay, so that a
// single-quoted string matches nothing that people mean.
func unquote(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
}
