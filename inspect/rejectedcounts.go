package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// rejectedCount is what is counted together of what was rejected.
type rejectedCount struct {
	minute             uint32
	source, code, kind string
}

// What is counted of rejected messages at a time.
const (
	maxRejectedCounts = 10_000 // kinds between two writes; what is beyond is counted without its source
	maxSwept          = 50_000 // old counts removed at once
)

// count adds a rejection to what is to be written.
func (r *Rejections) count(x *Rejection) {
	c := rejectedCount{minute: bucketOf(Minute, x.At), source: x.Source, code: x.Code, kind: x.Type}
	if x.Type != typeName(objectKind) {
		c.kind = event.ParseType(x.Type).String() // what was sent may be anything
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.pending[c]; !known && len(r.pending) >= maxRejectedCounts {
		c.source, c.kind = "", ""
	}
	r.pending[c] += uint64(x.Count)
}

// takeCounts returns what is to be written. What it returns is written, or the
// writer ends with an error.
func (r *Rejections) takeCounts() map[rejectedCount]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		return nil
	}
	taken := r.pending
	r.pending = map[rejectedCount]uint64{}
	return taken
}

// writeCounts adds counts to the stored ones, in every grain.
func writeCounts(tx kv.Tx, counts map[rejectedCount]uint64) error {
	for _, g := range grains() {
		sums := map[rejectedCount]uint64{}
		for c, n := range counts {
			c.minute = bucketOf(g, startOf(c.minute))
			sums[c] += n
		}
		for c, n := range sums {
			if err := addCount(tx, rejectedKey(g, c.minute, c), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepCounts removes counts that are too old, the oldest first.
func sweepCounts(tx kv.Tx, now time.Time) error {
	for _, g := range grains() {
		if err := dropBuckets(tx, rejectedStem(g), g, now); err != nil {
			return err
		}
	}
	return nil
}

// dropBuckets removes the buckets below stem that are too old, at most
// maxSwept keys.
func dropBuckets(tx kv.Tx, stem kv.Key, g Grain, now time.Time) error {
	return dropRange(tx, kv.Range{From: stem, To: stem.Clone().Uint32(bucketOf(g, now.Add(-g.kept()))), Limit: maxSwept})
}

// dropRange removes the keys of a range, at most as many as it says.
func dropRange(tx kv.Tx, old kv.Range) error {
	var keys []kv.Key
	for pair, err := range tx.Scan(old) {
		if err != nil {
			return err
		}
		keys = append(keys, kv.Key(pair.Key).Clone())
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ByMessage returns the kept rejections of a message, newest first, at most
// 100. What was rejected before the call is in it. An empty messageID is
// fault.Invalid.
func (r *Rejections) ByMessage(ctx context.Context, messageID string) ([]Rejection, error) {
	if messageID == "" {
		return nil, fault.Field("messageId", "which message?")
	}
	text, err := json.Marshal(messageID)
	if err != nil {
		return nil, err
	}
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	var found []Rejection
	err = r.db.View(ctx, func(reader kv.Reader) error {
		found = nil
		for pair, err := range reader.Scan(kv.Prefix(kv.WorkspaceKey(room).Byte(rejections))) {
			if err != nil {
				return err
			}
			if !bytes.Contains(pair.Value, text) { // decoding takes a hundred times as long
				continue
			}
			x, err := decodeRejection(pair.Value)
			if err != nil {
				return err
			}
			if x.MessageID != messageID {
				continue
			}
			_, seq, _ := readRejectionKey(pair.Key)
			x.ID = rejectionID(seq)
			found = append(found, *x)
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b Rejection) int { return b.At.Compare(a.At) })
	return found[:min(len(found), maxByMessage)], err
}

// maxByMessage is the most that ByMessage returns.
const maxByMessage = 100
