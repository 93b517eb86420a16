package identity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// explaining is one explanation in the making.
type explaining struct {
	*Explainer
	ctx   context.Context
	q     Question
	rules *rules // of the space as it is now
	asked event.Identifier
	out   Explanation
	of    *lineage // nil when the identifier is nobody's

	standing []Standing
	override *override // nil when every record goes by the rules of its time
	commands []removal // nil until they are read
	configs  []config  // likewise
	marks    []archive.Landmark
	marked   bool

	compiled map[uint64]*rules                    // by snapshot
	spoken   map[uint64]map[typeKey]bool          // the rules that are spoken of
	read     map[commitlog.Offset]*archive.Passed // nil for what is gone
	told     []sentence
	places   map[event.Identifier][]place // nil until they are asked for
}

// place is a member to which an identifier was attached, and when.
type place struct {
	member event.ProfileID
	at     commitlog.Offset
}

// sentence is told where its record stands in the sequence.
type sentence struct {
	at   commitlog.Offset
	text string
}

// config is a configuration and the record from which on it is in force.
type config struct {
	at     commitlog.Offset
	number uint64
}

// removal is a command that takes an identifier away or ends a membership.
type removal struct {
	at      commitlog.Offset
	ms      int64
	command *event.Command
	profile event.ProfileID // that it was carried out on
}

func newExplaining(ctx context.Context, x *Explainer, q Question, rs *rules) *explaining {
	return &explaining{
		Explainer: x, ctx: ctx, q: q, rules: rs, compiled: map[uint64]*rules{}, spoken: map[uint64]map[typeKey]bool{},
		read: map[commitlog.Offset]*archive.Passed{},
	}
}

// lineage is a profile with all that were merged into it.
type lineage struct {
	root    *Profile
	members map[event.ProfileID]*member
	order   []*member // the oldest first
	cut     int       // members that were left out
}

// member is one profile of a lineage, as it was when it was merged away.
type member struct {
	*Profile
	link *Link        // nil for the root
	own  []Identified // attached to it by events, not by merges
}

// open runs fn with a reader of the space.
func (e *explaining) view(fn func(Reader) error) error {
	return e.db.View(e.ctx, func(r kv.Reader) error { return fn(NewReader(r, e.q.Space.Number, e.q.Epoch)) })
}

// load reads the lineage of the profile, or of who has the identifier that was
// asked for.
func (e *explaining) load(profile event.ProfileID) error {
	return e.view(func(r Reader) (err error) {
		if e.standing, err = r.Standing(); err != nil {
			return err
		}
		if number, space, err := r.Override(); err != nil {
			return err
		} else if space != nil {
			e.override = &override{number: number, space: space}
		}
		if profile.IsZero() {
			if profile, err = r.Lookup(e.asked.Collection, e.asked.Type, e.asked.Value); err != nil || profile.IsZero() {
				return err
			}
		}
		e.of, err = loadLineage(r, profile)
		return err
	})
}

func loadLineage(r Reader, profile event.ProfileID) (*lineage, error) {
	root, err := r.Profile(profile)
	if err != nil {
		return nil, err
	}
	l := &lineage{root: root, members: map[event.ProfileID]*member{}}
	for i, id := range root.Family() {
		if i > maxExplainedProfiles {
			l.cut++
			continue
		}
		m := &member{Profile: root}
		if i > 0 {
			if m.Profile, err = r.Frozen(id); err != nil {
				return nil, err
			}
			if m.link, err = r.Link(id); err != nil {
				return nil, err
			}
			if m.Profile == nil || m.link == nil {
				return nil, errStored
			}
		}
		l.members[id] = m
		l.order = append(l.order, m)
	}
	slices.SortStableFunc(l.order, func(a, b *member) int { return cmp.Compare(a.Created.Offset, b.Created.Offset) })
	brought := map[event.ProfileID]map[attachment]bool{}
	for _, m := range l.order {
		if m.link == nil {
			continue
		}
		into := brought[m.link.Parent]
		if into == nil {
			into = map[attachment]bool{}
			brought[m.link.Parent] = into
		}
		for i := range m.Identifiers {
			into[attachmentOf(&m.Identifiers[i])] = true
		}
	}
	for _, m := range l.order {
		for i := range m.Identifiers {
			if !brought[m.ID][attachmentOf(&m.Identifiers[i])] {
				m.own = append(m.own, m.Identifiers[i])
			}
		}
	}
	return l, nil
}

// attachment names one time that an identifier was attached.
type attachment struct {
	event.Identifier
	at commitlog.Offset
}

func attachmentOf(x *Identified) attachment { return attachment{x.Identifier, x.Offset} }

// at returns which profile a member was part of just before a record.
func (l *lineage) at(id event.ProfileID, record commitlog.Offset) event.ProfileID {
	for {
		m := l.members[id]
		if m == nil || m.link == nil || m.link.Offset >= record {
			return id
		}
		id = m.link.Parent
	}
}

// passed reads a record; nil when it is not kept any more or was erased.
func (e *explaining) passed(at commitlog.Offset) (*archive.Passed, error) {
	if p, ok := e.read[at]; ok {
		return p, nil
	}
	if len(e.read) >= maxReadEvents {
		e.noteOnce(fmt.Sprintf("More than %d events would have to be read; the others are told without their details.", maxReadEvents))
		return nil, nil
	}
	p, err := e.past.Passed(e.ctx, e.q.Space.Number, e.q.Epoch, at)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && len(p.Body) == 0 && !p.Trimmed && p.Head.Kind == event.KindEvent:
		e.read[at] = nil
		return nil, nil
	case err != nil:
		return nil, err
	}
	if p.Trimmed {
		e.noteOnce("Events that are older than the space's retention have been trimmed: of these only the heads are known, with the identifiers that stand in the usual places.")
	}
	e.read[at] = &p
	return &p, nil
}

