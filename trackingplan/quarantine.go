package trackingplan

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
)

// stored is the JSON of a quarantine value, format 1.
type stored struct {
	ID         string      `json:"id"`
	MessageID  string      `json:"messageId"`
	Time       int64       `json:"time"`
	Type       string      `json:"type"`
	Event      string      `json:"event,omitempty"`
	Plan       string      `json:"plan"`
	Code       string      `json:"code"`
	Reason     string      `json:"reason"`
	Violations []Violation `json:"violations,omitempty"`
}

// Quarantined is a blocked event, by reference: its body is in the archive at
// Offset.
type Quarantined struct {
	Source     string // the source's id
	Offset     commitlog.Offset
	ID         event.RecordID
	MessageID  string
	At         time.Time // when it was received
	Timestamp  time.Time // the event's own
	Type       event.Type
	Event      string // the name under which it is counted; empty for identify, group and alias
	Plan       string // the tracking plan's id
	Code       string // "unplanned", "schema_violation", …
	Reason     string // the code and what is wrong, in a sentence
	Violations []Violation
}

// MaxPage is the most entries that one call of Quarantined returns.
const MaxPage = 1_000

// Reader reads the quarantine.
type Reader struct{ db kv.DB }

// NewReader returns a reader over the store that the stage writes to.
func NewReader(db kv.DB) *Reader { return &Reader{db: db} }

// Quarantined lists a source's blocked events in a space, the newest first, at
// most limit of them (1 to MaxPage). cursor is empty for the first page or what
// the page before returned as next; next is empty on the last page. A cursor
// that no page returned is fault.Invalid.
func (q *Reader) Quarantined(ctx context.Context, space uint32, source, cursor string, limit int) (list []Quarantined, next string, err error) {
	stem := sourceStem(space, source)
	all := kv.Prefix(stem)
	all.Reverse = true
	if cursor != "" {
		at, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(at) != 16 {
			return nil, "", fault.Field("pagination.cursor", "is not one that a page returned")
		}
		all.To = stem.Clone().Fixed(at)
	}
	limit = max(1, min(limit, MaxPage))
	all.Limit = limit + 1
	err = q.db.View(ctx, func(r kv.Reader) error {
		for pair, err := range r.Scan(all) {
			if err != nil {
				return err
			}
			if len(list) == limit {
				next = base64.RawURLEncoding.EncodeToString(position(list[limit-1]))
				return nil
			}
			entry, err := read(pair, stem, source)
			if err != nil {
				return err
			}
			list = append(list, entry)
		}
		return nil
	})
	return list, next, err
}

// Entry returns the blocked event of a source that was received at an instant,
// by the offset of its raw record, or nil when it is not in quarantine.
func (q *Reader) Entry(ctx context.Context, space uint32, source string, at time.Time, offset commitlog.Offset) (entry *Quarantined, err error) {
	err = q.db.View(ctx, func(r kv.Reader) error {
		key := quarantineKey(space, source, at.UnixMilli(), offset)
		value, err := r.Get(key)
		if err != nil || value == nil {
			return err
		}
		e, err := read(kv.Pair{Key: key, Value: value}, sourceStem(space, source), source)
		entry = &e
		return err
	})
	return entry, err
}

// position is the part of an entry's key behind its source.
func position(e Quarantined) []byte {
	return kv.Key{}.Int64(e.At.UnixMilli()).Uint64(uint64(e.Offset))
}

func read(pair kv.Pair, stem kv.Key, source string) (Quarantined, error) {
	parts := kv.PartsAfter(pair.Key, stem)
	out := Quarantined{Source: source, At: time.UnixMilli(parts.Int64()).UTC(), Offset: commitlog.Offset(parts.Uint64())}
	var s stored
	if !parts.OK() || len(pair.Value) == 0 || pair.Value[0] != format {
		return out, fault.New(fault.Internal, "quarantine of source %s: an entry is of an unknown format", source)
	}
	if err := json.Unmarshal(pair.Value[1:], &s); err != nil {
		return out, fault.New(fault.Internal, "quarantine of source %s: %w", source, err)
	}
	id, err := event.ParseRecordID(s.ID)
	if err != nil {
		return out, fault.New(fault.Internal, "quarantine of source %s: %w", source, err)
	}
	out.ID, out.MessageID, out.Timestamp = id, s.MessageID, time.UnixMilli(s.Time).UTC()
	out.Type, out.Event, out.Plan = event.ParseType(s.Type), s.Event, s.Plan
	out.Code, out.Reason, out.Violations = s.Code, s.Reason, s.Violations
	return out, nil
}
