package identity

import (
	"cmp"
	"fmt"
	"strings"

	"kith/commitlog"
	"kith/event"
)

// maxNames is how many identifiers one sentence names.
const maxNames = 12

// name writes an identifier as people do.
func name(id event.Identifier) string { return id.Type + ":" + id.Value }

// nodeID is an identifier's name in a drawing: unlike any profile's, and other
// for accounts than for users.
func nodeID(id event.Identifier) string {
	if id.Collection == event.Accounts {
		return "account " + name(id)
	}
	return name(id)
}

func names(ids []event.Identifier) string {
	var said []string
	for _, id := range ids {
		said = append(said, name(id))
	}
	return join(said)
}

// join lists things in a sentence.
func join(said []string) string {
	if more := len(said) - maxNames; more > 0 {
		said = append(said[:maxNames:maxNames], fmt.Sprintf("%d more", more))
	}
	switch n := len(said); n {
	case 0:
		return "nothing"
	case 1:
		return said[0]
	default:
		return strings.Join(said[:n-1], ", ") + " and " + said[n-1]
	}
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// messageOf names a message.
func (e *explaining) messageOf(id, source string, at commitlog.Offset) string {
	said := fmt.Sprintf("the message at %d", at)
	if id != "" {
		said = fmt.Sprintf("message %s (at %d", id, at)
		if source != "" {
			if e.q.SourceName != nil {
				source = cmp.Or(e.q.SourceName(source), source)
			}
			said += ", source " + source
		}
		said += ")"
	}
	return said
}

// onMessage names the message of a sighting, and its type.
func (e *explaining) onMessage(s *Sighting) string {
	said := e.messageOf(s.MessageID, s.SourceID, commitlog.Offset(s.Offset))
	if s.Gone {
		said += ", which is not kept any more"
	}
	return said
}

func byWhom(c *event.Command) string {
	said := ""
	if c.By != "" {
		said += ", by " + c.By
	}
	if c.Note != "" {
		said += fmt.Sprintf(" (%q)", c.Note)
	}
	return said
}

// windowName is a window in the word that rules use; empty for ever.
func windowName(window int64) string {
	for _, name := range []string{"weekly", "monthly", "annually"} {
		if windows[name] == window {
			return name
		}
	}
	return ""
}

func limitOfType(name string, limit int, window int64) ExplainedLimit {
	return ExplainedLimit{Type: name, Limit: limit, Window: windowName(window)}
}

// limitWords is a limit in words: "1 user_id", "5 anonymous_id weekly".
func limitWords(name string, limit int, window int64) string {
	said := fmt.Sprintf("%d %s", limit, name)
	if w := windowName(window); w != "" {
		said += " " + w
	}
	return said
}

// againstWords says what stood against an identifier.
func againstWords(violation string, a *Against) string {
	switch {
	case a.ByCommand && violation == ValueBlocked:
		return fmt.Sprintf("the command at %d blocks its value", a.Command)
	case a.ByCommand:
		return fmt.Sprintf("the command at %d keeps them apart", a.Command)
	case a.Type != "":
		return fmt.Sprintf("a profile may have %s", limitWords(a.Type, a.Limit, a.Window))
	case violation == ValueBlocked:
		return "the rules block its value"
	case violation == TooManyIdentifiers:
		return fmt.Sprintf("a profile may have %d identifiers in all", MaxIdentifiers)
	}
	return violation
}
