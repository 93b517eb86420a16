package profile

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// Bounds of one search.
const (
	maxSearched = 2000 // places of an index that one page looks at
	maxMatches  = 5    // traits that must match
	maxShown    = 50   // traits shown of each profile
	// maxSearchBytes is about how much of traits one page holds. A profile has
	// up to MaxTraitsBytes of them.
	maxSearchBytes = 16 << 20
)

// SearchQuery asks for profiles: by the beginning of an identifier, by traits,
// or by both. Kith's own; Segment has none.
type SearchQuery struct {
	// ExternalID is what an identifier begins with; Type its type, empty for
	// all. Letter case counts.
	ExternalID string
	Type       string
	// Traits must all match. Without ExternalID one of them is searched by,
	// which the space must list.
	Traits []TraitMatch
	// Prefix says that it is enough when a trait begins with the value, and
	// IgnoreCase that letter case does not count.
	Prefix     bool
	IgnoreCase bool
	Show       []string // traits to show of each profile
	Limit      int      // zero: DefaultLimit
	Next       string   // the Cursor.Next of the page before
}

// TraitMatch is a trait and the value it should have: the text of a string, or
// a number or a boolean as it was sent.
type TraitMatch struct{ Name, Value string }

// SearchPage is the answer. By traits each profile is found once, by
// identifiers once for each that matches. A page may hold fewer than were asked
// for, or none, and say that there is more.
type SearchPage struct {
	Data []Found `json:"data"`
	// Complete is false while a trait that was listed lately is being indexed:
	// then profiles may be missing.
	Complete bool   `json:"complete"`
	Cursor   Cursor `json:"cursor"`
}

// Found is a profile that was found.
type Found struct {
	ID      string                     `json:"id"`                // "use_…"
	Matched *event.ExternalID          `json:"matched,omitempty"` // the identifier that matched
	Traits  map[string]json.RawMessage `json:"traits,omitempty"`  // those of SearchQuery.Show that it has
}

