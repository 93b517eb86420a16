package fql

import (
	"strings"
	"unicode/utf8"
)

// MaxPatternBytes is the longest pattern of match. It bounds what one look
// costs: a pattern that stands in an event and is longer matches nothing.
const MaxPatternBytes = 256

// glob is a compiled pattern: * stands for any number of characters, ? for one,
// [abc] and [a-z] for one of those, [^abc] for one of the others, and \x for x.
// It matches the whole text, case counts, and "/" is a character like others
// (Segment's filter query language, match; [^…] from its published matcher).
type glob struct {
	chunks []chunk // between stars
	head   bool    // the pattern does not begin with a star
	tail   bool    // it does not end with one
}

// chunk is a run of signs, each of which stands for one character.
type chunk struct {
	plain string // when all of them stand for themselves
	signs []sign
}

// sign stands for one character.
type sign struct {
	char   rune // itself, unless any or ranges say otherwise
	any    bool
	not    bool
	ranges [][2]rune
}

// compileGlob reads a pattern, or says what is wrong with it.
func compileGlob(pattern string) (g *glob, wrong string) {
	if len(pattern) > MaxPatternBytes {
		return nil, "a pattern is at most 256 bytes long"
	}
	g = &glob{head: !strings.HasPrefix(pattern, "*"), tail: true}
	var signs []sign
	end := func() {
		if len(signs) > 0 {
			g.chunks = append(g.chunks, newChunk(signs))
			signs = nil
		}
	}
	for rest := pattern; rest != ""; {
		c, n := utf8.DecodeRuneInString(rest)
		rest = rest[n:]
		g.tail = c != '*'
		switch c {
		case '*':
			end()
		case '?':
			signs = append(signs, sign{any: true})
		case '[':
			s := sign{}
			if s, rest, wrong = readClass(rest); wrong != "" {
				return nil, wrong
			}
			signs = append(signs, s)
		case '\\':
			if rest == "" {
				return nil, `the pattern ends with a "\"; write "\\" for one`
			}
			c, n = utf8.DecodeRuneInString(rest)
			rest = rest[n:]
			fallthrough
		default:
			signs = append(signs, sign{char: c})
		}
	}
	end()
	return g, ""
}

// readClass reads what follows "[".
func readClass(rest string) (s sign, after, wrong string) {
	const open = `the "[" of the pattern is not closed; write "\[" for the sign itself`
	if strings.HasPrefix(rest, "^") {
		s.not, rest = true, rest[1:]
	}
	next := func() (rune, string) {
		c, n := utf8.DecodeRuneInString(rest)
		if rest == "" {
			return 0, open
		}
		if c == '-' || c == ']' {
			return 0, `"` + string(c) + `" cannot stand there between "[" and "]"; put a "\" before it`
		}
		if rest = rest[n:]; c == '\\' {
			if c, n = utf8.DecodeRuneInString(rest); n == 0 {
				return 0, open
			}
			rest = rest[n:]
		}
		return c, ""
	}
	for {
		if strings.HasPrefix(rest, "]") && len(s.ranges) > 0 {
			return s, rest[1:], ""
		}
		lo, wrong := next()
		if wrong != "" {
			return s, "", wrong
		}
		hi := lo
		if strings.HasPrefix(rest, "-") {
			rest = rest[1:]
			if hi, wrong = next(); wrong != "" {
				return s, "", wrong
			}
			if hi < lo {
				return s, "", `the range "` + string(lo) + "-" + string(hi) + `" of the pattern is the wrong way round`
			}
		}
		s.ranges = append(s.ranges, [2]rune{lo, hi})
	}
}

func newChunk(signs []sign) chunk {
	var b strings.Builder
	for i := range signs {
		if signs[i].any || signs[i].ranges != nil {
			return chunk{signs: signs}
		}
		b.WriteRune(signs[i].char)
	}
	return chunk{plain: b.String()}
}

// match reports whether the pattern matches the whole text. Each chunk is
// looked for once from where the one before has ended, so that a look costs at
// most the text's length times the pattern's.
func (g *glob) match(s string) bool {
	if len(g.chunks) == 0 {
		return s == "" || !g.head || !g.tail
	}
	chunks := g.chunks
	if g.head {
		n := chunks[0].prefix(s)
		if n < 0 {
			return false
		}
		if s = s[n:]; len(chunks) == 1 && g.tail {
			return s == ""
		}
		chunks = chunks[1:]
	}
	if g.tail && len(chunks) > 0 {
		last := chunks[len(chunks)-1]
		n := last.suffix(s)
		if n < 0 {
			return false
		}
		s, chunks = s[:n], chunks[:len(chunks)-1]
	}
	for i := range chunks {
		after, ok := chunks[i].cut(s)
		if !ok {
			return false
		}
		s = after
	}
	return true
}

// prefix returns how many bytes of s the chunk takes at its beginning, or -1.
func (c *chunk) prefix(s string) int {
	if c.signs == nil {
		if strings.HasPrefix(s, c.plain) {
			return len(c.plain)
		}
		return -1
	}
	at := 0
	for i := range c.signs {
		if at == len(s) {
			return -1
		}
		r, n := utf8.DecodeRuneInString(s[at:])
		if !c.signs[i].takes(r) {
			return -1
		}
		at += n
	}
	return at
}

// suffix returns where in s the chunk begins when it stands at the end, or -1.
func (c *chunk) suffix(s string) int {
	if c.signs == nil {
		if strings.HasSuffix(s, c.plain) {
			return len(s) - len(c.plain)
		}
		return -1
	}
	at := len(s)
	for i := len(c.signs) - 1; i >= 0; i-- {
		if at == 0 {
			return -1
		}
		r, n := utf8.DecodeLastRuneInString(s[:at])
		if !c.signs[i].takes(r) {
			return -1
		}
		at -= n
	}
	return at
}

// cut returns what follows the first place in s where the chunk stands.
func (c *chunk) cut(s string) (after string, ok bool) {
	if c.signs == nil {
		if i := strings.Index(s, c.plain); i >= 0 {
			return s[i+len(c.plain):], true
		}
		return "", false
	}
	for {
		if n := c.prefix(s); n >= 0 {
			return s[n:], true
		}
		if s == "" {
			return "", false
		}
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
}

func (s *sign) takes(r rune) bool {
	if s.any {
		return true
	}
	if s.ranges == nil {
		return r == s.char
	}
	for _, x := range s.ranges {
		if x[0] <= r && r <= x[1] {
			return !s.not
		}
	}
	return s.not
}
