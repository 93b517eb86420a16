package timer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
	"kith/timer"
)

const space, epoch = 3, 9

// pass runs fn with a pass in a transaction of its own.
func pass(t testing.TB, db kv.DB, fn func(p *timer.Pass) error) {
	t.Helper()
	err := db.Update(context.Background(), "loop/3/9", kv.Lazy, func(tx kv.Tx) error {
		return fn(timer.NewPass(tx, space, epoch))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func due(at int64, owner byte, subject string) timer.Due {
	return timer.Due{At: at, Owner: owner, Subject: []byte(subject)}
}

func show(d *timer.Due) string {
	if d == nil {
		return "none"
	}
	return fmt.Sprintf("%d%c%s", d.At, d.Owner, d.Subject)
}

func arm(t testing.TB, p *timer.Pass, timers ...timer.Due) {
	t.Helper()
	for _, d := range timers {
		if err := p.Arm(d); err != nil {
			t.Fatal(err)
		}
	}
}

// take takes all that are due, as "at owner subject" in the order taken.
func take(t testing.TB, p *timer.Pass, now int64) (out []string) {
	t.Helper()
	for {
		d, err := p.Take(now)
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			return out
		}
		out = append(out, show(d))
	}
}

func same(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func next(t testing.TB, db kv.DB, epoch uint32) (s string) {
	t.Helper()
	err := db.View(context.Background(), func(r kv.Reader) error {
		d, err := timer.Next(r, space, epoch)
		s = show(d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disordered are timers whose order of (due, owner, subject) is not the one
// they are armed in. order is that order.
var (
	disordered = []timer.Due{
		due(20, 'c', "x"), due(10, 'f', "b"), due(10, 'c', "z"), due(-5, 'f', "old"), due(10, 'f', "a"),
		due(10, 'f', ""), due(10, 'f', "a\x00"), due(30, 'c', "\xff"), due(0, 'f', "zero"),
	}
	order = []string{"-5fold", "0fzero", "10cz", "10f", "10fa", "10fa\x00", "10fb", "20cx", "30c\xff"}
)

func TestOrder(t *testing.T) {
	t.Run("in one pass", func(t *testing.T) {
		pass(t, memkv.New(), func(p *timer.Pass) error {
			arm(t, p, disordered...)
			same(t, "all", take(t, p, 100), order...)
			same(t, "once more", take(t, p, 100))
			return nil
		})
	})
	t.Run("over passes", func(t *testing.T) {
		db := memkv.New()
		for _, d := range disordered {
			pass(t, db, func(p *timer.Pass) error { arm(t, p, d); return nil })
		}
		for i, want := range order {
			if got := next(t, db, epoch); got != want {
				t.Errorf("the next is %s, want %s", got, want)
			}
			pass(t, db, func(p *timer.Pass) error {
				d, err := p.Take(100)
				if got := show(d); got != want {
					t.Errorf("timer %d: took %s, want %s", i, got, want)
				}
				return err
			})
		}
		if got := next(t, db, epoch); got != "none" {
			t.Errorf("at the end the next is %s", got)
		}
	})
}

func TestTakeUpToNow(t *testing.T) {
	pass(t, memkv.New(), func(p *timer.Pass) error {
		arm(t, p, due(10, 'a', ""), due(11, 'a', ""), due(12, 'a', ""))
		same(t, "at 9", take(t, p, 9))
		same(t, "at 10, to the millisecond", take(t, p, 10), "10a")
		same(t, "at 10, again", take(t, p, 10))
		same(t, "at 12", take(t, p, 12), "11a", "12a")
		return nil
	})
}

// TestArmInMidPass arms while timers are being taken: what the pass has read
// ahead must not hide it.
func TestArmInMidPass(t *testing.T) {
	tests := []struct {
		name   string
		stored []timer.Due
		do     func(t *testing.T, p *timer.Pass)
	}{
		{"an earlier one, after looking in vain", []timer.Due{due(50, 'a', "")}, func(t *testing.T, p *timer.Pass) {
			same(t, "at 40", take(t, p, 40))
			arm(t, p, due(30, 'b', ""))
			same(t, "at 40, after arming", take(t, p, 40), "30b")
			same(t, "at 50", take(t, p, 50), "50a")
		}},
		{"into an empty store, after looking in vain", nil, func(t *testing.T, p *timer.Pass) {
			same(t, "at 40", take(t, p, 40))
			arm(t, p, due(41, 'b', ""), due(39, 'b', ""))
			same(t, "at 41", take(t, p, 41), "39b", "41b")
		}},
		{"again by the one that fires", []timer.Due{due(10, 'a', "x"), due(20, 'a', "y")}, func(t *testing.T, p *timer.Pass) {
			var fired []string
			for range 6 {
				d, err := p.Take(40)
				if err != nil || d == nil {
					t.Fatal(d, err)
				}
				fired = append(fired, show(d))
				arm(t, p, due(d.At+15, d.Owner, string(d.Subject)))
				if len(fired) == 4 {
					break
				}
			}
			same(t, "fired", fired, "10ax", "20ay", "25ax", "35ay")
			same(t, "the rest", take(t, p, 50), "40ax", "50ay")
		}},
		{"a later one, behind what was read", []timer.Due{due(10, 'a', "")}, func(t *testing.T, p *timer.Pass) {
			same(t, "at 10", take(t, p, 10), "10a")
			arm(t, p, due(30, 'a', ""), due(20, 'a', ""))
			same(t, "at 30", take(t, p, 30), "20a", "30a")
		}},
		{"one that is armed already", []timer.Due{due(10, 'a', "")}, func(t *testing.T, p *timer.Pass) {
			same(t, "at 5", take(t, p, 5))
			arm(t, p, due(10, 'a', ""), due(10, 'a', ""))
			same(t, "at 10", take(t, p, 10), "10a")
		}},
		{"and disarms", []timer.Due{due(10, 'a', ""), due(20, 'a', ""), due(30, 'a', "")}, func(t *testing.T, p *timer.Pass) {
			same(t, "at 5", take(t, p, 5))
			for _, d := range []timer.Due{due(10, 'a', ""), due(30, 'a', ""), due(40, 'a', "never armed")} {
				if err := p.Disarm(d); err != nil {
					t.Fatal(err)
				}
			}
			same(t, "at 50", take(t, p, 50), "20a")
		}},
		{"one whose subject's bytes are reused", nil, func(t *testing.T, p *timer.Pass) {
			same(t, "at 5", take(t, p, 5))
			subject := []byte("mine")
			arm(t, p, timer.Due{At: 6, Owner: 'a', Subject: subject})
			copy(subject, "XXXX")
			same(t, "at 6", take(t, p, 6), "6amine")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := memkv.New()
			pass(t, db, func(p *timer.Pass) error { arm(t, p, test.stored...); return nil })
			pass(t, db, func(p *timer.Pass) error { test.do(t, p); return nil })
			if got := next(t, db, epoch); got != "none" {
				t.Errorf("all have fired or were disarmed, but there is %s", got)
			}
		})
	}
}

func TestManyTimers(t *testing.T) {
	db := memkv.New()
	const n = 2000
	pass(t, db, func(p *timer.Pass) error {
		for i := range n {
			arm(t, p, due(int64(i*7919%n), 'a', ""))
		}
		return nil
	})
	for from := 0; from < n; from += 700 {
		pass(t, db, func(p *timer.Pass) error {
			for want := from; want < min(from+700, n); want++ {
				if d, err := p.Take(n); err != nil || d == nil || d.At != int64(want) {
					t.Fatalf("took %s, %v, want %d", show(d), err, want)
				}
			}
			return nil
		})
	}
	if got := next(t, db, epoch); got != "none" {
		t.Errorf("left: %s", got)
	}
}

func TestRollback(t *testing.T) {
	db := memkv.New()
	pass(t, db, func(p *timer.Pass) error { arm(t, p, due(10, 'a', "")); return nil })
	boom := errors.New("boom")
	err := db.Update(t.Context(), "loop/3/9", kv.Lazy, func(tx kv.Tx) error {
		p := timer.NewPass(tx, space, epoch)
		arm(t, p, due(5, 'b', ""))
		same(t, "in the transaction", take(t, p, 10), "5b", "10a")
		return boom
	})
	if err != boom {
		t.Fatal(err)
	}
	if got := next(t, db, epoch); got != "10a" {
		t.Errorf("after the rollback the next is %s", got)
	}
}

func TestEpochsAreApart(t *testing.T) {
	db := memkv.New()
	pass(t, db, func(p *timer.Pass) error { arm(t, p, due(10, 'a', "")); return nil })
	for _, other := range []uint32{epoch - 1, epoch + 1} {
		if got := next(t, db, other); got != "none" {
			t.Errorf("epoch %d has the timer %s of another", other, got)
		}
	}
	if got := next(t, db, epoch); got != "10a" {
		t.Errorf("the next is %s", got)
	}
}

func TestExtremes(t *testing.T) {
	pass(t, memkv.New(), func(p *timer.Pass) error {
		arm(t, p, due(timer.Never, 'a', ""), due(math.MinInt64, 'a', ""), due(timer.Never-1, 'a', ""))
		same(t, "just before never", take(t, p, timer.Never-1), "-9223372036854775808a", "9223372036854775806a")
		return nil
	})
}

// TestModel compares passes with a sorted list, over random steps.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := memkv.New()
		var model []timer.Due
		compare := func(a, b timer.Due) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Owner, b.Owner), bytes.Compare(a.Subject, b.Subject))
		}
		draw := func() timer.Due {
			return due(rapid.Int64Range(0, 30).Draw(t, "at"), rapid.SampledFrom([]byte("ab")).Draw(t, "owner"), rapid.SampledFrom([]string{"", "x", "xx"}).Draw(t, "subject"))
		}
		for range rapid.IntRange(1, 4).Draw(t, "passes") {
			err := db.Update(context.Background(), "loop/3/9", kv.Lazy, func(tx kv.Tx) error {
				p := timer.NewPass(tx, space, epoch)
				for range rapid.IntRange(0, 25).Draw(t, "steps") {
					switch rapid.IntRange(0, 4).Draw(t, "step") {
					case 0, 1:
						d := draw()
						if err := p.Arm(d); err != nil {
							return err
						}
						if i, found := slices.BinarySearchFunc(model, d, compare); !found {
							model = slices.Insert(model, i, d)
						}
					case 2:
						d := draw()
						if err := p.Disarm(d); err != nil {
							return err
						}
						if i, found := slices.BinarySearchFunc(model, d, compare); found {
							model = slices.Delete(model, i, i+1)
						}
					default:
						now := rapid.Int64Range(-1, 31).Draw(t, "now")
						got, err := p.Take(now)
						if err != nil {
							return err
						}
						var want *timer.Due
						if len(model) > 0 && model[0].At <= now {
							first := model[0]
							want, model = &first, model[1:]
						}
						if show(got) != show(want) {
							t.Fatalf("take at %d: got %s, want %s", now, show(got), show(want))
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			err = db.View(context.Background(), func(r kv.Reader) error {
				got, err := timer.Next(r, space, epoch)
				var want *timer.Due
				if len(model) > 0 {
					want = &model[0]
				}
				if show(got) != show(want) {
					t.Fatalf("next: got %s, want %s", show(got), show(want))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestArmBelowTheFloor arms an instant before the last that fired, in a pass of
// its own: it fires all the same.
func TestArmBelowTheFloor(t *testing.T) {
	db := memkv.New()
	pass(t, db, func(p *timer.Pass) error {
		arm(t, p, due(100, 'a', ""), due(300, 'a', ""))
		same(t, "at 200", take(t, p, 200), "100a")
		return nil
	})
	pass(t, db, func(p *timer.Pass) error { arm(t, p, due(50, 'b', "")); return nil })
	if got := next(t, db, epoch); got != "50b" {
		t.Errorf("the next is %s", got)
	}
	pass(t, db, func(p *timer.Pass) error {
		same(t, "at 200", take(t, p, 200), "50b")
		same(t, "at 300", take(t, p, 300), "300a")
		return nil
	})
}

func TestDamage(t *testing.T) {
	stem := kv.EpochKey(space, epoch, timer.Room)
	for name, pair := range map[string]kv.Pair{
		"a short key":         {Key: stem.Clone().Uint32(1 << 31), Value: []byte{1}},
		"an empty floor":      {Key: stem, Value: []byte{}},
		"a floor of format 9": {Key: stem, Value: []byte{9, 0}},
		"a floor cut short":   {Key: stem, Value: []byte{1}},
	} {
		db := memkv.New()
		err := db.Update(t.Context(), "loop/3/9", kv.Lazy, func(tx kv.Tx) error {
			if err := tx.Set(pair.Key, pair.Value); err != nil {
				return err
			}
			if d, err := timer.NewPass(tx, space, epoch).Take(1); !fault.Is(err, fault.Internal) {
				t.Errorf("%s: took %s, %v, want fault.Internal", name, show(d), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkSteady arms and fires as many timers in each batch: one operation is
// one timer. What has fired must not slow down what fires next.
func BenchmarkSteady(b *testing.B) {
	const batch, ahead = 500, 100_000
	db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	now := int64(0)
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		pass(b, db, func(p *timer.Pass) error {
			for i := range batch {
				now++
				take(b, p, now)
				arm(b, p, due(now+ahead, 'a', fmt.Sprintf("%016d", i)))
			}
			return nil
		})
	}
}
