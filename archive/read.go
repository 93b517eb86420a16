package archive

import (
	"bytes"
	"context"
	"sync"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Archive reads and records the history of all spaces. It is safe for
// concurrent use.
type Archive struct {
	db  kv.DB
	raw func(space uint32) (commitlog.Log, error)
	// rewriting is held by whoever replaces what records hold: one step at a time,
	// since a step reads before it writes.
	rewriting sync.Mutex

	mu    sync.Mutex
	hot   []*hotBlock // most recently used first
	size  int
	veils map[uint32]*Veil // by space; see veilOf
}

// These bound the unpacked blocks that Archive keeps for the readers that
// follow the head of the log.
const (
	hotBytes     = 64 << 20
	maxHotBlocks = 512
)

// New returns the archive over db and the raw logs of the spaces.
func New(db kv.DB, raw func(space uint32) (commitlog.Log, error)) *Archive {
	return &Archive{db: db, raw: raw, veils: map[uint32]*Veil{}}
}

// Entry is one event of the past.
type Entry struct {
	Offset  commitlog.Offset
	Head    event.Head // At and Time as the row saw them
	Body    []byte     // as intake let it pass; empty when it was trimmed
	Profile event.ProfileID
	Account event.ProfileID
	Verdict pipeline.Verdict
	Trimmed bool // it lies before the horizon: the body is gone
}

// hotBlock is a block unpacked, with the verdicts on it.
type hotBlock struct {
	space    uint32
	first    commitlog.Offset
	heads    []event.Head
	bodies   [][]byte
	verdicts []pipeline.Verdict
	trimmed  []bool
	bytes    int
	veil     *Veil // that was applied
}

// Body returns the body of an event that has passed intake, as intake let it
// pass; it is empty when the event was erased or its body trimmed. Whoever reads events in order
// pays for unpacking a block once.
func (a *Archive) Body(ctx context.Context, space uint32, at commitlog.Offset) ([]byte, error) {
	e, err := a.event(ctx, space, at)
	if err != nil {
		return nil, err
	}
	return e.Body, nil
}

// Event returns one event with its verdict, without its profile. What was
// erased has the kind event.KindErased and no body. An offset that the loop has
// not passed yet is fault.NotFound.
func (a *Archive) Event(ctx context.Context, space uint32, at commitlog.Offset) (Entry, error) {
	return a.event(ctx, space, at)
}

func (a *Archive) event(ctx context.Context, space uint32, at commitlog.Offset) (Entry, error) {
	h, err := a.block(ctx, space, at)
	if err != nil {
		return Entry{}, err
	}
	i := int(at - h.first)
	return Entry{Offset: at, Head: h.heads[i], Body: h.bodies[i], Verdict: h.verdicts[i], Trimmed: h.trimmed[i]}, nil
}

// block returns the unpacked block that holds the record at.
func (a *Archive) block(ctx context.Context, space uint32, at commitlog.Offset) (*hotBlock, error) {
	a.mu.Lock()
	for i, h := range a.hot {
		if h.space == space && at >= h.first && at < h.first+commitlog.Offset(len(h.heads)) {
			copy(a.hot[1:i+1], a.hot[:i])
			a.hot[0] = h
			a.mu.Unlock()
			return h, nil
		}
	}
	a.mu.Unlock()

	log, err := a.raw(space)
	if err != nil {
		return nil, err
	}
	blocks, err := log.Read(ctx, at, 1)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, fault.New(fault.NotFound, "the log has no record at %d", at)
	}
	h, whole, err := a.unpack(ctx, space, blocks[0])
	if err != nil {
		return nil, err
	}
	if int(at-h.first) >= len(h.heads) {
		return nil, fault.New(fault.NotFound, "the record at %d has not passed intake yet", at)
	}
	if whole {
		a.keep(h)
	}
	return h, nil
}

