package inspect

import (
	"slices"
	"strings"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
)

// InsightKind sorts what is told of identity (sheet unify_engage_privacy §1.14).
type InsightKind string

// The kinds of insights.
const (
	ViolationInsight InsightKind = "violation" // an event does not use an identifier that is on it
	DropInsight      InsightKind = "drop"      // an event is nobody's
	MergeInsight     InsightKind = "merge"     // two profiles became one
	MappingInsight   InsightKind = "mapping"   // an identifier was attached to a profile
	ProfileInsight   InsightKind = "profile"   // a profile was created
	TraitInsight     InsightKind = "trait"     // traits were not taken
	SplitInsight     InsightKind = "split"     // a profile was separated from another
	RemovalInsight   InsightKind = "removal"   // an identifier was taken from a profile
	AccountInsight   InsightKind = "account"   // a user joined an account or left it
	ErasureInsight   InsightKind = "erasure"   // a profile was erased
	RebuildInsight   InsightKind = "rebuild"   // everything derived was worked out again
	GuardInsight     InsightKind = "guard"     // a profile has grown beyond the space's guard
)

// InsightKinds are all of them, in the order of their numbers, which are
// stored: a kind's is its place counted from 1.
func InsightKinds() []InsightKind {
	return []InsightKind{ViolationInsight, DropInsight, MergeInsight, MappingInsight, ProfileInsight, TraitInsight, SplitInsight,
		RemovalInsight, AccountInsight, ErasureInsight, RebuildInsight, GuardInsight}
}

func (k InsightKind) number() byte { return byte(slices.Index(InsightKinds(), k) + 1) }

func insightKindAt(n byte) InsightKind {
	if all := InsightKinds(); n >= 1 && int(n) <= len(all) {
		return all[n-1]
	}
	return ""
}

// Insight is one thing that identity, or who keeps traits, has done or refused.
type Insight struct {
	Place commitlog.Offset // in the resolved log
	At    time.Time        // when its message was appended
	Kind  InsightKind
	What  string // in plain words: "identifier refused"
	// Reason is the violation's name, why an event is nobody's, or why traits
	// were not taken.
	Reason string
	// Type and Value are the identifier that it is about; empty: none.
	Type, Value string
	Trait       string // the first trait that was refused
	Detail      string // for people
	Profile     event.ProfileID
	Other       event.ProfileID // merge: the profile that was merged away; account: the account

	// What brought it about: a message, or a command (then only Record is set).
	Record    event.RecordID
	Offset    commitlog.Offset // in the raw log; of a message only
	MessageID string
	Source    string // the source's id
	EventType event.Type
	Event     string // a track call's event

	subject string // "type:value", as it is stored
}

// insightOf reads a change; ok is false for changes that are none of
// identity's. cause is the event before it in the resolved log, or nil.
func insightOf(place commitlog.Offset, o *pipeline.Output, cause *pipeline.Resolved) (x Insight, ok bool) {
	c := o.Change
	x = Insight{Place: place, At: time.UnixMilli(o.At).UTC(), What: c.Kind.String(), Detail: c.Detail, Profile: o.Profile, Other: c.Other, Record: c.Cause}
	switch c.Kind {
	case pipeline.ProfileCreated:
		x.Kind = ProfileInsight
	case pipeline.ProfilesMerged:
		x.Kind = MergeInsight
	case pipeline.IdentifierAttached:
		x.Kind = MappingInsight
	case pipeline.IdentifierRefused:
		x.Kind, x.Reason, x.Detail = ViolationInsight, c.Detail, ""
		if c.Subject == "" {
			x.Kind, x.What = DropInsight, "event of nobody"
		}
	case pipeline.EventFiltered:
		x.Kind, x.Reason, x.Detail = DropInsight, "Event filter", c.Subject
	case pipeline.TraitRefused:
		x.Kind, x.Trait = TraitInsight, c.Subject
		_, x.Reason, _ = strings.Cut(c.Detail, ": ")
	case pipeline.ProfileSuspicious:
		x.Kind, x.Reason = GuardInsight, c.Subject
	case pipeline.ProfileSplit:
		x.Kind = SplitInsight
	case pipeline.IdentifierRemoved:
		x.Kind = RemovalInsight
	case pipeline.AccountJoined, pipeline.AccountLeft:
		x.Kind = AccountInsight
	case pipeline.ProfileErased:
		x.Kind = ErasureInsight
	case pipeline.EpochSwapped:
		x.Kind, x.Detail = RebuildInsight, c.Subject
	default:
		return Insight{}, false
	}
	switch x.Kind {
	case ViolationInsight, MappingInsight, RemovalInsight:
		x.subject = c.Subject
		x.Type, x.Value, _ = strings.Cut(c.Subject, ":")
	}
	if cause != nil && cause.ID == c.Cause {
		x.Offset, x.MessageID, x.Source = commitlog.Offset(cause.Offset), cause.MessageID, cause.Source
		x.EventType, x.Event = cause.Type, cause.Name
	}
	return x, true
}

// FromMessage reports whether a message has brought it about.
func (x *Insight) FromMessage() bool { return x.EventType != event.None }

// tokens calls fn with everything that an insight is found by.
func (x *Insight) tokens(fn func(kind byte, text string)) {
	say := func(kind byte, text string) {
		if text != "" {
			fn(kind, text)
		}
	}
	say(tokenReason, x.Reason)
	say(tokenType, x.Type)
	say(tokenValue, x.Value)
	say(tokenSource, x.Source)
	say(tokenMessage, x.MessageID)
	for _, p := range [...]event.ProfileID{x.Profile, x.Other} {
		if !p.IsZero() {
			fn(tokenProfile, string(p[:]))
		}
	}
}

// What a token is of.
const (
	tokenReason  = 'r'
	tokenType    = 't'
	tokenValue   = 'v'
	tokenSource  = 's'
	tokenMessage = 'm'
	tokenProfile = 'p'
)

// tokenHash mixes a token into 64 bits: FNV-1a and the finish of splitmix64.
// Hashes are stored, so this never changes.
func tokenHash(kind byte, text string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(kind)) * prime
	for i := 0; i < len(text); i++ {
		h = (h ^ uint64(text[i])) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// A filter says which tokens may be in a segment: a Bloom filter with 12 bits a
// token and 6 looks, which says yes wrongly for 4 tokens in 1,000.
const (
	filterBits  = 12
	filterLooks = 6
)

func newFilter(tokens map[uint64]struct{}) []byte {
	filter := make([]byte, (len(tokens)*filterBits+7)/8)
	for h := range tokens {
		eachBit(filter, h, func(at uint64) bool {
			filter[at/8] |= 1 << (at % 8)
			return true
		})
	}
	return filter
}

func filterHas(filter []byte, hash uint64) bool {
	has := len(filter) > 0
	eachBit(filter, hash, func(at uint64) bool {
		has = filter[at/8]&(1<<(at%8)) != 0
		return has
	})
	return has
}

func eachBit(filter []byte, h uint64, fn func(at uint64) bool) {
	if len(filter) == 0 {
		return
	}
	bits, step := uint64(len(filter))*8, h>>32|1
	for range filterLooks {
		if !fn(h % bits) {
			return
		}
		h += step
	}
}