// Search looks for profiles in one moment of the store. t.ID is not used.
func (rd *Reader) Search(ctx context.Context, t Target, q SearchQuery) (*SearchPage, error) {
	limit, err := q.check(t)
	if err != nil {
		return nil, err
	}
	page := &SearchPage{Data: []Found{}, Complete: true, Cursor: Cursor{
		URL: fmt.Sprintf("/v1/spaces/%s/collections/%s/profiles", url.PathEscape(t.Path), t.Collection), Limit: limit,
	}}
	err = rd.db.View(ctx, func(r kv.Reader) error {
		s := &search{reader: r, keys: keys{t.Space.Number, t.Epoch}, graph: identity.NewReader(r, t.Space.Number, t.Epoch), t: t, q: &q, limit: limit, page: page}
		if q.ExternalID != "" {
			return s.byIdentifier()
		}
		return s.byTrait()
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (q *SearchQuery) check(t Target) (limit int, err error) {
	if err := checkCollection(t.Collection); err != nil {
		return 0, err
	}
	switch {
	case q.ExternalID == "" && q.Type != "":
		return 0, fault.Field("type", "a type alone finds nobody: give external_id, the beginning of the identifier, too")
	case q.ExternalID == "" && len(q.Traits) == 0:
		return 0, fault.Field("external_id", "nothing to search by: give external_id, the beginning of an identifier, or trait.NAME, as in trait.lastName=Smith")
	case len(q.Traits) > maxMatches:
		return 0, fault.Field("trait", "%d traits; at most %d are searched by at once", len(q.Traits), maxMatches)
	case len(q.Show) > maxShown:
		return 0, fault.Field("traits", "%d traits; at most %d are shown", len(q.Show), maxShown)
	}
	for _, m := range q.Traits {
		if m.Value == "" {
			return 0, fault.Field("trait."+m.Name, "want a value")
		}
	}
	return limitOf(q.Limit, MaxLimit)
}

// search is a search at work.
type search struct {
	reader kv.Reader
	keys   keys
	graph  identity.Reader
	t      Target
	q      *SearchQuery
	limit  int
	page   *SearchPage
	looked int
	bytes  int // of the traits on the page
}

// full reports whether the page ends before what comes next.
func (s *search) full() bool {
	return len(s.page.Data) == s.limit || s.looked == maxSearched || s.bytes >= maxSearchBytes
}

func (s *search) more(next string) { s.page.Cursor.HasMore, s.page.Cursor.Next = true, next }

func (s *search) byIdentifier() error {
	var after *event.Identifier
	if s.q.Next != "" {
		var at [2]string
		text, err := base64.RawURLEncoding.DecodeString(s.q.Next)
		if err != nil || json.Unmarshal(text, &at) != nil || len(at[0]) > identity.MaxTypeBytes || len(at[1]) > event.MaxIdentifierBytes {
			return errNext(s.q.Next)
		}
		after = &event.Identifier{Collection: s.t.Collection, Type: at[0], Value: at[1]}
	}
	return s.graph.Owned(s.t.Collection, s.q.Type, s.q.ExternalID, after, func(x identity.Owned) (bool, error) {
		if s.full() {
			place, err := json.Marshal([2]string{after.Type, after.Value})
			s.more(base64.RawURLEncoding.EncodeToString(place))
			return false, err
		}
		s.looked++
		after = &x.Identifier
		id := event.ExternalIDOf(x.Identifier)
		return true, s.consider(x.Profile, &id)
	})
}

func (s *search) byTrait() error {
	x, err := readIndex(s.reader, s.keys)
	if err != nil {
		return err
	}
	by, err := s.leading(x)
	if err != nil {
		return err
	}
	s.page.Complete = x.state(by.Name) == indexComplete
	stem := s.keys.entries(by.Name)
	want := cut(fold(by.Value))
	begin := stem.Clone().String(want)
	if s.q.Prefix {
		begin = begin[:len(begin)-2] // without the end of the string
	}
	rng := kv.Prefix(begin)
	if s.q.Next != "" {
		place, err := base64.RawURLEncoding.DecodeString(s.q.Next)
		after := append(stem.Clone(), place...)
		if err != nil || len(after) > kv.MaxKeyBytes || bytes.Compare(after, rng.From) < 0 || (rng.To != nil && bytes.Compare(after, rng.To) >= 0) {
			return errNext(s.q.Next)
		}
		rng.From = append(after, 0)
	}
	var last []byte
	for pair, err := range s.reader.Scan(rng) {
		if err != nil {
			return err
		}
		if s.full() {
			s.more(base64.RawURLEncoding.EncodeToString(last))
			return nil
		}
		parts := kv.PartsAfter(pair.Key, stem)
		last = append(last[:0], parts.Rest()...)
		_ = parts.String()
		profile := event.ProfileID(parts.Fixed(16))
		if !parts.OK() {
			return errStored
		}
		s.looked++
		if err := s.consider(profile, nil); err != nil {
			return err
		}
	}
	return nil
}

// leading returns the trait whose index is looked through: of those that are
// listed the one with the longest value, which tends to find the fewest.
func (s *search) leading(x *index) (by TraitMatch, err error) {
	for _, m := range s.q.Traits {
		if x.kept(m.Name) && len(m.Value) > len(by.Value) {
			by = m
		}
	}
	if by.Name != "" {
		return by, nil
	}
	listed := "none is yet"
	if names := x.names(); len(names) > 0 {
		slices.Sort(names)
		listed = "there are " + strings.Join(names, ", ")
	}
	return by, fault.Field("trait."+s.q.Traits[0].Name, "profiles are not searched by this trait: list it in searchTraits of the space, in the workspace file or with PATCH /api/spaces/%s; %s", s.t.Space.Slug, listed)
}

// consider puts a profile on the page if it matches. What the index said is
// not taken for granted.
func (s *search) consider(profile event.ProfileID, matched *event.ExternalID) error {
	if matched == nil { // an identifier always leads to a survivor
		link, err := s.graph.Link(profile)
		if err != nil || link != nil {
			return err
		}
		p, err := s.graph.Profile(profile)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil || p.Collection != s.t.Collection {
			return err
		}
	}
	found := Found{ID: profile.String(), Matched: matched}
	if len(s.q.Traits)+len(s.q.Show) > 0 {
		b, err := open(s.reader, s.keys, profile)
		if err != nil {
			return err
		}
		for _, m := range s.q.Traits {
			value, err := b.value(m.Name)
			if err != nil {
				return err
			}
			if !s.q.matches(m, value) {
				return nil
			}
		}
		for _, name := range s.q.Show {
			value, err := b.value(name)
			if err != nil {
				return err
			}
			if value == "" {
				continue
			}
			if found.Traits == nil {
				found.Traits = map[string]json.RawMessage{}
			}
			found.Traits[name] = json.RawMessage(value)
			s.bytes += len(name) + len(value)
		}
	}
	s.page.Data = append(s.page.Data, found)
	return nil
}

func (q *SearchQuery) matches(m TraitMatch, value string) bool {
	text, ok := textOf(value)
	if !ok {
		return false
	}
	want := m.Value
	if q.IgnoreCase {
		text, want = fold(text), fold(want)
	}
	if q.Prefix {
		return strings.HasPrefix(text, want)
	}
	return text == want
}
