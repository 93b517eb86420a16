package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

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
