package auth

import (
	"errors"
	"time"

	"kith/kv"
)

// room is the room byte of tokens' keys, in the workspace scope.
const room = 'u'

// fence is the fence of all writes to tokens.
const fence kv.Fence = "auth"

// The first byte of a stored token; see encode. The second form says what the
// token may besides reading.
const (
	tokenFormat1 = 1
	tokenFormat2 = 2
)

// tokenKey is the key of a profile token.
//
//	form:    'w' 'u' sha256:32
//	value:   format 2, id, space number, name, createdAt in ms, rights; format 1
//	         is without rights
//	fence:   "auth"
//	epoch:   no
//	erasure: none (the name is an operator's, and the token is not kept)
func tokenKey(hash [32]byte) kv.Key { return kv.WorkspaceKey(room).Fixed(hash[:]) }

// oauthRoom is the room byte of OAuth's keys, in the workspace scope.
const oauthRoom = 'k'

// The kinds of key in OAuth's room.
const (
	kindApp     byte = 'a'
	kindUsed    byte = 'j'
	kindRevoked byte = 'r'
	kindSigning byte = 's'

	kindGeneration byte = 'g'
	kindOrigin     byte = 'o'
)

// oauthFence is the fence of all writes to OAuth's room.
const oauthFence kv.Fence = "auth/oauth"

// The first bytes of OAuth's stored values.
const (
	appFormat     = 1
	usedFormat    = 1
	revokedFormat = 1
	signingFormat = 1

	generationFormat = 1
	originFormat     = 1
)

var errOrigin = errors.New("a stored origin of client tokens is damaged or of an unknown format")

// appKey is the key of an OAuth application.
//
//	form:    'w' 'k' 'a' id
//	value:   format 1, JSON of the App
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: none (names are an operator's, keys are public ones)
func appKey(id string) kv.Key { return kv.WorkspaceKey(oauthRoom).Byte(kindApp).String(id) }

// usedKey is the key of an assertion that has been used.
//
//	form:    'w' 'k' 'j' sha256:32 (of the application's id and the jti)
//	value:   format 1, when the assertion ends in ms
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: expires (within minutes of the end)
func usedKey(hash [32]byte) kv.Key {
	return kv.WorkspaceKey(oauthRoom).Byte(kindUsed).Fixed(hash[:])
}

// revokedKey is the key of an access token or a client token that was revoked
// by itself.
//
//	form:    'w' 'k' 'r' number:12 (of the token; it opens nothing)
//	value:   format 1, when the token ends in ms
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: none (removed once the token has ended)
func revokedKey(number [12]byte) kv.Key {
	return kv.WorkspaceKey(oauthRoom).Byte(kindRevoked).Fixed(number[:])
}

// signingKey is the key of what access tokens are signed with.
//
//	form:    'w' 'k' 's'
//	value:   format 1, the sealed secret
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: none
func signingKey() kv.Key { return kv.WorkspaceKey(oauthRoom).Byte(kindSigning) }

// generationKey is the key of how often all client tokens of a space were
// revoked.
//
//	form:    'w' 'k' 'g' space:u32
//	value:   format 1, the number
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: none
func generationKey(space uint32) kv.Key {
	return kv.WorkspaceKey(oauthRoom).Byte(kindGeneration).Uint32(space)
}

// originKey is the key of an origin whose web pages use client tokens.
//
//	form:    'w' 'k' 'o' space:u32 origin
//	value:   format 1, until when in ms
//	fence:   "auth/oauth"
//	epoch:   no
//	erasure: none (it is an operator's; removed when another comes after its end)
func originKey(space uint32, origin string) kv.Key { return originStem(space).String(origin) }

func originStem(space uint32) kv.Key {
	return kv.WorkspaceKey(oauthRoom).Byte(kindOrigin).Uint32(space)
}

// originUntil returns until when an origin's web pages may ask, the zero time
// when they may not.
func originUntil(r kv.Reader, space uint32, origin string) (time.Time, error) {
	value, err := r.Get(originKey(space, origin))
	if err != nil || value == nil {
		return time.Time{}, err
	}
	until, ok := decodeOrigin(value)
	if !ok {
		return time.Time{}, errOrigin
	}
	return until, nil
}

func decodeOrigin(value []byte) (until time.Time, ok bool) {
	f := kv.FieldsOf(value)
	known := f.Byte() == originFormat
	until = time.UnixMilli(f.Varint())
	return until, known && f.OK()
}
