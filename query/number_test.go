package query

import (
	"testing"

	"github.com/cockroachdb/apd/v3"
	"pgregory.net/rapid"
)

// TestDecimal holds our comparison and canonical form against a library's.
func TestDecimal(t *testing.T) {
	text := rapid.StringMatching(`-?0{0,3}[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		if rapid.Bool().Draw(t, "near") {
			b = a + "0"
		}
		x, ok := parseDecimal(a)
		y, ok2 := parseDecimal(b)
		if !ok || !ok2 {
			t.Fatalf("%q or %q is no number", a, b)
		}
		wantX, _, err := apd.NewFromString(a)
		if err != nil {
			t.Fatal(err)
		}
		wantY, _, err := apd.NewFromString(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := x.compare(y), wantX.Cmp(wantY); got != want {
			t.Fatalf("%s against %s is %d, want %d", a, b, got, want)
		}
		again, _, err := apd.NewFromString(x.canonical())
		if err != nil || again.Cmp(wantX) != 0 {
			t.Fatalf("%s is written %s", a, x.canonical())
		}
		z, ok := parseDecimal(x.canonical())
		if !ok || z.canonical() != x.canonical() || z.compare(x) != 0 {
			t.Fatalf("%s is written %s and then %s", a, x.canonical(), z.canonical())
		}
		var floor apd.Decimal
		if _, err := apd.BaseContext.WithPrecision(200).Floor(&floor, wantX); err != nil {
			t.Fatal(err)
		}
		const limit = 1_000_000
		want, err := floor.Int64()
		if err != nil || want > limit || want < -limit {
			want = limit * int64(wantX.Sign())
		}
		if got := x.floor(limit); got != want {
			t.Fatalf("floor of %s is %d, want %d", a, got, want)
		}
	})
}

func TestNoNumber(t *testing.T) {
	for _, s := range []string{"", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "1 ", " 1", "1,5", "--1", "Infinity", "NaN", "1e5.5", "１"} {
		if _, ok := parseDecimal(s); ok {
			t.Errorf("%q is taken for a number", s)
		}
	}
	big, _ := parseDecimal("1e99999999999999999999")
	small, _ := parseDecimal("1e-99999999999999999999")
	if big.compare(small) != 1 {
		t.Error("exponents beyond all bounds lose their order")
	}
}

func TestDates(t *testing.T) {
	for s, want := range map[string]int64{
		"1970-01-01": 0, "1970-01-01T00:00": 0, "1970-01-01T00:00:01": 1000, "1970-01-01T00:00:01.5": 1500,
		"1970-01-01T00:00:01.123456789Z": 1123, "1970-01-01T01:00:00+01:00": 0, "1970-01-01T01:00:00+0100": 0,
		"1970-01-01T01:00:00+01": 0, "1969-12-31T23:00-01:00": 0, "1969-12-31T23:59:59.999Z": -1,
	} {
		if got, ok := parseDate(s); !ok || got != want {
			t.Errorf("%s is %d, %v; want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "1970", "1970-01", "1970-1-1", "1970-02-30", "1970-01-01 00:00", "1970-01-01T", "1970-01-01T25:00",
		"1970-01-01T00:00Zx", "1970-01-01Z", "1970-01-01T00:00:00+1:00", "19700101", "01/01/1970", "1970-01-01T00:00:00ZZ"} {
		if at, ok := parseDate(s); ok {
			t.Errorf("%q is taken for the date %d", s, at)
		}
	}
}
