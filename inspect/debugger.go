package inspect

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
)

// Bounds of one look of the debugger.
const (
	maxLooked   = 20_000 // heads of the raw log
	maxDebugged = 200    // entries of a page
)

// Recents is the newest of the raw logs; archive.Archive has Back.
type Recents interface {
	Back(ctx context.Context, space, epoch uint32, before commitlog.Offset, most int, want func(*event.Head) bool, fn func(*archive.Recent) (bool, error)) (next commitlog.Offset, at int64, err error)
}

// Debugger shows what a source has sent lately, what was taken and what was
// refused, the newest first. It keeps nothing: it reads the raw log backwards,
// so that nothing is forgotten, and costs nothing while nobody looks. It is safe
// for concurrent use.
type Debugger struct {
	past       Recents
	rejections *Rejections
}

// NewDebugger returns a debugger over the raw logs and what was rejected.
func NewDebugger(past Recents, rejections *Rejections) *Debugger { return &Debugger{past, rejections} }

// The stages of a Debugged that no Item has.
const (
	Warned Stage = "warning" // accepted, but something about it was odd
)

// DebugQuery is what is looked for. Empty fields ask for all.
type DebugQuery struct {
	Space, Epoch uint32
	Source       string
	// ID is a messageId, the id of a record or rejection, or the value of any
	// identifier in its standard place.
	ID string
	// Text stands anywhere in the event as it was sent.
	Text   string
	Event  string // the label under which it is counted
	Type   event.Type
	Stages []Stage // Accepted (not processed yet), Admitted, Duplicate, Blocked, Discarded, Rejected, Warned
	Cursor string
	Limit  int // 1 to 200
}

// Debugged is one event or refused message. Exactly one of Recent and Rejection
// is set.
type Debugged struct {
	At        time.Time
	Stage     Stage
	Recent    *archive.Recent // its bytes may be kept
	Rejection *Rejection
}

// DebugPage is a page of what was found. With Next it may not be all: a look is
// over after 20,000 records, whether something was found or not.
type DebugPage struct {
	List []Debugged
	Next string // empty at the end
}

// stageOf returns what became of an event.
func stageOf(e *archive.Recent) Stage {
	if !e.Passed {
		return Accepted
	}
	return stageAt(byte(e.Verdict.Code))
}

// List looks for a page.
func (d *Debugger) List(ctx context.Context, q DebugQuery) (page DebugPage, err error) {
	before, seq, err := readDebugCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	q.Limit = min(max(q.Limit, 1), maxDebugged)
	refused, moreRefused, err := d.refused(ctx, &q, seq)
	if err != nil {
		return page, err
	}
	accepted, oldest, next, err := d.accepted(ctx, &q, before)
	if err != nil {
		return page, err
	}
	// Joined by time. What is older than what was looked at waits for the next
	// page.
	for len(page.List) < q.Limit {
		switch {
		case len(accepted) > 0 && (len(refused) == 0 || !refused[0].At.After(accepted[0].At)):
			page.List, accepted = append(page.List, accepted[0]), accepted[1:]
			continue
		case len(refused) > 0 && (len(accepted) > 0 || next == 0 || refused[0].At.After(oldest)):
			page.List = append(page.List, refused[0])
			seq, refused = rejectionSeq(refused[0].Rejection), refused[1:]
			continue
		}
		break
	}
	if before = next; len(accepted) > 0 {
		before = accepted[0].Recent.Offset + 1
	}
	switch {
	case len(refused) > 0:
		seq = rejectionSeq(refused[0].Rejection) + 1
	case !moreRefused:
		seq = 0
	}
	if before > 0 || seq > 0 {
		page.Next = strconv.FormatUint(uint64(before), 36) + "-" + strconv.FormatUint(seq, 36)
	}
	return page, nil
}

// accepted looks for events before an offset. next is where the look ended, at
// the instant oldest.
func (d *Debugger) accepted(ctx context.Context, q *DebugQuery, before commitlog.Offset) (list []Debugged, oldest time.Time, next commitlog.Offset, err error) {
	if before == 0 || len(q.Stages) > 0 && !slices.ContainsFunc(q.Stages, func(s Stage) bool { return s != Rejected && s != Warned }) {
		return nil, time.Time{}, 0, nil
	}
	text := []byte(q.Text)
	next, at, err := d.past.Back(ctx, q.Space, q.Epoch, before, maxLooked, q.wants, func(e *archive.Recent) (bool, error) {
		stage := stageOf(e)
		if len(q.Stages) > 0 && !slices.Contains(q.Stages, stage) || !bytes.Contains(e.Raw, text) {
			return true, nil
		}
		kept := *e
		kept.Raw, kept.Verdict.Body = bytes.Clone(e.Raw), bytes.Clone(e.Verdict.Body)
		list = append(list, Debugged{At: instant(e.Head.At), Stage: stage, Recent: &kept})
		return len(list) < q.Limit, nil
	})
	return list, instant(at), next, err
}

