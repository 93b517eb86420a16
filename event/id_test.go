package event

import (
	"bytes"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/fault"
)

func draw16(t *rapid.T, label string) (id [16]byte) {
	// Mostly zeros or ones now and then, to reach the ends of the range.
	b := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 16, 16),
		rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0xff}), 16, 16),
	).Draw(t, label)
	copy(id[:], b)
	return id
}

func TestBase62RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := RecordID(draw16(t, "id"))
		s := id.String()
		n, ok := new(big.Int).SetString(swapCase(s), 62)
		if len(s) != 22 || !ok || n.Cmp(new(big.Int).SetBytes(id[:])) != 0 {
			t.Fatalf("%x is written %s", id[:], s)
		}
		if back, err := ParseRecordID(s); err != nil || back != id {
			t.Fatalf("%s is read as %x, %v; want %x", s, back[:], err, id[:])
		}
		p := ProfileID(id)
		if back, err := ParseProfileID("use_" + s); err != nil || back != p {
			t.Fatalf("profile %s is read as %x, %v", s, back[:], err)
		}
	})
}

// swapCase turns the digits into those of math/big, which counts lower case
// before upper case.
func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

func TestIDsSortAsTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := RecordID(draw16(t, "a")), RecordID(draw16(t, "b"))
		if bytes.Compare(a[:], b[:]) != strings.Compare(a.String(), b.String()) {
			t.Fatalf("%x, %x sort otherwise than %s, %s", a[:], b[:], a, b)
		}
	})
}

func TestParseIDRefuses(t *testing.T) {
	good := RecordID{1}.String()
	for _, s := range []string{"", "0", good[:21], good + "0", good[:21] + "-", strings.Repeat("z", 22), "7n42DGM5Tflk9n8mt7Fhc8", strings.Repeat("x", 1<<20)} {
		_, err := ParseRecordID(s)
		if !fault.Is(err, fault.Invalid) || len(err.Error()) > 200 {
			t.Errorf("ParseRecordID(%.30q): %.300v", s, err)
		}
		_, err = ParseProfileID("use_" + s)
		if !fault.Is(err, fault.Invalid) || len(err.Error()) > 200 {
			t.Errorf("ParseProfileID(%.30q): %.300v", s, err)
		}
	}
	if _, err := ParseProfileID("abc_" + good); err == nil {
		t.Error("a profile id without use_ was read")
	}
	if id, err := ParseRecordID("7n42DGM5Tflk9n8mt7Fhc7"); err != nil || id != (RecordID{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}) {
		t.Errorf("the greatest id is read as %x, %v", id[:], err)
	}
}

func TestNewRecordID(t *testing.T) {
	at := time.UnixMilli(1767323045678)
	id, err := NewRecordID(at, strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte{0x01, 0x9b, 0x7c, 0xa9, 0x8f, 0x2e}, "0123456789"...); !slices.Equal(id[:], want) {
		t.Errorf("id is %x, want %x", id[:], want)
	}
	if _, err := NewRecordID(at, strings.NewReader("012345678")); err == nil {
		t.Error("an id was made of too little randomness")
	}
	later, err := NewRecordID(at.Add(time.Millisecond), strings.NewReader("0000000000"))
	if err != nil || later.String() <= id.String() {
		t.Errorf("the id of a later record sorts before: %s, %s, %v", id, later, err)
	}
}

func TestProfileIDs(t *testing.T) {
	r := RecordID{1, 2, 3, 4, 5, 6, 7, 8}
	user, account := UserProfile(r), AccountProfile(r)
	if user == account || user.IsZero() || account.IsZero() || account[5] != 6 {
		t.Errorf("user %s, account %s", user, account)
	}
	if account != AccountProfile(r) {
		t.Error("an account's id is not the same twice")
	}
	if (ProfileID{}).String() != "" || !strings.HasPrefix(user.String(), "use_") {
		t.Errorf("written %q and %q", ProfileID{}, user)
	}
}
