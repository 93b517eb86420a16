package kv_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"kith/kv"
)

func TestFieldsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.Byte().Draw(t, "byte")
		u, i := rapid.Uint64().Draw(t, "uvarint"), rapid.Int64().Draw(t, "varint")
		s, raw := rapid.String().Draw(t, "string"), rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "bytes")
		value := kv.Value{}.Byte(b).Uvarint(u).String(s).Varint(i).Bytes(raw).Fixed([]byte("end"))

		f := kv.FieldsOf(value)
		ok := f.Byte() == b && f.Uvarint() == u && f.String() == s && f.Varint() == i &&
			bytes.Equal(f.Bytes(), raw) && string(f.Fixed(3)) == "end" && len(f.Rest()) == 0
		if !ok || !f.OK() {
			t.Fatalf("value %x does not read back what was written", []byte(value))
		}
		f = kv.FieldsOf(value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut")])
		readAll(&f)
		if f.OK() {
			t.Fatal("a value that was cut short reads as whole")
		}
	})
}

func readAll(f *kv.Fields) {
	f.Byte()
	f.Uvarint()
	_ = f.String()
	f.Varint()
	f.Bytes()
	f.Fixed(3)
}

func TestCountIsBounded(t *testing.T) {
	value := kv.Value{}.Uvarint(11)
	f := kv.FieldsOf(value)
	if n := f.Count(11); n != 11 || !f.OK() {
		t.Errorf("got %d, ok %v", n, f.OK())
	}
	f = kv.FieldsOf(value)
	if n := f.Count(10); n != 0 || f.OK() {
		t.Errorf("a count above its limit reads as %d, ok %v", n, f.OK())
	}
}

// FuzzFields reads whatever bytes: no panic, and no memory beyond them.
func FuzzFields(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(kv.Value{}.Byte(1).Uvarint(300).String("text").Varint(-7).Bytes([]byte("bytes")).Fixed([]byte("end"))))
	f.Add(bytes.Repeat([]byte{0xff}, 30))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields := kv.FieldsOf(b)
		readAll(&fields)
		if len(fields.Rest()) > len(b) {
			t.Error("more is left than there was")
		}
		parts := kv.PartsAfter(b, nil)
		_ = parts.String()
		parts.Int64()
		parts.Byte()
	})
}
