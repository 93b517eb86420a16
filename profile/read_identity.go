package profile

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"kith/archive"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// ExternalIDs returns a page of a profile's identifiers, in the order in which
// they were attached.
func (rd *Reader) ExternalIDs(ctx context.Context, t Target, q IdentifiersQuery) (*IdentifiersPage, error) {
	limit, err := limitOf(q.Limit, MaxLimit)
	if err != nil {
		return nil, err
	}
	var page *IdentifiersPage
	err = rd.db.View(ctx, func(r kv.Reader) error {
		_, p, err := locate(r, t)
		if err != nil {
			return err
		}
		list, next, err := idsOf(p, &q, limit)
		page = &IdentifiersPage{Data: list, Cursor: cursor(t, p.ID, "external_ids", limit, next)}
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// idsOf returns the identifiers of a page, and the mark that the next one
// begins with.
func idsOf(p *identity.Profile, q *IdentifiersQuery, limit int) (list []ExternalID, next string, err error) {
	marked := mark(p.Identifiers)
	from := 0
	if q.Next != "" {
		after, err := parseIDMark(q.Next)
		if err != nil {
			return nil, "", err
		}
		from, _ = slices.BinarySearchFunc(marked, after, func(m markedID, after idMark) int { return m.idMark.compare(after) })
	}
	list = []ExternalID{}
	for _, m := range marked[from:] {
		if len(q.Include) > 0 && !slices.Contains(q.Include, m.Type) {
			continue
		}
		if len(list) == limit {
			return list, m.idMark.String(), nil
		}
		list = append(list, externalID(m.Identified))
	}
	return list, "", nil
}

func externalID(x identity.Identified) ExternalID {
	return ExternalID{
		SourceID: x.SourceID, Collection: x.Collection, ID: x.Value, Type: x.Type, CreatedAt: instant(x.At), Encoding: "none", FirstMessageID: x.MessageID,
	}
}

// idMark is an identifier's place in a listing: the record that attached it,
// and which of that record's it is. It says nothing about the identifier, so
// that a cursor may stand in a log.
type idMark struct {
	offset uint64
	n      int
}

type markedID struct {
	identity.Identified
	idMark
}

// mark puts identifiers in the order of the listing.
func mark(ids []identity.Identified) []markedID {
	list := make([]markedID, len(ids))
	for i, x := range ids {
		list[i] = markedID{x, idMark{offset: uint64(x.Offset)}}
	}
	slices.SortStableFunc(list, func(a, b markedID) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(list); i++ {
		if list[i].offset == list[i-1].offset {
			list[i].n = list[i-1].n + 1
		}
	}
	return list
}

func (m idMark) compare(other idMark) int {
	return cmp.Or(cmp.Compare(m.offset, other.offset), cmp.Compare(m.n, other.n))
}

// String writes the mark in the form of Segment's cursors, "map_…".
func (m idMark) String() string {
	return "map_" + strconv.FormatUint(m.offset, 36) + "_" + strconv.Itoa(m.n)
}

func parseIDMark(s string) (m idMark, err error) {
	if rest, ok := strings.CutPrefix(s, "map_"); ok {
		if offset, n, ok := strings.Cut(rest, "_"); ok {
			m.offset, err = strconv.ParseUint(offset, 36, 64)
			if err == nil {
				m.n, err = strconv.Atoi(n)
			}
			if err == nil {
				return m, nil
			}
		}
	}
	return m, errNext(s)
}

// errNext refuses a cursor that no page has given.
func errNext(s string) error {
	return fault.Field("next", "%q is not a cursor of this listing: give back the next of a page", s)
}

// Metadata returns a profile's first and last events.
func (rd *Reader) Metadata(ctx context.Context, t Target) (*MetadataPage, error) {
	var p *identity.Profile
	err := rd.db.View(ctx, func(r kv.Reader) (err error) {
		_, p, err = locate(r, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	m, err := rd.metadataOf(ctx, t, p)
	return &MetadataPage{m}, err
}

// metadataOf returns a profile's first and last events; the last is read after
// the profile was.
func (rd *Reader) metadataOf(ctx context.Context, t Target, p *identity.Profile) (Metadata, error) {
	c := p.Created
	m := Metadata{CreatedAt: instant(c.Time), FirstMessageID: c.MessageID, FirstSourceID: c.SourceID}
	updated := c.Time
	m.LastMessageID, m.LastSourceID = c.MessageID, c.SourceID
	newest := archive.Window{From: minTime, To: maxTime, Reverse: true}
	err := rd.history.History(ctx, t.Space.Number, t.Epoch, p.Family(), newest, func(e archive.Entry) (bool, error) {
		updated = e.Head.Time
		m.LastMessageID, m.LastSourceID = e.Head.MessageID, e.Head.Source
		return false, nil
	})
	m.UpdatedAt = instant(updated)
	return m, err
}

// The bounds of a history without bounds: the years in which an instant can be
// written.
var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli()
)

// Links returns a page of the profiles linked to a profile, each with all its
// identifiers.
func (rd *Reader) Links(ctx context.Context, t Target, q LinksQuery) (*LinksPage, error) {
	limit, err := limitOf(q.Limit, MaxLinksLimit)
	if err != nil {
		return nil, err
	}
	var after identity.LinkMark
	if q.Next != "" {
		if after, err = identity.ParseLinkMark(q.Next); err != nil {
			return nil, errNext(q.Next)
		}
	}
	var page *LinksPage
	err = rd.db.View(ctx, func(r kv.Reader) error {
		graph, p, err := locate(r, t)
		if err != nil {
			return err
		}
		members, err := graph.Links(p.ID, after, limit+1)
		if err != nil {
			return err
		}
		next := ""
		if len(members) > limit {
			members = members[:limit]
			next = members[limit-1].Mark.String()
		}
		page = &LinksPage{Data: []LinkedProfile{}, Cursor: cursor(t, p.ID, "links", limit, next)}
		for _, m := range members {
			other, err := graph.Profile(m.Profile)
			if err != nil {
				return err
			}
			linked := LinkedProfile{ToCollection: event.Accounts, ExternalIDs: []ExternalID{}}
			if t.Collection == event.Accounts {
				linked.ToCollection = event.Users
			}
			for _, x := range mark(other.Identifiers) {
				linked.ExternalIDs = append(linked.ExternalIDs, externalID(x.Identified))
			}
			page.Data = append(page.Data, linked)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}
