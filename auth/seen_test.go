package auth

import "testing"

// A token that was read from the store before it was revoked is not remembered
// after that.
func TestSeenTokens(t *testing.T) {
	s := newSeen()
	hash := func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8)} }
	before := s.changes()
	s.put(hash(1), known{ProfileToken{ID: "one"}, 7}, before)
	if k, ok := s.get(hash(1)); !ok || k.token.ID != "one" || k.space != 7 {
		t.Errorf("%+v %v", k, ok)
	}
	s.forget()
	if _, ok := s.get(hash(1)); ok {
		t.Error("a revoked token is known")
	}
	s.put(hash(1), known{ProfileToken{ID: "one"}, 7}, before)
	if _, ok := s.get(hash(1)); ok {
		t.Error("a revoked token is known again by one who read it before")
	}
	for i := range 3 * maxSeen {
		s.put(hash(i), known{}, s.changes())
		if len(s.tokens) > maxSeen {
			t.Fatalf("%d tokens are remembered", len(s.tokens))
		}
	}
	if _, ok := s.get(hash(3*maxSeen - 1)); !ok {
		t.Error("the last token is not remembered")
	}
}
