package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"kith/api"
	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/inspect"
	"kith/kv"
	"kith/pipeline"
	"kith/trackingplan"
)

// How far a trace looks.
const (
	traceBacklog = 32 << 20 // packed bytes of records that the loop has not passed yet
	traceStep    = 100_000  // records that one step of a scan looks at
	traceCopies  = 20       // later copies of a message that are told
	traceRuns    = 20_000   // batches of the loop in which they are looked for
)

// tracer says what became of messages; see api.Tracer.
type tracer struct {
	s          *Server
	quarantine *trackingplan.Reader
	step       uint64 // records that one step of a scan looks at
}

func (s *Server) tracer() tracer {
	return tracer{s: s, quarantine: trackingplan.NewReader(s.db), step: traceStep}
}

// spot is a record's place.
type spot struct {
	space *space
	at    commitlog.Offset
}

// Trace looks for a message and says what became of it.
func (t tracer) Trace(ctx context.Context, q api.TraceQuery) (*api.Traced, error) {
	if q.Wait > 0 {
		t.wait(ctx, q.Wait)
	}
	out := &api.Traced{Rejections: []api.TraceRejection{}}
	rejected, err := t.s.rejections.ByMessage(ctx, q.ID)
	if err != nil {
		return nil, err
	}
	for i := range rejected {
		out.Rejections = append(out.Rejections, t.rejection(&rejected[i]))
	}
	where, found, err := t.find(ctx, &q)
	if err != nil {
		return nil, err
	}
	if !found && q.Scan {
		if where, found, out.Scan, err = t.scan(ctx, &q); err != nil {
			return nil, err
		}
	}
	switch {
	case found:
		if out.Message, err = t.describe(ctx, where, q.Body); err != nil {
			return nil, err
		}
		return out, t.elsewhere(ctx, &q, where.space, out.Message)
	case out.Scan == nil && len(rejected) == 0:
		return nil, fault.New(fault.NotFound, "no message %.100q: it has not arrived, or came with a write key that no source has (see /api/rejected-events), or it is longer ago than messageIds are remembered; --scan looks through everything that is kept (scan=true over HTTP)", q.ID)
	}
	return out, nil
}

// wait lets what is accepted by now pass the loops and go out to destinations.
// What takes longer is told as it stands.
func (t tracer) wait(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for _, sp := range t.s.allSpaces() {
		if end := sp.raw.End(); sp.loop() != nil && end > 0 {
			if err := sp.loop().Passed(ctx, end-1); err != nil {
				return
			}
		}
	}
	if t.s.cfg.has(Delivery) {
		_ = t.s.delivery.Settled(ctx, t.s.resolvedEnds()) // the answer says what has not ended
	}
}

// find looks where a message is found at once: in the index of messageIds,
// among what the loops have yet to pass, and by the id of its record.
func (t tracer) find(ctx context.Context, q *api.TraceQuery) (where spot, found bool, err error) {
	for i := range q.Spaces {
		sp := t.s.space(q.Spaces[i].Number)
		if sp == nil {
			continue
		}
		where = spot{space: sp}
		var next commitlog.Offset
		err := t.s.db.View(ctx, func(r kv.Reader) error {
			pos, err := pipeline.ReadPosition(r, sp.number, sp.epoch())
			if err != nil {
				return err
			}
			next = pos.Next
			where.at, found, err = pipeline.FindMessage(r, sp.number, q.ID)
			return err
		})
		if err != nil || found {
			return where, found, err
		}
		is := matches(q.ID)
		_, err = t.s.archive.Heads(ctx, sp.number, next, sp.raw.End(), traceBacklog, func(at commitlog.Offset, h *event.Head) bool {
			if is(h) {
				where.at, found = at, true
			}
			return !found
		})
		if err != nil || found {
			return where, found, err
		}
		if id, err := event.ParseRecordID(q.ID); err == nil {
			if where.at, found, err = t.s.archive.Find(ctx, sp.number, id); err != nil || found {
				return where, found, err
			}
		}
	}
	return spot{}, false, nil
}

