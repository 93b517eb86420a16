package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kith/activation"
	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/rebuild"
)

// maxAdvance is how far one request moves the test clock.
const maxAdvance = 100 * 365 * 24 * time.Hour

// lookAgain is how long to wait before looking again whether work beside the
// loops has ended. It is time of the machine: the test clock stands.
const lookAgain = 2 * time.Millisecond

// advance moves the test clock to an instant, from one timer or retry due to
// the next. It returns once all that is due by then has run, its outputs are
// committed, and the destinations have had them.
func (s *Server) advance(ctx context.Context, to time.Time) error {
	for {
		if err := s.settle(ctx); err != nil {
			return err
		}
		next, ok, err := s.nextDue(ctx)
		if err != nil {
			return err
		}
		if !ok || next.After(to) {
			break
		}
		s.manual.Set(next)
		if err := s.tick(ctx); err != nil {
			return err
		}
	}
	s.manual.Set(to)
	if err := s.tick(ctx); err != nil {
		return err
	}
	return s.settle(ctx)
}

// nextDue returns when the next timer or retry is due.
func (s *Server) nextDue(ctx context.Context) (next time.Time, ok bool, err error) {
	earlier := func(t time.Time) {
		if !ok || t.Before(next) {
			next, ok = t, true
		}
	}
	for _, sp := range s.allSpaces() {
		if sp.loop() == nil {
			continue
		}
		due, armed, err := sp.loop().NextTimer(ctx)
		if err != nil {
			return next, false, err
		}
		if armed {
			earlier(due)
		}
	}
	if due, waits := s.delivery.NextDue(); waits {
		earlier(due)
	}
	return next, ok, nil
}

// tick lets every loop fire what is due by now.
func (s *Server) tick(ctx context.Context) error {
	for _, sp := range s.allSpaces() {
		if sp.loop() == nil {
			continue
		}
		at, err := sp.loop().Tick(ctx)
		if err != nil {
			return err
		}
		if err := sp.loop().Passed(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until nothing moves any more: the loops have passed all records,
// the work beside them is done, and the destinations have had all outputs but
// those that wait for a retry due later.
func (s *Server) settle(ctx context.Context) error {
	for {
		before := s.ends()
		for _, sp := range s.allSpaces() {
			if end := sp.raw.End(); sp.loop() != nil && end > 0 {
				if err := sp.loop().Passed(ctx, end-1); err != nil {
					return err
				}
			}
		}
		busy, err := s.busy(ctx)
		if err != nil {
			return err
		}
		if busy {
			look := time.NewTimer(lookAgain)
			select {
			case <-look.C:
				continue
			case <-ctx.Done():
				look.Stop()
				return fault.New(fault.Unavailable, "work is still going on: %w", ctx.Err())
			}
		}
		if s.cfg.has(Delivery) {
			if err := s.delivery.Settled(ctx, s.resolvedEnds()); err != nil {
				return err
			}
		}
		if before == s.ends() {
			return nil
		}
	}
}

// ends sums up where all logs end: logs only grow, so an equal sum means that
// nothing was written.
func (s *Server) ends() (sum commitlog.Offset) {
	for _, sp := range s.allSpaces() {
		sum += sp.raw.End() + sp.resolved.End()
	}
	return sum
}

// busy says whether a first computation or a job is under way.
func (s *Server) busy(ctx context.Context) (bool, error) {
	if !s.cfg.has(Pipeline) {
		return false, nil
	}
	all, err := s.jobs.List(ctx)
	if err != nil {
		return false, err
	}
	stuck := 0 // first syncs that will not go on by themselves
	for i := range all {
		switch {
		case all[i].Kind == rebuild.BaseKind: // it may wait for what the clock is to bring
		case all[i].State == job.Running:
			return true, nil
		case all[i].Kind == activation.SyncKind && all[i].State != job.Finished:
			stuck++
		}
	}
	busy := false
	err = s.db.View(ctx, func(r kv.Reader) error {
		waiting := 0
		for _, sp := range s.allSpaces() {
			n, err := activation.Pending(r, sp.number)
			if err != nil {
				return err
			}
			waiting += n
			revising, err := s.revising(r, sp)
			if err != nil {
				return err
			}
			busy = busy || revising
		}
		busy = busy || waiting > stuck
		for _, sp := range s.allSpaces() {
			computing, err := s.row.computation.Reader().Busy(r, sp.number, sp.epoch())
			if err != nil {
				return err
			}
			busy = busy || computing
		}
		return nil
	})
	return busy, err
}

// serveTestClock answers POST /api/test-clock {"advance":"60d"}.
func (s *Server) serveTestClock(w http.ResponseWriter, r *http.Request) {
	if err := s.keeper.Admin(r); err != nil {
		refuse(w, http.StatusUnauthorized, err)
		return
	}
	var in struct {
		Advance string `json:"advance"`
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fault.New(fault.Invalid, `want a JSON object like {"advance":"60d"}`))
		return
	}
	by, err := parseAdvance(in.Advance)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.advancing.Lock()
	defer s.advancing.Unlock()
	if err := s.advance(r.Context(), s.clock.Now().Add(by)); err != nil {
		s.cfg.Logger.Error("the test clock could not be moved", "error", err)
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"data": map[string]any{"now": s.clock.Now()}})
}

// refuse writes an error in the form of the control API.
func refuse(w http.ResponseWriter, status int, err error) {
	kind := "unavailable"
	if status != http.StatusServiceUnavailable {
		kind = strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
	}
	problem := map[string]any{"type": kind, "message": err.Error(), "field": nil, "data": nil, "status": status}
	var e *fault.Error
	if errors.As(err, &e) && e.Field != "" {
		problem["message"], problem["field"] = e.Message, e.Field
	}
	answer(w, status, map[string]any{"errors": []any{problem}})
}

// lengths finds the parts of a length of time.
var lengths = regexp.MustCompile(`^(?:(\d{1,9})(ms|w|d|h|m|s))`)

// parseAdvance reads how far to move: whole numbers with the units w, d, h, m, s
// and ms, as "60d", "1d12h", "0s", or a duration as Go writes it. A day is 24
// hours.
func parseAdvance(text string) (by time.Duration, err error) {
	if by, err := time.ParseDuration(text); err == nil && by >= 0 && by <= maxAdvance {
		return by.Truncate(time.Millisecond), nil
	}
	units := map[string]time.Duration{
		"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond,
	}
	for rest := text; rest != "" || text == ""; {
		part := lengths.FindStringSubmatch(rest)
		if part == nil {
			return 0, fault.Field("advance", `%q is not a length of time: want something like "60d", "1d12h" or "90s"`, text)
		}
		n, err := strconv.Atoi(part[1])
		if err != nil || time.Duration(n) > (maxAdvance-by)/units[part[2]] {
			return 0, fault.Field("advance", "%q is more than a hundred years", text)
		}
		by += time.Duration(n) * units[part[2]]
		rest = rest[len(part[0]):]
	}
	return by, nil
}
