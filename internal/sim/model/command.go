package model

import (
	"regexp"
	"slices"
	"strings"

	"kith/event"
)

// command carries out an order at its place in the history.
func (w *World) command(r Record) {
	switch c := r.Command; {
	case c.Standing():
		if w.live {
			w.standing = append(w.standing, r)
		}
	case c.DeleteIdentifier != nil:
		id := w.normal(c.DeleteIdentifier.Identifier.Identifier())
		for _, p := range slices.Concat(w.Users, w.Accounts) {
			if p.drop(id) {
				w.Removed[id]++
			}
		}
	case c.Leave != nil:
		user, account := w.holder(w.Users, c.Leave.User), w.holder(w.Accounts, c.Leave.Account)
		before := len(w.groups)
		w.groups = slices.DeleteFunc(w.groups, func(g groupCall) bool { return w.between(g, user, account) })
		if len(w.groups) < before {
			w.Left++
		}
	}
}

// holder returns who has an identifier, whether it counts still or not.
func (w *World) holder(list []*Profile, x event.ExternalID) *Profile {
	id := w.normal(x.Identifier())
	for _, p := range list {
		if p.has(id) {
			return p
		}
	}
	return nil
}

// inForce returns the standing commands that nobody has lifted.
func (w *World) inForce() (list []Record) {
	for _, r := range w.standing {
		lifted := slices.ContainsFunc(w.standing, func(l Record) bool {
			return l.Command.Lift != nil && int(l.Command.Lift.Offset) == r.Offset
		})
		if !lifted {
			list = append(list, r)
		}
	}
	return list
}

func (w *World) blocked(id event.Identifier) bool {
	return slices.ContainsFunc(w.inForce(), func(r Record) bool {
		return r.Command.Block != nil && w.normal(r.Command.Block.Identifier()) == id
	})
}

// separated reports whether a command keeps apart what one profile would hold:
// of two parts of it, one has something of the left, and the other of the
// right. The parts are the owners, and each identifier that is nobody's.
func (w *World) separated(list, owners []*Profile, ids []event.Identifier, time int64) bool {
	var parts [][]event.Identifier
	for _, o := range owners {
		var part []event.Identifier
		for _, x := range o.Identifiers {
			part = append(part, x.Identifier)
		}
		parts = append(parts, part)
	}
	for _, id := range ids {
		if w.ownerOf(list, id, time) == nil {
			parts = append(parts, []event.Identifier{id})
		}
	}
	for _, r := range w.inForce() {
		s := r.Command.Separate
		if s == nil {
			continue
		}
		has := func(part []event.Identifier, side []event.ExternalID) bool {
			return slices.ContainsFunc(side, func(x event.ExternalID) bool { return slices.Contains(part, w.normal(x.Identifier())) })
		}
		for i, a := range parts {
			for j, b := range parts {
				if i != j && has(a, s.Left) && has(b, s.Right) {
					return true
				}
			}
		}
	}
	return false
}

// expires reports whether an identifier counts for a time only.
func (w *World) expires(id event.Identifier) bool {
	r := w.ruleOf(id.Collection, id.Type)
	return r.validFor > 0 && (r.form != "mac" || strings.Contains(id.Value, "/"))
}

// normal returns an identifier that somebody names as it is compared.
func (w *World) normal(id event.Identifier) event.Identifier {
	r := w.ruleOf(id.Collection, id.Type)
	value, network := id.Value, ""
	if i := strings.LastIndex(value, "/"); i >= 0 && r.form == "mac" {
		network, value = value[:i], value[i+1:]
	}
	if value := r.normal(value, network); value != "" {
		id.Value = value
	}
	return id
}

// normal returns a value as it is compared, empty when it cannot be.
func (r rule) normal(value, network string) string {
	switch r.form {
	case "email":
		value = strings.ToLower(strings.TrimSpace(value))
		if name, found := strings.CutSuffix(value, "@gmail.com"); found && r.provider {
			value = strings.ReplaceAll(regexp.MustCompile(`\+.*`).ReplaceAllString(name, ""), ".", "") + "@gmail.com"
		}
	case "mac":
		digits := strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(value))
		if !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(digits) {
			return ""
		}
		value = strings.Join(regexp.MustCompile(`..`).FindAllString(digits, -1), ":")
		switch {
		case strings.Contains("13579bdf", digits[1:2]): // a group's
			return ""
		case !strings.Contains("26ae", digits[1:2]):
			return value
		case network == "":
			return ""
		}
		value = network + "/" + value
	}
	return value
}