// elsewhere tells of messages with the same messageId in the other spaces that
// are asked for: a messageId counts once in each.
func (t tracer) elsewhere(ctx context.Context, q *api.TraceQuery, here *space, m *api.Trace) error {
	return t.s.db.View(ctx, func(r kv.Reader) error {
		for i := range q.Spaces {
			if q.Spaces[i].Number == here.number {
				continue
			}
			_, found, err := pipeline.FindMessage(r, q.Spaces[i].Number, q.ID)
			if err != nil {
				return err
			}
			if slug := q.Spaces[i].Slug; found {
				m.Notes = append(m.Notes, fmt.Sprintf("The space %s has a message with the same messageId: look for it with space=%s.", slug, slug))
			}
		}
		return nil
	})
}

// matches returns whether a head is of the message that is looked for.
func matches(id string) func(*event.Head) bool {
	record, err := event.ParseRecordID(id)
	return func(h *event.Head) bool { return h.MessageID == id || err == nil && h.ID == record }
}

// scan looks at the heads of one step, from the end of the raw logs to their
// beginnings, space by space. Of several copies in a step it finds the first.
func (t tracer) scan(ctx context.Context, q *api.TraceQuery) (where spot, found bool, far *api.TraceScan, err error) {
	far = &api.TraceScan{}
	index, before := 0, commitlog.Offset(0)
	begun := q.After != ""
	if begun {
		number, offset, ok := strings.Cut(q.After, ".")
		n, err1 := strconv.ParseUint(number, 10, 32)
		b, err2 := strconv.ParseUint(offset, 10, 64)
		for index < len(q.Spaces) && uint64(q.Spaces[index].Number) != n {
			index++
		}
		if !ok || err1 != nil || err2 != nil || index == len(q.Spaces) {
			return spot{}, false, nil, fault.Field("after", "%q is no place where a scan goes on", q.After)
		}
		before = commitlog.Offset(b)
	}
	is := matches(q.ID)
	full := false
	for ; index < len(q.Spaces); index++ {
		sp := t.s.space(q.Spaces[index].Number)
		if sp == nil {
			continue
		}
		if !begun || before > sp.raw.End() {
			before = sp.raw.End()
		}
		begun = false
		if full {
			far.Left += uint64(before)
			continue
		}
		from := before - min(before, commitlog.Offset(t.step-far.Looked))
		where.space = sp
		_, err := t.s.archive.Heads(ctx, sp.number, from, before, 1<<40, func(at commitlog.Offset, h *event.Head) bool {
			if is(h) {
				where.at, found = at, true
			}
			return !found
		})
		if err != nil && !fault.Is(err, fault.NotFound) || found { // not found: the log begins later
			return where, found, nil, err
		}
		far.Looked += uint64(before - from)
		if full = far.Looked == t.step; full {
			far.Left, far.Next = uint64(from), fmt.Sprintf("%d.%d", sp.number, from)
		}
	}
	if far.Left == 0 {
		far.Next = ""
	}
	return spot{}, false, far, nil
}

// rejection tells of a message that was not taken.
func (t tracer) rejection(x *inspect.Rejection) api.TraceRejection {
	r := api.TraceRejection{
		At: event.FormatTime(x.At), SourceID: x.Source, Code: x.Code, Message: x.Message, Field: x.Field, Type: x.Type,
		Next: "Correct what is wrong and send it again; SDKs do not try again what was refused like this.",
	}
	if src := t.s.workspace.Current().Source(x.Source); src != nil {
		r.Source = src.Slug
	}
	return r
}

