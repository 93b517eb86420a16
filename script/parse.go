package script

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kith/fault"
)

// Parse reads a script. file is its name for people. The error, if any, is a
// fault.Invalid with the *Error of the first mistake in its chain.
func Parse(file string, text []byte) (*Script, error) {
	p := parser{newScanner(file, text)}
	out := &Script{File: file}
	err := p.script(out)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err)
	}
	return out, nil
}

type parser struct{ scanner }

func (p *parser) script(out *Script) error {
	if len(p.text) > MaxBytes {
		return p.fail(0, fmt.Sprintf("the script has %d bytes; at most %d are read", len(p.text), MaxBytes))
	}
	if !utf8.Valid(p.text) {
		return p.fail(0, "the script is not UTF-8")
	}
	source := false // whether one is set
	for more := len(p.text) > 0; more; more = p.nextLine() {
		if p.ended() {
			continue
		}
		at := p.at
		s, err := p.statement()
		if err != nil {
			return err
		}
		if !p.ended() {
			at := p.at
			return p.fail(at, fmt.Sprintf("the statement should end before %q", p.bare("")))
		}
		switch s := s.(type) {
		case *Source:
			source = true
		case *Send:
			if s.Source == "" && !source {
				return p.fail(at, `no source is set: write "source SLUG" before, or "send SLUG …"`)
			}
		case *Expect:
			s.Text = strings.TrimSpace(string(p.text[at:p.at]))
		}
		out.Statements = append(out.Statements, s)
	}
	return nil
}

const statements = "workspace, space, source, event, send, advance, answer, expect or an order: separate, block, lift, delete, leave, erase, rebuild"

func (p *parser) statement() (Statement, error) {
	at := p.at
	pos := p.pos(at)
	switch word := p.bare(""); word {
	case "workspace":
		file, err := p.word("the name of a workspace file")
		return &Workspace{pos, file}, err
	case "space":
		slug, err := p.word("the slug of a space")
		return &Space{pos, slug}, err
	case "source":
		slug, err := p.word("the slug of a source")
		return &Source{pos, slug}, err
	case "event":
		return p.send(pos, "")
	case "send":
		slug, err := p.word("the slug of a source")
		if err != nil {
			return nil, err
		}
		return p.send(pos, slug)
	case "advance":
		by, err := p.duration()
		return &Advance{pos, by}, err
	case "answer":
		slug, err := p.word("the slug of a destination")
		if err != nil {
			return nil, err
		}
		status, err := p.number("an HTTP status", 200, 599)
		return &Answer{pos, slug, status}, err
	case "expect":
		return p.expect(pos)
	case "separate", "block", "lift", "delete", "leave", "erase", "rebuild":
		return p.order(pos, word)
	default:
		return nil, p.fail(at, fmt.Sprintf("%q is no statement; want %s", word, statements))
	}
}

// number reads a whole number from least to most.
func (p *parser) number(what string, least, most int) (int, error) {
	p.spaces()
	at := p.at
	word, err := p.word(what)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		return 0, p.fail(at, fmt.Sprintf("%q is not %s: want a whole number from %d to %d", word, what, least, most))
	}
	return n, nil
}

func (p *parser) duration() (time.Duration, error) {
	p.spaces()
	at := p.at
	word, err := p.word("a duration, such as 60d")
	if err != nil {
		return 0, err
	}
	d, ok := parseDuration(word)
	if !ok {
		return 0, p.fail(at, fmt.Sprintf("%q is not a duration: want something like 60d, 1d12h or 500ms (w d h m s ms)", word))
	}
	return d, nil
}

// parseDuration reads a sum of numbers with units, up to about 290 years.
func parseDuration(s string) (time.Duration, bool) {
	const day = 24 * time.Hour
	units := []struct {
		name string
		size time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}, {"w", 7 * day}}
	var sum time.Duration
	for s != "" {
		digits := 0
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil {
			return 0, false
		}
		s = s[digits:]
		known := false
		for _, u := range units {
			if strings.HasPrefix(s, u.name) {
				if n > int64((1<<63-1-sum)/u.size) {
					return 0, false
				}
				sum += time.Duration(n) * u.size
				s, known = s[len(u.name):], true
				break
			}
		}
		if !known {
			return 0, false
		}
	}
	return sum, true
}

