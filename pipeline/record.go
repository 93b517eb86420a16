package pipeline

import (
	"kith/commitlog"
	"kith/event"
	"kith/pipeline/dedup"
	"kith/timer"
	"kith/workspace"
)

// Record is one step through the row: a record of the raw log, a fired timer,
// or a piece of work that a job hands to the loop.
type Record struct {
	event.Head                  // Kind 0 for firings and work, ID zero
	Offset     commitlog.Offset // of the raw record; for firings and work, of the record that comes next
	Stamped    int64            // Head.At as it was stamped; the row's At is never earlier than the record before
	Event      *event.Event     // parsed; nil when the record carries no event
	Object     []byte           // of an object record: the object's JSON; see event.KindObject
	Command    *event.Command   // of a command record, else nil; see event.KindCommand
	Source     *workspace.Source
	Snapshot   *workspace.Snapshot // the configuration in force at this record
	Before     *workspace.Snapshot // of a config record: the configuration that it replaces

	// Firing is the timer that fired, else nil. Then At is the instant at
	// which it was due.
	Firing *timer.Due
	// Work is what a job handed over, else nil; the stage that knows its type
	// handles it.
	Work any

	// Profile is the person the record belongs to and Account the account;
	// identity sets them. Zero: nobody's.
	Profile event.ProfileID
	Account event.ProfileID

	// Verdict is what intake decided. Only admitted records go on to the
	// stages behind the one that decided otherwise.
	Verdict Verdict

	// Outputs is where what the record brought about stands among the outputs
	// of its batch: its event, the changes and the messages it caused. What a
	// timer brought about that fired before it is not among them.
	Outputs Span

	// dedup stands for the MessageID of an event, and first is the record that
	// counted for it before this transaction, if one did within the window.
	dedup dedup.ID
	first *dedup.First

	// defect says which stage fell over the record; it is dropped with that
	// reason, so that one odd event cannot stop a space for ever.
	defect string

	// judged is the verdict that intake gave once; nil where it gives one now.
	judged *Verdict

	slots []any
}

// Span is a run of a batch's outputs.
type Span struct {
	First int // counted from Batch.Resolved
	Count int
}

// Verdict is what became of a record at intake. It is stored beside the block
// and never computed again.
type Verdict struct {
	Code   VerdictCode
	Reason string // for people: a discard code or the plan's rule; empty when admitted
	// Of is the offset of the record that this one repeats.
	Of commitlog.Offset
	// Body replaces the event's body from here on, for a record that intake
	// has changed (omitted properties, noted violations). Nil: unchanged.
	Body []byte
}

// Judged is one record of the past, of any kind and with any verdict.
type Judged struct {
	Offset  commitlog.Offset
	Head    event.Head // At and Time as the row saw them
	Raw     []byte     // the body as it was accepted
	Verdict Verdict
}

// Processed returns the body as intake let it pass.
func (p *Judged) Processed() []byte {
	if p.Verdict.Body != nil {
		return p.Verdict.Body
	}
	return p.Raw
}

// VerdictCode sorts verdicts. The numbers are stored.
type VerdictCode uint8

// The verdicts.
const (
	Admitted  VerdictCode = 0
	Duplicate VerdictCode = 1 // the same messageId was seen before in this space
	Blocked   VerdictCode = 2 // refused by the tracking plan; it rests in quarantine
	Dropped   VerdictCode = 3 // admitted to no profile and sent nowhere, with a reason
)

// Slot is one room's typed place in every record.
type Slot[T any] struct{ index int }

// Layout gives out slots while the server assembles the row. Its zero value is
// ready.
type Layout struct{ n int }

// NewSlot gives out the next slot.
func NewSlot[T any](l *Layout) Slot[T] {
	l.n++
	return Slot[T]{index: l.n - 1}
}

// Get returns the room's value in r, or nil when it wrote none.
func (s Slot[T]) Get(r *Record) *T {
	if s.index >= len(r.slots) || r.slots[s.index] == nil {
		return nil
	}
	return r.slots[s.index].(*T)
}

// Set writes the room's value into r.
func (s Slot[T]) Set(r *Record, v *T) {
	for len(r.slots) <= s.index {
		r.slots = append(r.slots, nil)
	}
	r.slots[s.index] = v
}
