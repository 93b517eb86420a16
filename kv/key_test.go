package kv_test

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kith/kv"
)

// TestKeyForms pins the bytes: they are on disks.
func TestKeyForms(t *testing.T) {
	for _, test := range []struct {
		name string
		key  kv.Key
		want string
	}{
		{"workspace", kv.WorkspaceKey('c'), "wc"},
		{"space", kv.SpaceKey(1, 'r'), "s\x00\x00\x00\x01r"},
		{"epoch", kv.EpochKey(1, 0x01020304, 'i'), "e\x00\x00\x00\x01\x01\x02\x03\x04i"},
		{"byte", kv.Key{}.Byte(7), "\x07"},
		{"uint32", kv.Key{}.Uint32(0x01020304), "\x01\x02\x03\x04"},
		{"uint64", kv.Key{}.Uint64(0x0102030405060708), "\x01\x02\x03\x04\x05\x06\x07\x08"},
		{"int64 zero", kv.Key{}.Int64(0), "\x80\x00\x00\x00\x00\x00\x00\x00"},
		{"int64 minus one", kv.Key{}.Int64(-1), "\x7f\xff\xff\xff\xff\xff\xff\xff"},
		{"fixed", kv.Key{}.Fixed([]byte("ab\x00")), "ab\x00"},
		{"string", kv.Key{}.String("ab"), "ab\x00\x01"},
		{"empty string", kv.Key{}.String(""), "\x00\x01"},
		{"string with zero", kv.Key{}.String("a\x00b"), "a\x00\xffb\x00\x01"},
	} {
		if string(test.key) != test.want {
			t.Errorf("%s: got %q, want %q", test.name, test.key, test.want)
		}
	}
}

// text draws strings that are hard to keep in order.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 2, 'a', 'b', 0xff}), 0, 6, -1),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes")) }),
	)
}

func TestPartsSortAsTheirValues(t *testing.T) {
	check := func(t *rapid.T, what string, want int, a, b kv.Key) {
		if got := bytes.Compare(a, b); got != want {
			t.Fatalf("%s: %x and %x compare as %d, want %d", what, []byte(a), []byte(b), got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		// What comes after a part must not matter when the parts differ.
		tail := func(label string) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, label) }
		ta, tb := tail("tail a"), tail("tail b")

		sa, sb := text().Draw(t, "string a"), text().Draw(t, "string b")
		if c := cmp.Compare(sa, sb); c != 0 {
			check(t, "strings", c, kv.Key{}.String(sa).Fixed(ta), kv.Key{}.String(sb).Fixed(tb))
		}
		ia, ib := rapid.Int64().Draw(t, "int64 a"), rapid.Int64().Draw(t, "int64 b")
		if c := cmp.Compare(ia, ib); c != 0 {
			check(t, "int64", c, kv.Key{}.Int64(ia).Fixed(ta), kv.Key{}.Int64(ib).Fixed(tb))
		}
		ua, ub := rapid.Uint64().Draw(t, "uint64 a"), rapid.Uint64().Draw(t, "uint64 b")
		if c := cmp.Compare(ua, ub); c != 0 {
			check(t, "uint64", c, kv.Key{}.Uint64(ua).Fixed(ta), kv.Key{}.Uint64(ub).Fixed(tb))
		}
		va, vb := uint32(ua), uint32(ub)
		if c := cmp.Compare(va, vb); c != 0 {
			check(t, "uint32", c, kv.Key{}.Uint32(va).Fixed(ta), kv.Key{}.Uint32(vb).Fixed(tb))
		}
	})
	for _, pair := range [][2]int64{{math.MinInt64, -1}, {-1, 0}, {0, 1}, {1, math.MaxInt64}} {
		if bytes.Compare(kv.Key{}.Int64(pair[0]), kv.Key{}.Int64(pair[1])) >= 0 {
			t.Errorf("%d does not sort before %d", pair[0], pair[1])
		}
	}
}

func TestPartsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stem := kv.SpaceKey(rapid.Uint32().Draw(t, "space"), 'x')
		s1, s2 := text().Draw(t, "first string"), text().Draw(t, "second string")
		b := rapid.Byte().Draw(t, "byte")
		u32, u64, i64 := rapid.Uint32().Draw(t, "uint32"), rapid.Uint64().Draw(t, "uint64"), rapid.Int64().Draw(t, "int64")
		fixed := rapid.SliceOfN(rapid.Byte(), 5, 5).Draw(t, "fixed")
		rest := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "rest")
		key := stem.Clone().String(s1).Byte(b).Uint32(u32).String(s2).Uint64(u64).Int64(i64).Fixed(fixed).Fixed(rest)

		p := kv.PartsAfter(key, stem)
		ok := p.String() == s1 && p.Byte() == b && p.Uint32() == u32 && p.String() == s2 &&
			p.Uint64() == u64 && p.Int64() == i64 && bytes.Equal(p.Fixed(5), fixed) && bytes.Equal(p.Rest(), rest)
		if !ok || !p.OK() {
			t.Fatalf("key %x does not read back what was written", []byte(key))
		}
		// A key cut anywhere reads as damaged, and never panics.
		whole := len(key) - len(rest)
		p = kv.PartsAfter(key[:rapid.IntRange(0, whole-1).Draw(t, "cut")], stem)
		_ = p.String()
		p.Byte()
		p.Uint32()
		_ = p.String()
		p.Uint64()
		p.Int64()
		p.Fixed(5)
		if p.OK() {
			t.Fatal("a key that was cut short reads as whole")
		}
	})
}

func TestPartsOfAnotherKey(t *testing.T) {
	p := kv.PartsAfter([]byte("s\x00\x00\x00\x01q123"), kv.SpaceKey(1, 'r'))
	if n := p.Uint32(); n != 0 || p.OK() {
		t.Errorf("got %d, ok %v, of a key with another stem", n, p.OK())
	}
	for _, key := range []string{"a", "a\x00", "a\x00\x02", "\x00"} {
		p := kv.PartsAfter([]byte(key), nil)
		if s := p.String(); s != "" || p.OK() {
			t.Errorf("%q reads as string %q, ok %v", key, s, p.OK())
		}
	}
}

func TestCloneKeepsStem(t *testing.T) {
	stem := kv.SpaceKey(1, 'r') // has room to grow
	a, b := stem.Clone().Uint64(1), stem.Clone().Uint64(2)
	if bytes.Equal(a, b) || !bytes.HasPrefix(a, stem) || !bytes.HasPrefix(b, stem) {
		t.Errorf("two keys of one stem: %x, %x", []byte(a), []byte(b))
	}
}

func TestPrefixHoldsExactlyItsKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]byte{0, 'a', 0xfe, 0xff})
		prefix := rapid.SliceOfN(letters, 0, 3).Draw(t, "prefix")
		key := rapid.SliceOfN(letters, 0, 4).Draw(t, "key")
		r := kv.Prefix(prefix)
		inside := bytes.Compare(key, r.From) >= 0 && (r.To == nil || bytes.Compare(key, r.To) < 0)
		if want := bytes.HasPrefix(key, prefix); inside != want {
			t.Fatalf("key %x, prefix %x: in the range %v, want %v", key, prefix, inside, want)
		}
	})
	for _, test := range []struct{ prefix, end string }{
		{"a", "b"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"\xfe", "\xff"},
	} {
		if end := kv.PrefixEnd([]byte(test.prefix)); string(end) != test.end {
			t.Errorf("the end of %q is %q, want %q", test.prefix, end, test.end)
		}
	}
	for _, prefix := range []string{"", "\xff", "\xff\xff"} {
		if end := kv.PrefixEnd([]byte(prefix)); end != nil {
			t.Errorf("the end of %q is %q, want none", prefix, end)
		}
	}
}

func TestSpaceRangeHoldsASpace(t *testing.T) {
	in := func(key kv.Key) bool {
		for _, r := range kv.SpaceRange(7) {
			if bytes.Compare(key, r.From) >= 0 && (r.To == nil || bytes.Compare(key, r.To) < 0) {
				return true
			}
		}
		return false
	}
	inside := []kv.Key{kv.SpaceKey(7, 'r').Uint64(1), kv.EpochKey(7, 0, 'i'), kv.EpochKey(7, math.MaxUint32, 0xff)}
	outside := []kv.Key{kv.SpaceKey(6, 0xff), kv.SpaceKey(8, 0), kv.EpochKey(6, math.MaxUint32, 0xff), kv.EpochKey(8, 0, 0), kv.WorkspaceKey('c')}
	if slices.ContainsFunc(outside, in) {
		t.Error("the ranges of a space hold keys of others")
	}
	for _, key := range inside {
		if !in(key) {
			t.Errorf("the ranges of space 7 do not hold %x", []byte(key))
		}
	}
	last := kv.SpaceRange(math.MaxUint32)
	if key := kv.SpaceKey(math.MaxUint32, 'r'); bytes.Compare(key, last[0].To) >= 0 {
		t.Errorf("the last space is not in its range: %x", []byte(key))
	}
}
