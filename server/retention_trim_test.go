package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/profile"
	"kith/rebuild"
	"kith/retention"
)

// notes sends events whose properties hold a text each that stands nowhere else.
func (w *town) notes(prefix string) {
	w.t.Helper()
	var batch []string
	for i := range 60 {
		batch = append(batch, fmt.Sprintf(`{"type":"track","event":"Noted","userId":%q,"properties":{"note":"%s-%03d"}}`, user(i), prefix, i))
	}
	send(w.t, w.base, "line-write-key", "batch", `{"batch":[`+strings.Join(batch, ",")+`]}`)
	w.settle()
}

// noted says how many of the texts are in the files of a server that has
// stopped.
func (w *town) noted(prefix string) int {
	w.t.Helper()
	was := w.secrets
	defer func() { w.secrets = was }()
	w.secrets = nil
	for i := range 60 {
		w.secrets = append(w.secrets, fmt.Sprintf("%s-%03d", prefix, i))
	}
	found := w.inFiles()
	for text, where := range found {
		w.t.Logf("%s is in %.200s", text, where)
	}
	return len(found)
}

// trimmed waits until nothing of a retention is under way.
func (w *town) trimmed() *retention.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		s, err := w.s.retention.Status(ctx, 1)
		if err != nil {
			w.t.Fatal(err)
		}
		if s.Advance.Error != "" || s.Error != "" {
			w.t.Fatalf("%+v", s)
		}
		if s.Done() {
			return s
		}
		if rest(ctx, 5*time.Millisecond); ctx.Err() != nil {
			w.t.Fatalf("it does not come to an end: %+v", s)
		}
	}
}

// later moves the clock.
func (w *town) later(by time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.s.advance(ctx, w.s.clock.Now().Add(by)); err != nil {
		w.t.Fatal(err)
	}
}

var townDay = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestTrimmingLeavesNoByte lets events go by their age, and looks through all
// files: as they are, and unpacked.
func TestTrimmingLeavesNoByte(t *testing.T) {
	w := newTown(t, 200, func(cfg *Config) { cfg.TestClock, cfg.Retention, cfg.NoSampleValues = townDay, 24*time.Hour, true })
	w.notes("old")
	w.stop()
	if n := w.noted("old"); n != 60 {
		t.Fatalf("%d of 60 texts are found before: the test proves nothing", n)
	}
	w.start()
	w.later(6 * time.Hour)
	if s := w.trimmed(); !s.Horizon.IsZero() || s.Last != nil || s.Keeps != 24*time.Hour || !s.Next.Equal(townDay.Add(15*time.Hour)) {
		t.Fatalf("before the first day is over: %+v", s)
	}
	w.later(24 * time.Hour) // the look of 03:00 comes late
	for w.trimmed().Horizon.IsZero() {
		rest(t.Context(), 5*time.Millisecond)
	}
	w.notes("new")
	w.later(24 * time.Hour)
	s := w.trimmed()
	if s.Last == nil || s.Trimmed.Records == 0 || s.Trimmed.Bytes <= 0 || s.Horizon.At != townDay.Add(6*time.Hour).UnixMilli() {
		t.Errorf("after the look: %+v, %+v", s, s.Last)
	}
	w.stop()
	if n := w.noted("old"); n != 0 {
		t.Errorf("%d texts are found that were trimmed", n)
	}
	if n := w.noted("new"); n != 60 {
		t.Errorf("%d of 60 younger texts are found", n)
	}
}

// TestErasureBehindTheHorizon forgets one in a thousand people whose events were
// trimmed, some of whose addresses stand in the traits of others, and looks
// through all files; then it rebuilds, which begins with what is kept of the time
// before the horizon.
func TestErasureBehindTheHorizon(t *testing.T) {
	w := newTown(t, 2100, func(cfg *Config) { cfg.TestClock, cfg.Retention, cfg.NoSampleValues = townDay, 24*time.Hour, true })
	partner := func(epoch uint32) string {
		t.Helper()
		var text string
		w.view(func(r kv.Reader) error {
			p, err := identity.NewReader(r, 1, epoch).Lookup(event.Users, "user_id", user(8))
			if err != nil {
				return err
			}
			held, err := profile.Held(r, 1, epoch, p)
			for _, key := range held {
				value, err := r.Get(key)
				if err != nil {
					return err
				}
				text += string(key) + string(value)
			}
			return err
		})
		return text
	}
	if !strings.Contains(partner(w.s.space(1).epoch()), user(7)) {
		t.Fatal("nobody carries an identifier of the erased: the test proves nothing")
	}
	w.later(48 * time.Hour)
	for w.trimmed().Horizon.IsZero() {
		rest(t.Context(), 5*time.Millisecond)
	}
	send(t, w.base, "line-write-key", "identify", fmt.Sprintf(`{"userId":%q,"traits":{"note":"came back %s"}}`, user(9), email(7)))
	w.settle()
	at := w.erase()
	x := w.complete(at)
	if r := x.Receipt; r == nil || r.Erased != 18 || r.Left != "" || x.Persons != 3 {
		t.Errorf("the receipt says %+v of %+v", x.Receipt, x)
	}
	live := w.s.space(1).epoch()
	if text := partner(live); strings.Contains(text, user(7)) || !strings.Contains(text, "gold") {
		t.Errorf("the partner's traits are %q", text)
	}
	was := partner(live)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := w.s.rebuilds.Start(ctx, 1, rebuild.Request{Note: "behind the horizon"})
	if err != nil {
		t.Fatal(err)
	}
	for w.s.space(1).epoch() != s.Number {
		if rest(ctx, 5*time.Millisecond); ctx.Err() != nil {
			t.Fatal("the rebuild does not come to an end")
		}
	}
	if is := strings.ReplaceAll(partner(s.Number), string(kv.EpochKey(1, s.Number, 'f')), string(kv.EpochKey(1, live, 'f'))); is != was {
		t.Errorf("a rebuild makes %q of the partner, live was %q", is, was)
	}
	w.stop()
	if found := w.inFiles(); len(found) > 0 {
		t.Errorf("found after the erasure: %.2000v", found)
	}
}