// wants reports whether a head is of what is looked for.
func (q *DebugQuery) wants(h *event.Head) bool {
	if q.Source != "" && h.Source != q.Source || q.Type != event.None && h.Type != q.Type || q.Event != "" && event.Label(h.Type, h.Name) != q.Event {
		return false
	}
	return q.ID == "" || h.MessageID == q.ID || h.ID.String() == q.ID ||
		slices.ContainsFunc(h.IDs, func(id event.Identifier) bool { return id.Value == q.ID || id.Type+":"+id.Value == q.ID })
}

// refused looks for refused messages of the source before a number. more says
// that there are others.
func (d *Debugger) refused(ctx context.Context, q *DebugQuery, seq uint64) (list []Debugged, more bool, err error) {
	wanted := len(q.Stages) == 0 || slices.Contains(q.Stages, Rejected) || slices.Contains(q.Stages, Warned)
	if seq == 0 || q.Event != "" || !wanted {
		return nil, false, nil
	}
	cursor := ""
	if seq != newest {
		cursor = rejectionID(seq)
	}
	for {
		page, next, err := d.rejections.List(ctx, q.Source, cursor, maxListLimit)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			x := &page[i]
			stage := Rejected
			if x.Warning {
				stage = Warned
			}
			if len(q.Stages) > 0 && !slices.Contains(q.Stages, stage) || !q.wantsRefused(x) {
				continue
			}
			if len(list) == q.Limit {
				return list, true, nil
			}
			list = append(list, Debugged{At: x.At, Stage: stage, Rejection: x})
		}
		if cursor = next; cursor == "" {
			return list, false, nil
		}
	}
}

func (q *DebugQuery) wantsRefused(x *Rejection) bool {
	return (q.Type == event.None || x.Type == q.Type.String()) &&
		(q.ID == "" || x.MessageID == q.ID || x.ID == q.ID || strings.Contains(x.Body, strconv.Quote(q.ID))) &&
		strings.Contains(x.Body, q.Text)
}

func rejectionSeq(x *Rejection) uint64 {
	seq, err := strconv.ParseUint(x.ID, 36, 64)
	if err != nil { // List has written it
		return 0
	}
	return seq
}

// newest is where a look begins.
const newest = 1<<63 - 1

// readDebugCursor reads a cursor: an offset and a rejection's number, before
// which the next page begins; zero means that there is nothing more.
func readDebugCursor(cursor string) (before commitlog.Offset, seq uint64, err error) {
	if cursor == "" {
		return newest, newest, nil
	}
	first, second, _ := strings.Cut(cursor, "-")
	at, err := strconv.ParseUint(first, 36, 63)
	if err == nil {
		seq, err = strconv.ParseUint(second, 36, 63)
	}
	if err != nil {
		return 0, 0, fault.Field("cursor", "%.80q is not a cursor that this list has given", cursor)
	}
	return commitlog.Offset(at), seq, nil
}

var keyMember = regexp.MustCompile(`("writeKey"\s*:\s*")((?:[^"\\]|\\.)*)("?)`)

// MaskKeys hides what stands as a write key in an event, and the given write
// keys wherever they stand, but for their beginning.
func MaskKeys(text []byte, keys []string) []byte {
	if bytes.Contains(text, []byte(`"writeKey"`)) {
		text = keyMember.ReplaceAllFunc(text, func(member []byte) []byte {
			parts := keyMember.FindSubmatch(member)
			return slices.Concat(parts[1], []byte(maskedKey(string(parts[2]))), parts[3])
		})
	}
	for _, k := range keys {
		if len(k) >= shownKey {
			text = bytes.ReplaceAll(text, []byte(k), []byte(maskedKey(k)))
		}
	}
	return text
}

const shownKey = 4

func maskedKey(key string) string {
	if key == "" || strings.HasSuffix(key, "…") {
		return key
	}
	return strings.ToValidUTF8(key[:min(len(key)/3, shownKey)], "") + "…"
}