// describe tells what became of the record at a place.
func (t tracer) describe(ctx context.Context, where spot, body bool) (*api.Trace, error) {
	sp := where.space
	raw, err := t.s.archive.Raw(ctx, sp.number, where.at)
	if err != nil {
		return nil, err
	}
	snap := t.s.workspace.Current()
	m := &api.Trace{
		MessageID: raw.MessageID, RecordID: raw.ID.String(), Kind: kindName(raw.Kind), Space: sp.slug, Offset: uint64(where.at),
		Type: raw.Type.String(), Event: event.Label(raw.Type, raw.Name), SourceID: raw.Source,
		ReceivedAt: moment(raw.At), Timestamp: moment(raw.Time),
		Identifiers: []api.TraceIdentifier{}, Copies: []api.TraceCopy{}, Stages: []api.TraceStage{}, Deliveries: []api.TraceDelivery{}, Notes: []string{},
	}
	if raw.Kind == event.KindObject {
		m.Event = raw.Name
	}
	if w := snap.SpaceByNumber(sp.number); w != nil {
		m.SpaceID = w.ID
	}
	if src := snap.Source(raw.Source); src != nil {
		m.Source = src.Slug
	}
	for _, id := range raw.IDs {
		m.Identifiers = append(m.Identifiers, api.TraceIdentifier{Collection: id.Collection, Type: id.Type, ID: id.Value})
	}
	if body {
		m.Body = raw.Body
	}
	if trimmed, err := t.trimmed(ctx, where); err != nil {
		return nil, err
	} else if trimmed != "" {
		m.Notes = append(m.Notes, trimmed)
	}
	teller := telling{tracer: t, trace: m, space: sp, snap: snap, raw: &raw}
	teller.collected()

	var next commitlog.Offset
	err = t.s.db.View(ctx, func(r kv.Reader) error {
		pos, err := pipeline.ReadPosition(r, sp.number, sp.epoch())
		next = pos.Next
		return err
	})
	if err != nil {
		return nil, err
	}
	if where.at >= next {
		m.Status, m.Before = "pending", uint64(where.at-next)
		teller.stage("processing", "pending", "Look again in a moment.", fmt.Sprintf("%d records are processed before it", m.Before))
		return m, nil
	}
	passed, err := t.s.archive.Passed(ctx, sp.number, sp.epoch(), where.at)
	if err != nil {
		return nil, err
	}
	if body && passed.Body != nil {
		m.Body = passed.Body
	}
	return m, teller.passed(ctx, &passed)
}

// trimmed says that the body of a record is gone, if it is.
func (t tracer) trimmed(ctx context.Context, where spot) (string, error) {
	h, err := t.s.archive.Horizon(ctx, where.space.number)
	if err != nil || where.at >= h.Offset {
		return "", err
	}
	return "It is older than the retention of the space: only its head is kept. Events are whole since " + moment(h.At) + ".", nil
}

func kindName(k event.Kind) string {
	switch k {
	case event.KindEvent:
		return "event"
	case event.KindObject:
		return "object"
	case event.KindConfig:
		return "config"
	case event.KindCommand:
		return "command"
	}
	return "tick"
}

// moment writes an instant in milliseconds as the APIs do.
func moment(ms int64) string { return event.FormatTime(time.UnixMilli(ms).UTC()) }

// copyOf tells of another record with the same messageId.
func (t tracer) copyOf(ctx context.Context, sp *space, at commitlog.Offset) (api.TraceCopy, error) {
	e, err := t.s.archive.Event(ctx, sp.number, at)
	if err != nil {
		return api.TraceCopy{}, err
	}
	return api.TraceCopy{RecordID: e.Head.ID.String(), Offset: uint64(at), ReceivedAt: moment(e.Head.At), SourceID: e.Head.Source}, nil
}

// outputs reads what a record brought about.
func (t tracer) outputs(ctx context.Context, sp *space, p *archive.Passed) ([]archive.Caused, error) {
	return t.s.archive.Outputs(ctx, t.s.archive.Resolved(sp.number, sp.resolved), p)
}