// unpack decodes a block and applies the verdicts on it. Where the loop has
// not passed the whole block yet, h ends early and whole is false.
func (a *Archive) unpack(ctx context.Context, space uint32, blk commitlog.Block) (h *hotBlock, whole bool, err error) {
	p, err := a.page(ctx, space, blk)
	if err != nil {
		return nil, false, err
	}
	bodies, err := p.bodies(blk)
	if err != nil {
		return nil, false, err
	}
	h = &hotBlock{space: space, first: blk.First, veil: p.veil}
	err = a.db.View(ctx, func(r kv.Reader) error {
		runs := runReader{reader: r, space: space}
		for i := range p.heads {
			run, err := runs.verdicts(blk.First + commitlog.Offset(i))
			if err != nil || run == nil {
				return err
			}
			e := Entry{Offset: blk.First + commitlog.Offset(i), Head: p.heads[i], Body: bodies[i], Trimmed: p.trimmed(i)}
			run.judge(&e, p)
			if e.Verdict.Body != nil { // the run, which covers other blocks too, is not kept
				e.Verdict.Body = bytes.Clone(e.Verdict.Body)
				e.Body = e.Verdict.Body
			}
			h.heads = append(h.heads, e.Head)
			h.bodies = append(h.bodies, e.Body)
			h.verdicts = append(h.verdicts, e.Verdict)
			h.trimmed = append(h.trimmed, e.Trimmed)
			h.bytes += len(bodies[i]) + len(e.Verdict.Body) + 256
		}
		return nil
	})
	return h, len(h.heads) == len(p.heads), err
}

func (a *Archive) keep(h *hotBlock) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.veils[h.space] != h.veil {
		return // meanwhile more is hidden
	}
	for _, other := range a.hot {
		if other.space == h.space && other.first == h.first {
			return // somebody else has missed it at the same time
		}
	}
	a.hot = append([]*hotBlock{h}, a.hot...)
	a.size += h.bytes
	for (a.size > hotBytes || len(a.hot) > maxHotBlocks) && len(a.hot) > 1 {
		last := a.hot[len(a.hot)-1]
		a.hot = a.hot[:len(a.hot)-1]
		a.size -= last.bytes
	}
}

// runReader finds the stored runs that cover an offset, and remembers the last
// of each kind for a reader that goes forward.
type runReader struct {
	reader  kv.Reader
	space   uint32
	epoch   uint32
	verdict *verdictRun
	profile *profileRun
}

func (s *runReader) verdicts(o commitlog.Offset) (*verdictRun, error) {
	if s.verdict.covers(o) {
		return s.verdict, nil
	}
	first, value, err := s.find(verdictStem(s.space), o)
	if err != nil || value == nil {
		return nil, err
	}
	run, err := decodeVerdicts(first, value)
	if err != nil || !run.covers(o) {
		return nil, err
	}
	s.verdict = run
	return run, nil
}

func (s *runReader) profiles(o commitlog.Offset) (*profileRun, error) {
	if s.profile.covers(o) {
		return s.profile, nil
	}
	first, value, err := s.find(profileStem(s.space, s.epoch), o)
	if err != nil || value == nil {
		return nil, err
	}
	run, err := decodeProfiles(first, value)
	if err != nil || !run.covers(o) {
		return nil, err
	}
	if err := run.overlay(s.reader, s.space, s.epoch); err != nil {
		return nil, err
	}
	s.profile = run
	return run, nil
}

// judge gives an entry its verdict and the instants that the row saw, as the
// page of its block shows them.
func (r *verdictRun) judge(e *Entry, p *page) {
	odd := r.odd[int(e.Offset-r.first)]
	e.Head.At += odd.raised
	e.Verdict = p.verdict(int(e.Offset-p.first), odd.verdict)
	if e.Verdict.Body != nil {
		e.Body = e.Verdict.Body
	}
}

func (s *runReader) find(stem kv.Key, o commitlog.Offset) (commitlog.Offset, []byte, error) {
	for p, err := range s.reader.Scan(kv.Range{From: stem, To: runKey(stem, o+1), Reverse: true, Limit: 1}) {
		if err != nil {
			return 0, nil, err
		}
		parts := kv.PartsAfter(p.Key, stem)
		return commitlog.Offset(parts.Uint64()), append([]byte{}, p.Value...), nil
	}
	return 0, nil, nil
}