func (p *parser) expect(pos Pos) (Statement, error) {
	e := &Expect{Pos: pos}
	if p.peek() == "not" {
		_ = p.bare("")
		e.Not = true
	}
	p.spaces()
	at := p.at
	word, err := p.word("what is expected")
	if err != nil {
		return nil, err
	}
	switch word {
	case "profile":
		e.What, err = p.profile()
	case "trait":
		e.What, err = p.traits()
	case "identifiers":
		var ids []string
		ids, err = p.ids(2)
		e.What = Identifiers{ids}
	case "same", "different":
		p.spaces()
		here := p.at
		if w := p.peek(); w != "profile" && w != "profiles" {
			return nil, p.fail(here, fmt.Sprintf(`want "profiles" behind %q`, word))
		}
		_ = p.bare("")
		var ids []string
		ids, err = p.ids(2)
		e.What = Same{ids}
		if word == "different" {
			e.What = Different{ids}
		}
	case "linked":
		var ids []string
		if ids, err = p.some(2); err == nil {
			e.What = Linked{ids[0], ids[1]}
		}
	case "events":
		e.What, err = p.events()
	case "audience":
		e.What, err = p.audience()
	case "delivered":
		d := Delivered{}
		if d.Destination, err = p.word("the slug of a destination"); err == nil {
			d.Matching, err = p.matching()
		}
		e.What = d
	case "blocked", "rejected":
		var source, text string
		var count *int
		if source, err = p.word("the slug of a source"); err == nil {
			text, count, err = p.refused()
		}
		e.What = Blocked{source, text, count}
		if word == "rejected" {
			e.What = Rejected{source, text, count}
		}
	default:
		return nil, p.fail(at, fmt.Sprintf("%q cannot be expected; want profile, trait, identifiers, same, different, linked, events, audience, delivered, blocked or rejected", word))
	}
	return e, err
}

// id reads an identifier, type:value.
func (p *parser) id() (string, error) {
	p.spaces()
	at := p.at
	word, err := p.word("an identifier, such as user_id:u1")
	if err != nil {
		return "", err
	}
	if kind, value, ok := strings.Cut(word, ":"); (!ok || kind == "" || value == "") && !strings.HasPrefix(word, "use_") {
		return "", p.fail(at, fmt.Sprintf("%q is not an identifier: want type:value, such as user_id:u1", word))
	}
	return word, nil
}

// ids reads identifiers to the end of the line, at least that many.
func (p *parser) ids(least int) ([]string, error) {
	var list []string
	for len(list) < least || !p.ended() {
		id, err := p.id()
		if err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, nil
}

func (p *parser) profile() (Condition, error) {
	id, err := p.id()
	t := Traits{ID: id}
	if err != nil || p.ended() {
		return t, err
	}
	at := p.at
	raw, err := p.brackets()
	if err != nil {
		return t, err
	}
	fields, ok := members(raw)
	if !ok {
		return t, p.fail(at, "want the traits as a JSON object")
	}
	t.Want = fields
	return t, nil
}

func (p *parser) traits() (Condition, error) {
	id, err := p.id()
	if err != nil {
		return nil, err
	}
	fields, err := p.fields()
	return Traits{ID: id, Want: fields}, err
}

// fields reads one field or more, to the end of the line.
func (p *parser) fields() ([]Field, error) {
	var list []Field
	for len(list) == 0 || !p.ended() {
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func (p *parser) events() (Condition, error) {
	id, err := p.id()
	if err != nil {
		return nil, err
	}
	e := Events{ID: id}
	if e.Name, err = p.word("the name of an event"); err != nil {
		return nil, err
	}
	e.Matching, err = p.matching()
	return e, err
}

func (p *parser) audience() (Condition, error) {
	var a Audience
	var err error
	if a.Key, err = p.word("the key of an audience"); err != nil {
		return nil, err
	}
	if a.ID, err = p.id(); err != nil {
		return nil, err
	}
	p.spaces()
	at := p.at
	switch word, _ := p.word(""); word {
	case "in":
		a.In = true
	case "out":
	default:
		return nil, p.fail(at, `want "in" or "out" here`)
	}
	return a, nil
}

const maxCount = 1_000_000_000

// matching reads [ count N ] [ where field … ].
func (p *parser) matching() (m Matching, err error) {
	if p.peek() == "count" {
		_ = p.bare("")
		n, err := p.number("a count", 0, maxCount)
		if err != nil {
			return m, err
		}
		m.Count = &n
	}
	if p.peek() == "where" {
		_ = p.bare("")
		m.Where, err = p.fields()
	}
	return m, err
}

// refused reads [ "text" ] [ count N ].
func (p *parser) refused() (text string, count *int, err error) {
	if !p.ended() && p.text[p.at] == '"' {
		if text, err = p.quoted(); err != nil {
			return "", nil, err
		}
	}
	m, err := p.matching()
	if err == nil && m.Where != nil {
		err = p.fail(p.at, `"where" cannot stand here: a refused event is known by its reason`)
	}
	return text, m.Count, err
}
