package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// scanner reads a script word by word.
type scanner struct {
	file  string
	text  []byte
	at    int   // where it stands, in bytes
	lines []int // where each line begins
}

func newScanner(file string, text []byte) scanner {
	s := scanner{file: file, text: text, lines: []int{0}}
	for i, c := range text {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// pos returns the line and column of a byte.
func (s *scanner) pos(at int) Pos {
	line, exact := slices.BinarySearch(s.lines, at)
	if !exact {
		line--
	}
	return Pos{Line: line + 1, Column: 1 + utf8.RuneCount(s.text[s.lines[line]:at])}
}

func (s *scanner) fail(at int, message string) *Error {
	return &Error{File: s.file, Pos: s.pos(at), Message: message}
}

// spaces skips what stands between words.
func (s *scanner) spaces() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t' || s.text[s.at] == '\r') {
		s.at++
	}
}

// ended skips spaces and reports whether the statement ends here.
func (s *scanner) ended() bool {
	s.spaces()
	return s.at == len(s.text) || s.text[s.at] == '\n' || s.text[s.at] == '#'
}

// nextLine goes to the beginning of the next line; it reports false at the end
// of the script.
func (s *scanner) nextLine() bool {
	i := bytes.IndexByte(s.text[s.at:], '\n')
	if i < 0 {
		s.at = len(s.text)
		return false
	}
	s.at += i + 1
	return s.at < len(s.text)
}

// word reads a word, which what names in an error.
func (s *scanner) word(what string) (string, error) {
	if s.ended() {
		return "", s.fail(s.at, "want "+what+" here")
	}
	if s.text[s.at] == '"' {
		return s.quoted()
	}
	return s.bare(""), nil
}

// peek returns the word that comes next without reading it, or "".
func (s *scanner) peek() string {
	if s.ended() || s.text[s.at] == '"' {
		return ""
	}
	at := s.at
	w := s.bare("")
	s.at = at
	return w
}

// bare reads characters up to a space or one of stop.
func (s *scanner) bare(stop string) string {
	from := s.at
	for s.at < len(s.text) && !strings.ContainsRune(" \t\r\n"+stop, rune(s.text[s.at])) {
		s.at++
	}
	return string(s.text[from:s.at])
}

// quoted reads a JSON string.
func (s *scanner) quoted() (string, error) {
	from := s.at
	for i := from + 1; i < len(s.text) && s.text[i] != '\n'; i++ {
		switch s.text[i] {
		case '\\':
			i++
		case '"':
			var out string
			if err := json.Unmarshal(s.text[from:i+1], &out); err != nil {
				return "", s.fail(from, "this text in quotes is no JSON string")
			}
			s.at = i + 1
			return out, nil
		}
	}
	return "", s.fail(from, "this quote is not closed on its line")
}

// brackets reads a JSON object or array, over several lines if need be.
func (s *scanner) brackets() (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(s.text[s.at:]))
	d.UseNumber()
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		at := s.at
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = min(s.at+max(int(syntax.Offset)-1, 0), len(s.text))
			return nil, s.fail(at, "not valid JSON: "+syntax.Error())
		}
		return nil, s.fail(at, "this JSON is not closed")
	}
	s.at += int(d.InputOffset())
	return raw, nil
}

// value reads the value of a field: JSON where it reads as JSON, text otherwise.
func (s *scanner) value() (json.RawMessage, error) {
	if s.at == len(s.text) || strings.ContainsRune(" \t\r\n", rune(s.text[s.at])) {
		return nil, s.fail(s.at, `want a value behind "="; for an empty text write ""`)
	}
	switch s.text[s.at] {
	case '{', '[':
		return s.brackets()
	case '"':
		text, err := s.quoted()
		if err != nil {
			return nil, err
		}
		return json.Marshal(text)
	}
	at := s.at
	word := s.bare("")
	if !utf8.ValidString(word) {
		return nil, s.fail(at, "this value is not UTF-8")
	}
	if json.Valid([]byte(word)) {
		return json.RawMessage(word), nil
	}
	return json.Marshal(word)
}

// field reads path=value.
func (s *scanner) field() (Field, error) {
	if s.ended() {
		return Field{}, s.fail(s.at, "want a field here, such as userId=u1")
	}
	var f Field
	for {
		var name string
		if at := s.at; at < len(s.text) && s.text[at] == '"' {
			quoted, err := s.quoted()
			if err != nil {
				return f, err
			}
			name = quoted
		} else if name = s.bare(`.={["`); name == "" {
			return f, s.fail(at, "want a field's name here")
		}
		f.Path = append(f.Path, name)
		if s.at == len(s.text) || s.text[s.at] != '.' {
			break
		}
		s.at++
	}
	if s.at == len(s.text) || s.text[s.at] != '=' {
		return f, s.fail(s.at, `want "=" and a value behind `+strings.Join(f.Path, "."))
	}
	s.at++
	value, err := s.value()
	f.Value = value
	return f, err
}
