package auth

import "sync"

// maxSeen bounds the profile tokens that are remembered; a space has fewer in
// use, and the rest are looked up.
const maxSeen = 256

// seen remembers profile tokens by the hash under which they are stored, so
// that a read need not ask the store who asks. Only what the store has is
// remembered: unknown tokens, of which anybody can make as many as he likes,
// are not. Tokens are only ever created and revoked, and this process alone
// writes them.
type seen struct {
	mu     sync.RWMutex
	tokens map[[32]byte]known
	gone   uint64 // how often all was forgotten
}

// known is a profile token and the number of its space.
type known struct {
	token ProfileToken
	space uint32
}

func newSeen() *seen { return &seen{tokens: map[[32]byte]known{}} }

func (s *seen) get(hash [32]byte) (known, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, ok := s.tokens[hash]
	return k, ok
}

// changes is asked before the store is: what was read from it since is only
// kept if nothing was forgotten meanwhile.
func (s *seen) changes() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.gone
}

func (s *seen) put(hash [32]byte, k known, since uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != since {
		return
	}
	if len(s.tokens) >= maxSeen {
		clear(s.tokens)
	}
	s.tokens[hash] = k
}

// forget forgets all tokens, once one is revoked.
func (s *seen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone++
	clear(s.tokens)
}
