package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/event"
)

// maxShown is how much of a value is shown in a report, in bytes.
const maxShown = 100

// problem is something wrong with a row.
type problem struct {
	column string // the header; empty: the row as a whole
	value  string // of the cell, or its beginning
	flaw
}

// builder makes calls of rows.
type builder struct {
	id      string // of the import, which messageIds begin with
	options *Options
	columns []Column
	out     []byte

	identifiers map[string]string // of the row at hand, by type
}

// build returns the calls of a row, nothing for one without any value, or what
// is wrong with it. The row of a user is an identify call and, when it has a
// group_id, a group call that joins the two; that of an account is a group
// call.
func (b *builder) build(number uint64, r row) (calls []string, problems []problem) {
	if r.bad != (flaw{}) {
		return nil, []problem{{value: r.head, flaw: r.bad}}
	}
	if isEmpty(r.cells) {
		return nil, nil
	}
	if len(r.cells) != len(b.columns) {
		return nil, []problem{{value: head(strings.Join(r.cells, "|"), maxShown), flaw: flaw{
			fmt.Sprintf("the row has %d columns and the header has %d", len(r.cells), len(b.columns)),
			"put a value that holds the delimiter or a line break into quotes, and close every quote",
		}}}
	}
	clear(b.identifiers)
	at, known := "", false
	b.out = append(b.out[:0], `"traits":{`...)
	for i := range b.columns {
		c, cell := &b.columns[i], r.cells[i]
		bad := func(f flaw) {
			problems = append(problems, problem{c.Header, head(cell, maxShown), f})
		}
		if c.As == asIgnored {
			continue
		}
		if !utf8.ValidString(cell) {
			bad(flaw{"is not UTF-8", "save the file as UTF-8, or say how it is written, as encoding=windows-1252"})
			continue
		}
		blank := strings.TrimSpace(cell) == ""
		switch {
		case c.As == asTimestamp && blank:
		case c.As == asTimestamp:
			when, ok := timestamp(strings.TrimSpace(cell))
			if !ok {
				bad(flaw{"is not an instant since 1970", "write it as 2026-01-31T14:30:00Z, 2026-01-31 or as seconds since 1970"})
			}
			at = when
		case c.As == asIdentifier && blank:
		case c.As == asIdentifier:
			id := strings.TrimSpace(cell)
			if len(id) > event.MaxIdentifierBytes {
				bad(flaw{fmt.Sprintf("is an identifier of %d bytes; the most is %d", len(id), event.MaxIdentifierBytes), "shorten it, or map the column to a trait"})
				continue
			}
			b.identifiers[c.Name] = id
			known = known || c.Collection == b.options.Collection
			if (c.Name == emailID || c.Name == phoneID) && b.options.Collection == event.Users {
				b.trait(c.Name)
				b.out = gjson.AppendJSONString(b.out, id)
			}
		case cell == "" && b.options.Empty != emptyNull:
		case blank && (cell == "" || c.Type != typeString && c.Type != typeAuto):
			if b.options.Empty == emptyNull {
				b.trait(c.Name)
				b.out = append(b.out, "null"...)
			}
		default:
			b.trait(c.Name)
			var f flaw
			if b.out, f = appendValue(b.out, cell, c.Type); f != (flaw{}) {
				bad(f)
			}
			known = known || c.Finds != "" && b.options.Collection == event.Users
		}
	}
	switch {
	case len(problems) > 0:
		return nil, problems
	case b.options.Collection == event.Accounts && b.identifiers[groupID] == "":
		return nil, []problem{{flaw: flaw{"the row has no group_id, so it is nobody's", "fill the column in, or leave the row out"}}}
	case !known && b.options.AnonymousID != generateID:
		return nil, []problem{{flaw: flaw{"the row has no identifier, so it is nobody's", "fill one of the identifier columns in, leave the row out, or have it get an anonymous_id with anonymousId=generate"}}}
	case !known:
		b.identifiers[anonymousID] = b.generated(number)
	}
	traits := append(b.out, '}')
	id := b.id + "-" + strconv.FormatUint(number, 10)
	if b.options.Collection == event.Accounts {
		return []string{b.call("group", id, at, traits, false)}, nil
	}
	calls = []string{b.call("identify", id, at, traits, false)}
	if b.identifiers[groupID] != "" {
		calls = append(calls, b.call("group", id+"-group", at, nil, true))
	}
	return calls, nil
}

// trait begins the next trait.
func (b *builder) trait(name string) {
	if b.out[len(b.out)-1] != '{' {
		b.out = append(b.out, ',')
	}
	b.out = append(gjson.AppendJSONString(b.out, name), ':')
}

// call writes a call. traits may be nil. joins says that the call is there to
// join the row's user to its account: the user's email then stands among the
// external ids, since the traits of a group call are the account's.
func (b *builder) call(kind, id, at string, traits []byte, joins bool) string {
	out := make([]byte, 0, len(traits)+256)
	field := func(name, value string) {
		if value != "" {
			out = append(append(append(out, ',', '"'), name...), '"', ':')
			out = gjson.AppendJSONString(out, value)
		}
	}
	out = append(append(append(out, `{"type":"`...), kind...), '"')
	field("messageId", id)
	field("userId", b.identifiers[userID])
	field("anonymousId", b.identifiers[anonymousID])
	if kind == "group" {
		field("groupId", b.identifiers[groupID])
	}
	field("timestamp", at)
	if traits != nil {
		out = append(append(out, ','), traits...)
	}
	out = append(out, `,"context":{"library":{"name":"kith-csv-import"}`...)
	external := false
	for i := range b.columns {
		c := &b.columns[i]
		value := b.identifiers[c.Name]
		if c.As != asIdentifier || value == "" || c.Name == userID || c.Name == anonymousID || c.Name == groupID ||
			c.Name == emailID && kind == "identify" {
			continue
		}
		if joins && c.Collection != event.Users {
			continue
		}
		if external {
			out = append(out, ',')
		} else {
			out = append(out, `,"externalIds":[`...)
		}
		external = true
		out = gjson.AppendJSONString(append(out, `{"id":`...), value)
		out = gjson.AppendJSONString(append(out, `,"type":`...), c.Name)
		out = append(append(append(out, `,"collection":"`...), c.Collection...), `","encoding":"none"}`...)
	}
	if external {
		out = append(out, ']')
	}
	return string(append(out, '}', '}'))
}

// generated returns the anonymous_id of a row that has no identifier. It is the
// same whenever the row is read.
func (b *builder) generated(number uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s-%d", b.id, number))
	s := hex.EncodeToString(sum[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func isEmpty(cells []string) bool {
	for _, c := range cells {
		if c != "" && strings.TrimSpace(c) != "" {
			return false
		}
	}
	return true
}
