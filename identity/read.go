package identity

import (
	"bytes"
	"slices"
	"strings"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Reader reads the identity graph of one space and epoch, in one moment of
// the store. It sees what the loop has committed.
type Reader struct {
	r    kv.Reader
	keys keys
}

// NewReader returns a reader over r.
func NewReader(r kv.Reader, space, epoch uint32) Reader {
	return Reader{r: r, keys: keys{space, epoch}}
}

// Resolve returns the profile that id is part of now: id itself, or the
// survivor of the merges since. It does not ask whether id was ever given.
func (r Reader) Resolve(id event.ProfileID) (event.ProfileID, error) {
	for {
		l, err := r.Link(id)
		if err != nil || l == nil {
			return id, err
		}
		id = l.Parent
	}
}

// Survivor returns the profile that id is part of now and its collection,
// which is empty for an id never given. It does not read of what the profile
// consists.
func (r Reader) Survivor(id event.ProfileID) (now event.ProfileID, collection string, err error) {
	if now, err = r.Resolve(id); err != nil {
		return now, "", err
	}
	value, err := r.r.Get(r.keys.graph(now))
	if err != nil || value == nil {
		return now, "", err
	}
	collection, err = headCollection(value)
	return now, collection, err
}

// Link returns why a profile was merged away, or nil when it was not.
func (r Reader) Link(child event.ProfileID) (*Link, error) {
	value, err := r.r.Get(r.keys.link(child))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeLink(child, value)
}

// Lookup returns whose an identifier is, or the zero id when it is nobody's.
// Types and values are compared as they are, letter case included.
func (r Reader) Lookup(collection, name, value string) (event.ProfileID, error) {
	id := event.Identifier{Collection: collection, Type: name, Value: value}
	if len(value) > event.MaxIdentifierBytes || len(name) > MaxTypeBytes {
		return event.ProfileID{}, nil // too long to have been stored, or to be a key
	}
	return r.owner(id)
}

func (r Reader) owner(id event.Identifier) (p event.ProfileID, err error) {
	stored, err := r.r.Get(r.keys.owner(id))
	if err != nil || stored == nil {
		return p, err
	}
	return decodeOwner(stored)
}

// Profile returns the profile that id is part of now, or fault.NotFound.
func (r Reader) Profile(id event.ProfileID) (*Profile, error) {
	id, err := r.Resolve(id)
	if err != nil {
		return nil, err
	}
	p, err := r.graph(id)
	if err == nil && p == nil {
		err = fault.New(fault.NotFound, "there is no profile %s", id)
	}
	return p, err
}

// Frozen returns a profile as it stands under its own id: for one that was
// merged away, as it was at that moment. It is nil for an id never given.
func (r Reader) Frozen(id event.ProfileID) (*Profile, error) { return r.graph(id) }

func (r Reader) graph(id event.ProfileID) (*Profile, error) {
	n, err := r.node(id)
	if err != nil || n == nil {
		return nil, err
	}
	return n.profile()
}

func (r Reader) node(id event.ProfileID) (*node, error) {
	value, err := r.r.Get(r.keys.graph(id))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeGraph(r.r, r.keys, id, value)
}

// Size returns how many identifiers the profile that id is part of now has,
// and how many were merged into it, without reading them; fault.NotFound for
// an id never given.
func (r Reader) Size(id event.ProfileID) (identifiers, merged int, err error) {
	if id, err = r.Resolve(id); err != nil {
		return 0, 0, err
	}
	n, err := r.node(id)
	if err != nil {
		return 0, 0, err
	}
	if n == nil {
		return 0, 0, fault.New(fault.NotFound, "there is no profile %s", id)
	}
	return n.ids.len(), n.merged.len(), nil
}

// graphKeys returns the keys of a profile's graph: its head and its pages.
func (r Reader) graphKeys(id event.ProfileID) ([][]byte, error) {
	n, err := r.node(id)
	if err != nil || n == nil {
		return nil, err
	}
	held := [][]byte{r.keys.graph(id)}
	for i := range n.ids.stored() {
		held = append(held, r.keys.page(id, i))
	}
	for i := range n.merged.stored() {
		held = append(held, r.keys.mergedPage(id, i))
	}
	return held, nil
}

// Identifiers returns the identifiers of the profile that id is part of now,
// or fault.NotFound.
func (r Reader) Identifiers(id event.ProfileID) ([]Identified, error) {
	p, err := r.Profile(id)
	if err != nil {
		return nil, err
	}
	return p.Identifiers, nil
}

// Family returns the profile that id is part of now and all that were merged
// into it, the survivor first: the ids under which its history is written. It
// fails with fault.NotFound for an id never given.
func (r Reader) Family(id event.ProfileID) ([]event.ProfileID, error) {
	p, err := r.Profile(id)
	if err != nil {
		return nil, err
	}
	return p.Family(), nil
}

// LinkMark is a place in a listing of links. The zero mark is its beginning.
type LinkMark struct{ of, other event.ProfileID }

// IsZero reports whether the mark is the beginning.
func (m LinkMark) IsZero() bool { return m == LinkMark{} }

// String returns the mark in a form that ParseLinkMark reads.
func (m LinkMark) String() string {
	return strings.TrimPrefix(m.of.String(), "use_") + strings.TrimPrefix(m.other.String(), "use_")
}

// ParseLinkMark reads what LinkMark.String wrote.
func ParseLinkMark(s string) (m LinkMark, err error) {
	if len(s) != 44 {
		return m, fault.New(fault.Invalid, "%q is not a place in a list of links", s)
	}
	if m.of, err = event.ParseProfileID("use_" + s[:22]); err != nil {
		return m, err
	}
	m.other, err = event.ParseProfileID("use_" + s[22:])
	return m, err
}

// Links returns the accounts of a user, or the users of an account, each once
// and by the id it is part of now; at most limit of them (zero: all) behind a
// mark. It fails with fault.NotFound for an id never given.
func (r Reader) Links(id event.ProfileID, after LinkMark, limit int) ([]Member, error) {
	family, err := r.Family(id)
	if err != nil {
		return nil, err
	}
	var list []Member
	for _, of := range family {
		if !after.IsZero() && of != after.of {
			continue
		}
		rng := kv.Prefix(r.keys.members(of))
		if !after.IsZero() {
			rng.From = append(r.keys.member(of, after.other), 0)
			after = LinkMark{}
		}
		for pair, err := range r.r.Scan(rng) {
			if err != nil {
				return nil, err
			}
			if len(list) == limit && limit > 0 {
				return list, nil
			}
			parts := kv.PartsAfter(pair.Key, r.keys.members(of))
			m, err := decodeMember(event.ProfileID(parts.Fixed(16)), pair.Value)
			if err != nil {
				return nil, err
			}
			m.Mark = LinkMark{of, m.Profile}
			first, err := r.firstOf(&m, family)
			if err != nil {
				return nil, err
			}
			if first {
				list = append(list, m)
			}
		}
	}
	return list, nil
}

// firstOf reports whether a stored link is the first, in the order of the
// listing, of those that merges since have made one; if so it makes m that
// one, with the survivor's id and the oldest record.
func (r Reader) firstOf(m *Member, family []event.ProfileID) (bool, error) {
	other, err := r.Profile(m.Profile)
	if err != nil {
		return false, err
	}
	for i, of := range family {
		for _, o := range other.Family() {
			if (LinkMark{of, o}) == m.Mark {
				continue
			}
			value, err := r.r.Get(r.keys.member(of, o))
			if err != nil {
				return false, err
			}
			if value == nil {
				continue
			}
			if before := slices.Index(family, m.Mark.of); i < before || (i == before && bytes.Compare(o[:], m.Mark.other[:]) < 0) {
				return false, nil
			}
			twin, err := decodeMember(o, value)
			if err != nil {
				return false, err
			}
			if twin.Offset < m.Offset {
				m.Offset, m.Time = twin.Offset, twin.Time
			}
		}
	}
	m.Profile = other.ID
	return true, nil
}

// Types returns the types that events have registered, in that order.
func (r Reader) Types() ([]RegisteredType, error) {
	value, err := r.r.Get(r.keys.types())
	if err != nil {
		return nil, err
	}
	return decodeTypes(value)
}
