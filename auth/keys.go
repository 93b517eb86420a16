package auth

import "kith/kv"

// room is the room byte of tokens' keys, in the workspace scope.
const room = 'u'

// fence is the fence of all writes to tokens.
const fence kv.Fence = "auth"

// tokenFormat is the first byte of a stored token; see encode.
const tokenFormat = 1

// tokenKey is the key of a profile token.
//
//	form:    'w' 'u' sha256:32
//	value:   format 1, id, space number, name, createdAt in ms
//	fence:   "auth"
//	epoch:   no
//	erasure: none (the name is an operator's, and the token is not kept)
func tokenKey(hash [32]byte) kv.Key { return kv.WorkspaceKey(room).Fixed(hash[:]) }
