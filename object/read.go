package object

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// MaxPage is the most entries that one call of a Reader returns.
const MaxPage = 1_000

// Collection is a kind of objects of one source.
type Collection struct {
	Name    string
	Objects uint64
	LastAt  time.Time // when one of them was last set
}

// Object is one object as it is now.
type Object struct {
	ID              string
	Properties      json.RawMessage // an object; the newest value of each
	First, Last     commitlog.Offset
	FirstAt, LastAt time.Time
}

// Reader reads what the stage keeps.
type Reader struct{ db kv.DB }

// NewReader returns a reader over the store that the stage writes to.
func NewReader(db kv.DB) *Reader { return &Reader{db: db} }

// Collections lists the collections of a source by name, at most limit of them
// (1 to MaxPage). cursor is empty for the first page or what the page before
// returned as next; next is empty on the last page. A cursor that no page
// returned is fault.Invalid.
func (q *Reader) Collections(ctx context.Context, space uint32, source, cursor string, limit int) (list []Collection, next string, err error) {
	stem := countStem(space, source)
	next, err = q.page(ctx, stem, cursor, limit, func(name string, value []byte) error {
		t, err := decodeTally(value)
		if err == nil {
			list = append(list, Collection{Name: name, Objects: t.objects, LastAt: time.UnixMilli(t.lastAt).UTC()})
		}
		return err
	})
	return list, next, err
}

// Objects lists the objects of a collection by id; see Collections for the
// pages.
func (q *Reader) Objects(ctx context.Context, space uint32, source, collection, cursor string, limit int) (list []Object, next string, err error) {
	stem := objectStem(space, source, collection)
	next, err = q.page(ctx, stem, cursor, limit, func(id string, value []byte) error {
		s, err := decodeState(value)
		if err == nil {
			list = append(list, Object{
				ID: id, Properties: json.RawMessage(s.properties), First: s.first, Last: s.last,
				FirstAt: time.UnixMilli(s.firstAt).UTC(), LastAt: time.UnixMilli(s.lastAt).UTC(),
			})
		}
		return err
	})
	return list, next, err
}

// pageBytes is about how much one page may hold; see MaxBytes.
const pageBytes = 16 << 20

// page calls fn with the names and values behind a cursor, and returns the next
// cursor.
func (q *Reader) page(ctx context.Context, stem kv.Key, cursor string, limit int, fn func(name string, value []byte) error) (next string, err error) {
	all := kv.Prefix(stem)
	if cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(last) == 0 {
			return "", fault.Field("pagination.cursor", "is not one that a page returned")
		}
		all.From = append(stem.Clone().String(string(last)), 0)
	}
	limit = max(1, min(limit, MaxPage))
	all.Limit = limit + 1
	err = q.db.View(ctx, func(r kv.Reader) error {
		n, bytes, last := 0, 0, ""
		for pair, err := range r.Scan(all) {
			if err != nil {
				return err
			}
			if n == limit || bytes > pageBytes {
				next = base64.RawURLEncoding.EncodeToString([]byte(last))
				return nil
			}
			parts := kv.PartsAfter(pair.Key, stem)
			if last = parts.String(); !parts.OK() {
				return fault.New(fault.Internal, "the key of an object is damaged")
			}
			if err := fn(last, pair.Value); err != nil {
				return err
			}
			n, bytes = n+1, bytes+len(pair.Value)
		}
		return nil
	})
	return next, err
}
