package server

import (
	"context"
	"fmt"
	"sync/atomic"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// space is what runs for one space.
type space struct {
	number   uint32
	slug     string
	raw      *kvlog.Log
	resolved *kvlog.Log
	live     atomic.Pointer[live] // never nil once the space is open
}

// firstEpoch is the epoch that a space begins with.
const firstEpoch = 1

// Raw returns the open raw log of a space; see collect.Logs.
func (s *Server) Raw(number uint32) (commitlog.Log, error) {
	sp := s.space(number)
	if sp == nil {
		return nil, fault.New(fault.NotFound, "there is no space %d", number)
	}
	return sp.raw, nil
}

// resolved returns the resolved log of a space as it may be read: without what
// was erased.
func (s *Server) resolved(number uint32) (commitlog.Log, error) {
	sp := s.space(number)
	if sp == nil {
		return nil, fault.New(fault.NotFound, "there is no space %d", number)
	}
	return s.archive.Resolved(number, sp.resolved), nil
}

// space returns an open space, or nil.
func (s *Server) space(number uint32) *space {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.spaces[number]
}

// allSpaces returns the open spaces.
func (s *Server) allSpaces() []*space {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*space, 0, len(s.spaces))
	for _, sp := range s.spaces {
		all = append(all, sp)
	}
	return all
}

// openSpace opens the logs of a space and builds its loop.
func (s *Server) openSpace(ctx context.Context, w *workspace.Space) (*space, error) {
	sp := &space{number: w.Number, slug: w.Slug}
	epoch, err := s.liveEpoch(ctx, w.Number)
	if err != nil {
		return nil, err
	}
	sp.live.Store(&live{epoch: epoch})
	sp.raw, err = kvlog.Open(ctx, s.db, rawStem(w.Number), kv.Fence(fmt.Sprintf("log/raw/%d", w.Number)), kvlog.Options{})
	if err != nil {
		return nil, fmt.Errorf("raw log of space %s: %w", w.Slug, err)
	}
	sp.resolved, err = kvlog.Open(ctx, s.db, resolvedStem(w.Number), pipeline.Fence(w.Number, epoch), kvlog.Options{})
	if err != nil {
		return nil, fmt.Errorf("resolved log of space %s: %w", w.Slug, err)
	}
	return sp, nil
}

// liveEpoch returns the epoch of a space that everybody reads, and writes down
// the first.
func (s *Server) liveEpoch(ctx context.Context, number uint32) (uint32, error) {
	var epoch uint64
	err := s.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		var err error
		if epoch, err = readNumber(tx, epochKey(number)); err != nil || epoch > 0 {
			return err
		}
		epoch = firstEpoch
		return tx.Set(epochKey(number), encodeNumber(epoch))
	})
	return uint32(epoch), err
}

// announce makes a snapshot known: it opens spaces that are new, notes where new
// destinations begin, and appends the snapshot's config record to each raw log
// that lacks it. It may run again for the same snapshot.
func (s *Server) announce(ctx context.Context, snap *workspace.Snapshot) error {
	for i := range snap.Spaces {
		w := &snap.Spaces[i]
		if s.space(w.Number) != nil {
			continue
		}
		sp, err := s.openSpace(ctx, w)
		if err != nil {
			return err
		}
		if err := s.addSpace(ctx, sp); err != nil {
			return err
		}
	}
	if s.delivery != nil { // not at the start, when every destination there is has begun
		if err := s.delivery.Begin(ctx, snap); err != nil {
			return err
		}
	}
	for i := range snap.Spaces {
		w := &snap.Spaces[i]
		if err := s.tell(ctx, s.space(w.Number), snap.Number); err != nil {
			return fmt.Errorf("tell space %s of the configuration: %w", w.Slug, err)
		}
	}
	return nil
}

// addSpace makes an open space known, and starts its loop when loops run.
func (s *Server) addSpace(ctx context.Context, sp *space) error {
	if s.cfg.has(Pipeline) {
		l, err := s.buildLoop(ctx, sp)
		if err != nil {
			return err
		}
		sp.live.Store(l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spaces[sp.number] = sp
	if s.loops != nil {
		s.startSpace(sp)
	}
	return nil
}

// tell appends a config record unless the space has it. After a crash between
// the record and the note of it, the record stands there twice, which means the
// same.
func (s *Server) tell(ctx context.Context, sp *space, snapshot uint64) error {
	var told uint64
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		told, err = readNumber(r, toldKey(sp.number))
		return err
	})
	if err != nil || told >= snapshot {
		return err
	}
	now := s.clock.Now()
	id, err := event.NewRecordID(now, s.random)
	if err != nil {
		return err
	}
	record := event.Record{
		Head: event.Head{Kind: event.KindConfig, ID: id, At: now.UnixMilli(), Time: now.UnixMilli()},
		Body: event.ConfigBody(snapshot),
	}
	if _, err := sp.raw.Append(ctx, event.EncodeBlock([]event.Record{record})); err != nil {
		return err
	}
	return s.db.Update(ctx, fence, kv.Lazy, func(tx kv.Tx) error {
		return tx.Set(toldKey(sp.number), encodeNumber(snapshot))
	})
}

// closeSpaces closes all logs.
func (s *Server) closeSpaces() (first error) {
	for _, sp := range s.allSpaces() {
		for _, log := range []*kvlog.Log{sp.raw, sp.resolved} {
			if err := log.Close(); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}
