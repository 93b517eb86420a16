package delivery

import (
	"slices"
	"strings"

	"kith/commitlog"
	"kith/kv"
)

// The ledger says of every output what became of it at a destination. It is
// kept in blocks of neighbouring outputs of one space's resolved log, each a
// string of runs of outputs with the same outcomes.
//
// Blocks hold a fixed number of outputs, not those of a block of the log: a
// log that little is written to has blocks of one output, for which a key each
// would be fifty bytes (docs/decisions/0007-ledger.md).

// ledgerSpan is how many outputs a block of the ledger is about.
const ledgerSpan = 1024

// State is how an output stands at a destination. The numbers are stored.
type State uint8

// The states.
const (
	StateDelivered State = 1
	StateDead      State = 2 // a dead letter
	StateWaiting   State = 3 // for a retry, or behind an event of its profile that does
	StateFiltered  State = 4 // kept back by a gate
)

var stateNames = [...]string{"", "delivered", "dead", "waiting", "filtered"}

// String returns the state in one word.
func (s State) String() string {
	if int(s) < len(stateNames) && s > 0 {
		return stateNames[s]
	}
	return "unknown"
}

// MaxCountedAttempts is the most attempts that the ledger tells apart.
const MaxCountedAttempts = 10

// Outcome is what became of an output for one subscription, as the ledger has
// it. Outcomes can be compared with ==.
type Outcome struct {
	Subscription string // its id; empty without one
	State        State
	Gate         Gate // of StateFiltered
	// Addressed says that the output is a message that Kith itself addressed
	// to the destination, and no event of its source.
	Addressed bool
	// Attempts is how many it took, of StateDelivered and StateDead; at
	// MaxCountedAttempts it may be more.
	Attempts uint8
	// Code is the kind of failure, of StateDead: "503 Service Unavailable".
	Code string
}

// The first of a ledger block's symbols. Those that follow are its own.
const (
	symbolOpen = 0 // not settled yet
	symbolNone = 1 // none of the destination's business
	symbolsOwn = 2
)

// ledgerBlock is a block of the ledger.
type ledgerBlock struct {
	number uint64 // the block is about the outputs from number×ledgerSpan on
	first  int    // what lies before is not known: the destination is newer
	end    int    // what lies behind has not been read yet
	// symbols are the combinations of outcomes that occur; each is in the
	// order of its subscriptions.
	symbols [][]Outcome
	entries [ledgerSpan]uint16 // by output: a symbol
	minutes []minuteMark

	dirty bool // since the last commit
}

// minuteMark says that the outputs from a place on are of a minute.
type minuteMark struct {
	at     int
	minute int64 // of the instant of their cause, in minutes since 1970
}

func blockOf(at commitlog.Offset) (number uint64, i int) {
	return uint64(at) / ledgerSpan, int(at % ledgerSpan)
}

func (b *ledgerBlock) offset(i int) commitlog.Offset {
	return commitlog.Offset(b.number*ledgerSpan + uint64(i))
}

// pass takes note that the i-th output was read; it is open until it is set.
func (b *ledgerBlock) pass(i int, minute int64) {
	if i < b.end {
		return // read again after a restart
	}
	b.dirty = true
	for ; b.end < i; b.end++ {
		b.entries[b.end] = symbolNone // settled before there was a ledger
	}
	b.end = i + 1
	if n := len(b.minutes); n == 0 || b.minutes[n-1].minute != minute {
		b.minutes = append(b.minutes, minuteMark{i, minute})
	}
}

// setNone says that the i-th output is none of the destination's business.
func (b *ledgerBlock) setNone(i int) { b.entries[i], b.dirty = symbolNone, true }

// put sets what became of the i-th output for one subscription. Once the ledger
// has an outcome, that keeps its Addressed.
func (b *ledgerBlock) put(i int, o Outcome) {
	if i < b.first || i >= b.end {
		return // never read as far as the ledger knows
	}
	b.dirty = true
	was := b.entries[i]
	if was < symbolsOwn {
		b.entries[i] = b.symbolOf(o)
		return
	}
	had := b.symbols[was-symbolsOwn]
	if len(had) == 1 && had[0].Subscription == o.Subscription {
		o.Addressed = had[0].Addressed
		b.entries[i] = b.symbolOf(o)
		return
	}
	place, found := slices.BinarySearchFunc(had, o, func(a, b Outcome) int { return strings.Compare(a.Subscription, b.Subscription) })
	next := slices.Clone(had)
	if found {
		o.Addressed = had[place].Addressed
		next[place] = o
	} else {
		next = slices.Insert(next, place, o)
	}
	b.entries[i] = b.symbolOf(next...)
}

// symbolOf returns the symbol of outcomes, a new one if there is none yet.
func (b *ledgerBlock) symbolOf(outcomes ...Outcome) uint16 {
	for i := len(b.symbols) - 1; i >= 0; i-- {
		if slices.Equal(b.symbols[i], outcomes) {
			return uint16(i) + symbolsOwn
		}
	}
	b.symbols = append(b.symbols, slices.Clone(outcomes))
	return uint16(len(b.symbols)) - 1 + symbolsOwn
}

// tidy forgets symbols that have gone out of use, once there are many.
func (b *ledgerBlock) tidy() {
	if len(b.symbols) < 64 {
		return
	}
	number := map[uint16]uint16{}
	var used [][]Outcome
	for i := b.first; i < b.end; i++ {
		e := b.entries[i]
		if e < symbolsOwn {
			continue
		}
		n, ok := number[e]
		if !ok {
			n = uint16(len(used)) + symbolsOwn
			number[e] = n
			used = append(used, b.symbols[e-symbolsOwn])
		}
		b.entries[i] = n
	}
	b.symbols = used
}