func (e *explaining) noteOnce(text string) {
	if !slices.Contains(e.out.Notes, text) {
		e.out.Notes = append(e.out.Notes, text)
	}
}

// sighting tells of the message at an offset, reading it.
func (e *explaining) sighting(at commitlog.Offset) (Sighting, error) {
	p, err := e.passed(at)
	if err != nil {
		return Sighting{}, err
	}
	if p == nil {
		return Sighting{Offset: uint64(at), Gone: true}, nil
	}
	h := &p.Head
	return Sighting{
		Offset: uint64(at), ReceivedAt: instant(h.At), Timestamp: instant(h.Time), MessageID: h.MessageID, RecordID: h.ID.String(),
		SourceID: h.Source, Type: h.Type.String(), Event: event.Label(h.Type, h.Name), Trimmed: p.Trimmed,
	}, nil
}

// sightingOf tells of the message that attached an identifier, without reading
// it.
func sightingOf(x *Identified) Sighting {
	return Sighting{Offset: uint64(x.Offset), Timestamp: instant(x.At), MessageID: x.MessageID, SourceID: x.SourceID}
}

func instant(ms int64) string { return event.FormatTime(time.UnixMilli(ms)) }

// landmarks reads where configurations and commands are.
func (e *explaining) landmarks() error {
	if e.marked {
		return nil
	}
	marks, err := e.past.Landmarks(e.ctx, e.q.Space.Number, ^commitlog.Offset(0))
	e.marks, e.marked = marks, err == nil
	return err
}

// rulesAt returns the rules that were in force at a record, and the number of
// their snapshot.
func (e *explaining) rulesAt(at commitlog.Offset) (*rules, uint64, error) {
	if e.configs == nil {
		if err := e.landmarks(); err != nil {
			return nil, 0, err
		}
		e.configs = []config{{}}
		for _, m := range e.marks {
			if m.Kind != event.KindConfig {
				continue
			}
			record, err := e.past.Raw(e.ctx, e.q.Space.Number, m.Offset)
			if err != nil {
				return nil, 0, err
			}
			number, err := event.ConfigNumber(record.Body)
			if err != nil {
				return nil, 0, err
			}
			e.configs = append(e.configs, config{m.Offset, number})
		}
	}
	n, _ := slices.BinarySearchFunc(e.configs[1:], at, func(c config, at commitlog.Offset) int { return cmp.Compare(c.at, at) })
	number := e.configs[n].number // the last before it
	rs, err := e.rulesOf(number)
	return rs, number, err
}

// rulesOf returns the rules that held under a snapshot.
func (e *explaining) rulesOf(number uint64) (*rules, error) {
	if rs := e.compiled[number]; rs != nil {
		return rs, nil
	}
	var space *workspace.Space
	switch {
	case e.override != nil && number < e.override.number:
		space = e.override.space
	case number > 0:
		err := e.db.View(e.ctx, func(r kv.Reader) error {
			s, err := e.snapshots.At(r, number)
			if err == nil {
				space = s.SpaceByNumber(e.q.Space.Number)
			}
			return err
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	rs, err := compile(space)
	if err == nil {
		e.compiled[number] = rs
	}
	return rs, err
}

// found looks at an event under the rules that were in force at it. Of one that
// was trimmed it knows the head.
func (e *explaining) found(p *archive.Passed) (found, error) {
	rs, _, err := e.rulesAt(p.Offset)
	if err != nil {
		return found{}, err
	}
	parsed := &event.Event{Type: p.Head.Type}
	if !p.Trimmed {
		if parsed, err = event.ParseTrusted(p.Body); err != nil {
			return found{}, err
		}
	}
	return find(rs, &pipeline.Record{Head: p.Head, Offset: p.Offset, Event: parsed, Verdict: p.Verdict}), nil
}

// removals reads the commands that took something away, the newest first when
// there are too many.
func (e *explaining) removals() ([]removal, error) {
	if e.commands != nil {
		return e.commands, nil
	}
	if err := e.landmarks(); err != nil {
		return nil, err
	}
	e.commands = []removal{}
	n := 0
	for _, m := range slices.Backward(e.marks) {
		if m.Kind != event.KindCommand {
			continue
		}
		if n++; n > maxReadCommands {
			e.noteOnce(fmt.Sprintf("Only the newest %d commands of the space were looked at.", maxReadCommands))
			break
		}
		record, err := e.past.Raw(e.ctx, e.q.Space.Number, m.Offset)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if record.Name != "deleteIdentifier" && record.Name != "leave" {
			continue
		}
		c, err := event.ParseCommand(record.Body)
		if err != nil || c.DeleteIdentifier == nil && c.Leave == nil {
			continue // erased since
		}
		p, err := e.past.Passed(e.ctx, e.q.Space.Number, e.q.Epoch, m.Offset)
		if err != nil {
			return nil, err
		}
		x := removal{at: m.Offset, ms: record.At, command: c, profile: p.Profile}
		if x.profile.IsZero() {
			x.profile = p.Account
		}
		e.commands = append(e.commands, x)
	}
	slices.Reverse(e.commands)
	return e.commands, nil
}
