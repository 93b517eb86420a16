package event

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/big"
	"time"

	"kith/fault"
)

// RecordID names a record for ever: 48 bits of milliseconds, 80 random bits.
// It is given once, when the record is appended.
type RecordID [16]byte

// NewRecordID returns an id for a record appended at the given instant, its
// random part read from random.
func NewRecordID(at time.Time, random io.Reader) (RecordID, error) {
	var id RecordID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], ms[:6])
	_, err := io.ReadFull(random, id[6:])
	return id, err
}

// IsZero reports whether the id was never given.
func (id RecordID) IsZero() bool { return id == RecordID{} }

// String returns the id as 22 base-62 digits, which sort as the ids do.
func (id RecordID) String() string { return base62(id[:]) }

// ParseRecordID reads what String wrote.
func ParseRecordID(s string) (RecordID, error) {
	b, ok := unbase62(s)
	if !ok {
		return RecordID{}, fault.New(fault.Invalid, "%.40q is not a record id: want 22 letters and digits", s)
	}
	return RecordID(b), nil
}

// ProfileID names a profile: a person (collection users) or an account. It
// derives from the record that created the profile, so it is the same in every
// epoch and after every crash.
type ProfileID [16]byte

// UserProfile returns the id of the person that record r creates.
func UserProfile(r RecordID) ProfileID { return ProfileID(r) }

// AccountProfile returns the id of the account that record r creates.
func AccountProfile(r RecordID) ProfileID {
	sum := sha256.Sum256(append([]byte("account\x00"), r[:]...))
	id := ProfileID(r)
	copy(id[6:], sum[:10])
	return id
}

// Time returns the millisecond that the id begins with: that of the record which
// created the profile, as it was stamped.
func (id ProfileID) Time() int64 {
	return int64(binary.BigEndian.Uint64(append([]byte{0, 0}, id[:6]...)))
}

// IsZero reports whether no profile is named.
func (id ProfileID) IsZero() bool { return id == ProfileID{} }

// String returns the id in the form of Segment's segment_id: "use_" and 22
// base-62 digits. Accounts have the same form.
func (id ProfileID) String() string {
	if id.IsZero() {
		return ""
	}
	return "use_" + base62(id[:])
}

// ParseProfileID reads what String wrote.
func ParseProfileID(s string) (ProfileID, error) {
	if len(s) == 26 && s[:4] == "use_" {
		if b, ok := unbase62(s[4:]); ok {
			return ProfileID(b), nil
		}
	}
	return ProfileID{}, fault.New(fault.Invalid, `%.40q is not a profile id: want "use_" and 22 letters and digits`, s)
}

const digits62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func base62(b []byte) string {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var out [22]byte
	for i := len(out) - 1; i >= 0; i-- {
		// 128-bit division by 62, in two steps of 64 bits by 32-bit halves.
		var rem uint64
		for _, part := range []*uint64{&hi, &lo} {
			top := rem<<32 | *part>>32
			q1 := top / 62
			rem = top % 62
			bottom := rem<<32 | *part&0xffffffff
			q0 := bottom / 62
			rem = bottom % 62
			*part = q1<<32 | q0
		}
		out[i] = digits62[rem]
	}
	return string(out[:])
}

func unbase62(s string) (b [16]byte, ok bool) {
	if len(s) != 22 {
		return b, false
	}
	var n big.Int
	for i := range len(s) {
		d := -1
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			d = int(c - '0')
		case c >= 'A' && c <= 'Z':
			d = int(c-'A') + 10
		case c >= 'a' && c <= 'z':
			d = int(c-'a') + 36
		}
		if d < 0 {
			return b, false
		}
		n.Mul(&n, big.NewInt(62)).Add(&n, big.NewInt(int64(d)))
	}
	if n.BitLen() > 128 {
		return b, false
	}
	n.FillBytes(b[:])
	return b, true
}
