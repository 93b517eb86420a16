package inspect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Grain is the width of the buckets that are counted in. Buckets begin at whole
// minutes, hours and days of UTC.
type Grain string

// The grains, in the words of Segment's API.
const (
	Minute Grain = "MINUTE"
	Hour   Grain = "HOUR"
	Day    Grain = "DAY"
)

// grains are all of them.
func grains() []Grain { return []Grain{Minute, Hour, Day} }

// width returns how long a bucket lasts.
func (g Grain) width() time.Duration {
	switch g {
	case Minute:
		return time.Minute
	case Hour:
		return time.Hour
	}
	return 24 * time.Hour
}

// kept returns how long the buckets are kept: longer than the delivery overview
// asks for (sheet connections_protocols §3.3), and 13 months for usage.
func (g Grain) kept() time.Duration {
	switch g {
	case Minute:
		return 49 * time.Hour
	case Hour:
		return 32 * 24 * time.Hour
	}
	return 400 * 24 * time.Hour
}

// Volume is how many calls of one kind came in one bucket.
type Volume struct {
	Start      time.Time // of the bucket
	Source     string    // the source's id; empty for what was rejected without a known write key
	Stage      Stage     // what became of them: Admitted, Duplicate, Blocked, Discarded or Rejected
	Reason     string    // the discard code of Blocked, Discarded and Rejected
	Type       string    // "track"; "object" for the Objects API; may be empty for Rejected
	Event      string    // the label under which it is counted: a track call's event, "Page Viewed"; else empty
	AppVersion string    // context.app.version
	LeftOut    bool      // the event's name is not known, since its source has too many; see Limits
	Count      uint64
}

// VolumeQuery chooses buckets: those that begin at or after From and before To.
// From is rounded down to the beginning of its bucket.
type VolumeQuery struct {
	From, To time.Time
	Grain    Grain
	Sources  []string // ids; nil means all
	// NoEvents and NoVersions leave events and app versions out of the rows,
	// whose counts are added up: there are as few rows then as are needed.
	NoEvents, NoVersions bool
}

// maxVolumes is the most that one answer of Counts holds.
const maxVolumes = 1 << 20

// Meter reads what was counted: calls and monthly tracked users. It is safe for
// concurrent use, also where no Observer runs.
type Meter struct{ db kv.DB }

// NewMeter returns a meter over the store that the Observer and Rejections
// write to.
func NewMeter(db kv.DB) *Meter { return &Meter{db: db} }

// Counts returns what came in, by bucket and in no other particular order:
// every call once, under what became of it at the front and at intake. It is
// exact, apart from rejected messages of the last second before a crash, and a
// moment behind (see Observer.Settle). Minutes are kept for 49 hours, hours for
// 32 days, days for 400. More than a million rows are fault.Invalid.
func (m *Meter) Counts(ctx context.Context, q VolumeQuery) ([]Volume, error) {
	if !slices.Contains(grains(), q.Grain) {
		return nil, fault.Field("granularity", "want MINUTE, HOUR or DAY, not %q", q.Grain)
	}
	if !q.From.Before(q.To) {
		return nil, fault.Field("startTime", "want it before the end of the time")
	}
	var list []Volume
	err := m.db.View(ctx, func(r kv.Reader) (err error) {
		if list, err = rejectedIn(r, q); err != nil {
			return err
		}
		list, err = volumesIn(r, &q, list)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b Volume) int { return a.Start.Compare(b.Start) })
	return list, nil
}

// between returns the range of the buckets of a query below stem.
func between(stem kv.Key, q VolumeQuery) kv.Range {
	to := bucketOf(q.Grain, q.To)
	if startOf(to).Before(q.To) {
		to++
	}
	return kv.Range{From: stem.Clone().Uint32(bucketOf(q.Grain, q.From)), To: stem.Clone().Uint32(to)}
}

func (q *VolumeQuery) takes(source string) bool {
	return q.Sources == nil || slices.Contains(q.Sources, source)
}

func errTooMany() error {
	return fault.New(fault.Invalid, "that is more than %d counts: ask for a shorter time, a coarser granularity or fewer sources", maxVolumes)
}

// rejectedIn reads what was rejected.
func rejectedIn(r kv.Reader, q VolumeQuery) ([]Volume, error) {
	var list []Volume
	stem := rejectedStem(q.Grain)
	for pair, err := range r.Scan(between(stem, q)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		v := Volume{Start: startOf(parts.Uint32()), Stage: Rejected, Source: parts.String(), Reason: parts.String(), Type: parts.String()}
		if !parts.OK() {
			return nil, errDamaged("count")
		}
		if v.Count, err = decodeCount(pair.Value); err != nil {
			return nil, err
		}
		if !q.takes(v.Source) {
			continue
		}
		if list = append(list, v); len(list) > maxVolumes {
			return nil, errTooMany()
		}
	}
	return list, nil
}

// volumesIn reads what was accepted and appends it to list.
func volumesIn(r kv.Reader, q *VolumeQuery, list []Volume) ([]Volume, error) {
	stem := volumeStem(q.Grain)
	known := map[uint32]*names{}
	type row struct {
		bucket uint32
		volumeKey
	}
	rows := map[row]int{} // the places in list of those that are added up
	byNumber, err := sourcesByNumber(r)
	if err != nil {
		return nil, err
	}
	for pair, err := range r.Scan(between(stem, *q)) {
		if err != nil {
			return nil, err
		}
		bucket, k, ok := readVolumeKey(pair.Key, stem)
		if !ok {
			return nil, errDamaged("count")
		}
		source, ok := byNumber[k.source]
		if !ok {
			return nil, fmt.Errorf("source number %d: %w", k.source, errDamaged("count"))
		}
		if !q.takes(source) {
			continue
		}
		if known[k.source] == nil {
			if known[k.source], err = namesOf(r, source); err != nil {
				return nil, err
			}
		}
		n, err := decodeCount(pair.Value)
		if err != nil {
			return nil, err
		}
		if q.NoEvents || q.NoVersions {
			if q.NoEvents {
				k.event = leftOut
			}
			if q.NoVersions {
				k.version = leftOut
			}
			if at, ok := rows[row{bucket, k}]; ok {
				list[at].Count += n
				continue
			}
			rows[row{bucket, k}] = len(list)
		}
		list = append(list, Volume{
			Start: startOf(bucket), Source: source, Stage: stageAt(k.stage), Reason: k.reason, Type: typeName(k.kind),
			Event: known[k.source].events[k.event], AppVersion: known[k.source].versions[k.version],
			LeftOut: k.event == leftOut && !q.NoEvents, Count: n,
		})
		if len(list) > maxVolumes {
			return nil, errTooMany()
		}
	}
	return list, nil
}

// objectKind stands for the Objects API where the type of a call is kept.
const objectKind = event.Type(100)

func typeName(t event.Type) string {
	if t == objectKind {
		return "object"
	}
	return t.String()
}

// countedStages are the stages of a Volume; their places are stored.
func countedStages() [4]Stage { return [...]Stage{Admitted, Duplicate, Blocked, Discarded} }

func stageAt(n byte) Stage {
	if all := countedStages(); int(n) < len(all) {
		return all[n]
	}
	return ""
}

// names are the names behind the numbers of a source.
type names struct {
	events   map[uint32]string
	versions map[uint32]string
}
