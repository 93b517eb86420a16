package pipeline

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/timer"
	"kith/workspace"
)

// Stage is one door of the row.
type Stage interface {
	// Name is the room's name, as people see it in a trace.
	Name() string
	// Begin starts a pass over one batch. Everything a pass reads or writes
	// goes through the batch; the pass is forgotten when the batch commits or
	// fails.
	Begin(b *Batch) (Pass, error)
}

// Pass is a stage at work on one batch.
type Pass interface {
	// Handle takes one record, in order. An error stops the loop: it means a
	// defect or a broken store, never a bad event. A stage ignores records
	// that are none of its business.
	Handle(r *Record) error
	// Finish writes what the pass held back, so that a hot profile is written
	// once a batch. The stages finish in the order of the row.
	Finish() error
}

// Preparer is an optional capability of a Stage: order-free work on a record,
// done before the batch's transaction and on all cores (looking into bodies,
// validating). Prepare may be called for many records at once; it writes only
// its own slot and uses only the record.
type Preparer interface {
	Prepare(r *Record)
}

// Reader is an optional capability of a Stage: it names the keys that its
// first look at a record will want, so that the loop can read them for the
// whole batch at once, on all cores. What it names is a hint.
type Reader interface {
	Keys(b *Batch, r *Record) [][]byte
}

// Recorder keeps the history. The loop calls it once a batch, after the
// stages have finished, with the records of the raw log in order, those that
// were not admitted too.
type Recorder interface {
	Record(b *Batch, records []*Record) error
}

// Batch is what the passes over one batch share.
type Batch struct {
	Tx    kv.Tx
	Space uint32
	Epoch uint32
	// Live says that outputs leave: it is false for an epoch that is being
	// rebuilt. Stages compute alike in both; only activation asks.
	Live bool
	// Timers arms and disarms the wake-ups of this space and epoch.
	Timers *timer.Pass
	// Snapshot is the configuration in force; it changes when a config record
	// passes. A record carries its own.
	Snapshot *workspace.Snapshot
	// Resolved is where the batch's first output will stand in the resolved
	// log.
	Resolved commitlog.Offset
	// Full ends the transaction behind the record at hand: a stage sets it when
	// it holds as much in memory as it should. The records behind it come next.
	Full bool

	outputs []Output
	emitted int // bytes of outputs, about
	after   []func()
}

// Emit adds an output. Outputs are written to the resolved log in the order
// in which they were emitted.
func (b *Batch) Emit(o Output) {
	b.outputs = append(b.outputs, o)
	b.emitted += outputBytes
	if o.Message != nil {
		b.emitted += len(o.Message.Body)
	}
}

// Emitted returns what was emitted in the batch so far. It must not be changed.
func (b *Batch) Emitted() []Output { return b.outputs }

// outputBytes is what an output takes beside a message's body, about.
const outputBytes = 128

// AfterCommit runs fn once the batch is durable: the place for metrics, taps
// and waking a job. fn must be quick and must not fail.
func (b *Batch) AfterCommit(fn func()) { b.after = append(b.after, fn) }

// Key starts a key of this batch's derived state.
func (b *Batch) Key(room byte) kv.Key { return kv.EpochKey(b.Space, b.Epoch, room) }

// Output is one thing that leaves the row. Exactly one of Event, Change and
// Message is set.
type Output struct {
	At      int64           // the instant of its cause, in milliseconds
	Profile event.ProfileID // whose it is; outputs of one profile are delivered in order
	Event   *Resolved
	Change  *Change
	Message *Message
}

// Resolved is an event that was admitted, by reference: its body is in the
// archive.
type Resolved struct {
	Offset    uint64 // of the raw record
	ID        event.RecordID
	Type      event.Type
	Name      string // a track call's event
	Source    string // the source's id
	MessageID string
}

// Change is something that happened to a profile, for those who watch.
type Change struct {
	Kind  ChangeKind
	Cause event.RecordID  // the record that caused it; zero for a timer or a job
	Other event.ProfileID // merged: the profile that was merged into Profile
	// Subject is what changed: an identifier's "type:value", a trait's name,
	// an audience's key. Detail says more, for people.
	Subject string
	Detail  string
}

// ChangeKind says what happened. The numbers are stored.
type ChangeKind uint8

// The changes.
const (
	ProfileCreated     ChangeKind = 1
	ProfilesMerged     ChangeKind = 2
	IdentifierAttached ChangeKind = 3
	IdentifierRefused  ChangeKind = 4 // Detail is the violation's name (sheet unify_engage_privacy §1.3)
	TraitChanged       ChangeKind = 5
	AudienceEntered    ChangeKind = 6
	AudienceExited     ChangeKind = 7
	TraitRefused       ChangeKind = 8 // Subject is the first of them, Detail says how many and why
	ProfileSplit       ChangeKind = 9 // Other is the profile that Profile was part of
	IdentifierRemoved  ChangeKind = 10
	AccountJoined      ChangeKind = 11 // Other is the account
	AccountLeft        ChangeKind = 12 // likewise
	EpochSwapped       ChangeKind = 13 // of nobody: what is derived was rebuilt; Subject is the epoch
	ProfileErased      ChangeKind = 14
	EventFiltered      ChangeKind = 15 // of nobody; Subject is the filter's name, Detail its id
	ProfileSuspicious  ChangeKind = 16 // Subject is what there are more of than the space's guard; Detail says how many
)

var changeNames = [...]string{"", "profile created", "profiles merged", "identifier attached", "identifier refused",
	"trait changed", "audience entered", "audience exited", "trait refused", "profile split", "identifier removed",
	"account joined", "account left", "rebuilt", "profile erased", "event filtered", "profile suspicious"}

// String returns the change in plain words.
func (k ChangeKind) String() string {
	if int(k) < len(changeNames) {
		return changeNames[k]
	}
	return "unknown"
}

// Message is an event that Kith itself addresses to one destination. Its body
// rests in the resolved log only.
type Message struct {
	Destination string // the destination's id
	Computation string // the audience's id
	MessageID   string
	Body        []byte // the event's JSON, in Segment's shape
}