// outcomes returns what became of the i-th output; settled is false while that
// is open.
func (b *ledgerBlock) outcomes(i int) (list []Outcome, settled bool) {
	switch e := b.entries[i]; e {
	case symbolOpen:
		return nil, false
	case symbolNone:
		return nil, true
	default:
		return b.symbols[e-symbolsOwn], true
	}
}

// runs calls fn with the runs of outputs of one minute that have the same
// outcomes, in order; settled is false for those that have none yet.
func (b *ledgerBlock) runs(fn func(minute int64, first, n int, outcomes []Outcome, settled bool)) {
	mark := 0
	for i := b.first; i < b.end; {
		for mark+1 < len(b.minutes) && b.minutes[mark+1].at <= i {
			mark++
		}
		end := b.end
		if mark+1 < len(b.minutes) {
			end = b.minutes[mark+1].at
		}
		n := 1
		for i+n < end && b.entries[i+n] == b.entries[i] {
			n++
		}
		outcomes, settled := b.outcomes(i)
		fn(b.minutes[mark].minute, i, n, outcomes, settled)
		i += n
	}
}

// newest is the latest minute of the outputs.
func (b *ledgerBlock) newest() (latest int64) {
	for i, m := range b.minutes {
		if i == 0 || m.minute > latest {
			latest = m.minute
		}
	}
	return latest
}

// The form of a block: first, end-first; the subscriptions and codes that
// occur; the symbols; the minutes; and the runs, each one number: how many
// outputs it has but one, times the number of symbols, plus its symbol.
// addressedBit stands beside the state.
const addressedBit = 0x80

func (b *ledgerBlock) encode() []byte {
	b.tidy()
	words, number := []string{}, map[string]uint64{}
	word := func(s string) uint64 {
		n, ok := number[s]
		if !ok {
			n = uint64(len(words))
			words, number[s] = append(words, s), n
		}
		return n
	}
	var symbols kv.Value
	for _, outcomes := range b.symbols {
		symbols = symbols.Uvarint(uint64(len(outcomes)))
		for _, o := range outcomes {
			state, detail := byte(o.State), uint64(o.Attempts)
			if o.Addressed {
				state |= addressedBit
			}
			if o.State == StateFiltered {
				detail = uint64(o.Gate)
			}
			symbols = symbols.Uvarint(word(o.Subscription)).Byte(state).Uvarint(detail)
			if o.State == StateDead {
				symbols = symbols.Uvarint(word(o.Code))
			}
		}
	}
	v := make(kv.Value, 0, 128).Byte(ledgerFormat).Uvarint(uint64(b.first)).Uvarint(uint64(b.end - b.first)).Uvarint(uint64(len(words)))
	for _, w := range words {
		v = v.String(w)
	}
	v = v.Uvarint(uint64(len(b.symbols))).Fixed(symbols).Uvarint(uint64(len(b.minutes)))
	at, minute := b.first, int64(0)
	for _, m := range b.minutes {
		v = v.Uvarint(uint64(m.at - at)).Varint(m.minute - minute)
		at, minute = m.at, m.minute
	}
	all := uint64(len(b.symbols) + symbolsOwn)
	for i := b.first; i < b.end; {
		n := 1
		for i+n < b.end && b.entries[i+n] == b.entries[i] {
			n++
		}
		v = v.Uvarint(uint64(n-1)*all + uint64(b.entries[i]))
		i += n
	}
	return v
}

func decodeLedger(number uint64, value []byte) (*ledgerBlock, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == ledgerFormat
	b := &ledgerBlock{number: number, first: f.Count(ledgerSpan)}
	b.end = b.first + f.Count(ledgerSpan-b.first)
	words := make([]string, f.Count(len(f.Rest())))
	for i := range words {
		words[i] = f.String()
	}
	word := func() string {
		if n := f.Uvarint(); n < uint64(len(words)) {
			return words[n]
		}
		f.Fail()
		return ""
	}
	b.symbols = make([][]Outcome, f.Count(min(ledgerSpan, len(f.Rest()))))
	for i := range b.symbols {
		outcomes := make([]Outcome, f.Count(len(f.Rest())/3))
		for j := range outcomes {
			o := Outcome{Subscription: word()}
			state := f.Byte()
			o.State, o.Addressed = State(state&^addressedBit), state&addressedBit != 0
			detail := f.Uvarint()
			switch {
			case o.State == StateFiltered:
				o.Gate = Gate(min(detail, 255))
			case detail <= MaxCountedAttempts:
				o.Attempts = uint8(detail)
			default:
				f.Fail()
			}
			if o.State == StateDead {
				o.Code = word()
			}
			if o.State < StateDelivered || o.State > StateFiltered {
				f.Fail()
			}
			outcomes[j] = o
		}
		b.symbols[i] = outcomes
	}
	b.minutes = make([]minuteMark, f.Count(b.end-b.first))
	at, minute := b.first, int64(0)
	for i := range b.minutes {
		at += f.Count(b.end - at)
		minute += f.Varint()
		b.minutes[i] = minuteMark{at, minute}
	}
	if b.end > b.first && (len(b.minutes) == 0 || b.minutes[0].at != b.first) {
		f.Fail()
	}
	all := uint64(len(b.symbols) + symbolsOwn)
	for i := b.first; i < b.end && f.OK(); {
		run := f.Uvarint()
		n, e := run/all, uint16(run%all)
		if n >= uint64(b.end-i) {
			f.Fail()
			break
		}
		for range n + 1 {
			b.entries[i] = e
			i++
		}
	}
	if !known || !f.OK() || len(f.Rest()) > 0 {
		return nil, errDamaged("block of the ledger")
	}
	return b, nil
}
