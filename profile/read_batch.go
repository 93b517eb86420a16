package profile

import (
	"context"
	"encoding/json"

	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// Bounds of one batch.
const (
	// MaxBatch is how many profiles one batch may ask for.
	MaxBatch = 1000
	// MaxBatchMetadata is how many it may ask for metadata of, for each of
	// which an event is unpacked.
	MaxBatchMetadata = 100
	// maxBatchBytes is about how much one answer holds. Profiles beyond it are
	// answered with an error that says so.
	maxBatchBytes = 16 << 20
)

// The reads that a batch can ask for.
const (
	ReadTraits      = "traits"
	ReadExternalIDs = "external_ids"
	ReadMetadata    = "metadata"
)

// BatchQuery asks for the same of many profiles. Kith's own; Segment has none.
type BatchQuery struct {
	IDs  []string // each as Target.ID
	Read string   // ReadTraits, ReadExternalIDs or ReadMetadata
	// Include, Class and Verbose are as in TraitsQuery and IdentifiersQuery.
	Include []string
	Class   string
	Verbose bool
	Limit   int // of traits or external ids of each profile; zero: MaxLimit
}

// BatchPage is the answer: what was found, in the order of BatchQuery.IDs.
type BatchPage struct {
	Data []BatchItem `json:"data"`
}

// BatchItem is the answer for one profile: an error, or what was asked for.
type BatchItem struct {
	ID          string                     `json:"id"`                   // as it was asked for
	ProfileID   string                     `json:"profile_id,omitempty"` // "use_…"
	Traits      map[string]json.RawMessage `json:"traits,omitzero"`
	ExternalIDs []ExternalID               `json:"external_ids,omitzero"`
	Metadata    *Metadata                  `json:"metadata,omitempty"`
	HasMore     bool                       `json:"has_more,omitempty"` // there are more than Limit
	Error       *BatchError                `json:"error,omitempty"`
}

// BatchError says why there is no answer for a profile.
type BatchError struct {
	Code    string `json:"code"` // not_found, validation_error, or too_large: ask for it again
	Message string `json:"message"`
}

// Batch reads many profiles in one moment of the store; the last event of each
// in their metadata is read right after it. t.ID is not used.
func (rd *Reader) Batch(ctx context.Context, t Target, q BatchQuery) (*BatchPage, error) {
	if q.Limit == 0 {
		q.Limit = MaxLimit
	}
	if err := q.check(t); err != nil {
		return nil, err
	}
	page := &BatchPage{Data: make([]BatchItem, len(q.IDs))}
	found := make([]*identity.Profile, len(q.IDs))
	err := rd.db.View(ctx, func(r kv.Reader) error {
		size := 0
		for i, id := range q.IDs {
			item := &page.Data[i]
			item.ID = id
			if size > maxBatchBytes {
				item.Error = &BatchError{"too_large", "the answer is full: ask for this profile again, with fewer others"}
				continue
			}
			t.ID = id
			_, p, err := locate(r, t)
			if known := batchError(err); known != nil {
				item.Error = known
				continue
			}
			if err != nil {
				return err
			}
			found[i], item.ProfileID = p, p.ID.String()
			n, err := rd.fill(ctx, r, t, p, &q, item)
			if err != nil {
				return err
			}
			size += n
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, p := range found {
		if p == nil || q.Read != ReadMetadata {
			continue
		}
		m, err := rd.metadataOf(ctx, t, p)
		if err != nil {
			return nil, err
		}
		page.Data[i].Metadata = &m
	}
	return page, nil
}

func (q *BatchQuery) check(t Target) error {
	if err := checkCollection(t.Collection); err != nil {
		return err
	}
	if len(q.IDs) == 0 || len(q.IDs) > MaxBatch {
		return fault.Field("ids", "%d ids: want 1 to %d", len(q.IDs), MaxBatch)
	}
	switch q.Read {
	case ReadTraits:
	case ReadExternalIDs:
	case ReadMetadata:
		if len(q.IDs) > MaxBatchMetadata {
			return fault.Field("ids", "%d ids: metadata is read of at most %d at once", len(q.IDs), MaxBatchMetadata)
		}
	default:
		return fault.Field("read", "%q is not read in batches: want %s, %s or %s", q.Read, ReadTraits, ReadExternalIDs, ReadMetadata)
	}
	_, err := (&TraitsQuery{Class: q.Class, Limit: q.Limit}).check()
	return err
}

func batchError(err error) *BatchError {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return &BatchError{"not_found", "Profile was not found."}
	case fault.Invalid:
		return &BatchError{"validation_error", err.Error()}
	}
	return nil
}

// fill puts what was asked for into an item, and returns about how many bytes
// it takes.
func (rd *Reader) fill(ctx context.Context, r kv.Reader, t Target, p *identity.Profile, q *BatchQuery, item *BatchItem) (size int, err error) {
	next := ""
	switch q.Read {
	case ReadTraits:
		item.Traits, next, err = rd.traitsOf(ctx, r, t, p.ID, &TraitsQuery{Class: q.Class, Include: q.Include, Verbose: q.Verbose}, q.Limit)
		for name, value := range item.Traits {
			size += len(name) + len(value)
		}
	case ReadExternalIDs:
		item.ExternalIDs, next, err = idsOf(p, &IdentifiersQuery{Include: q.Include}, q.Limit)
		for _, x := range item.ExternalIDs {
			size += 200 + len(x.ID)
		}
	}
	item.HasMore = next != ""
	return size, err
}
