package workspace

import (
	"fmt"
	"io"
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// The lengths of random names: an id has 131 bits, a write key 190.
const (
	idDigits  = 22
	keyDigits = 32
)

// namer makes random names. The first error of the source of randomness stays
// in err.
type namer struct {
	random io.Reader
	err    error
}

// text returns n random letters and digits, each equally likely.
func (g *namer) text(n int) string {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n && g.err == nil {
		if _, err := io.ReadFull(g.random, b[:]); err != nil {
			g.err = fmt.Errorf("read randomness: %w", err)
			return ""
		}
		for _, c := range b {
			if c < 248 && len(out) < n { // 4 times 62: no digit is favoured
				out = append(out, digits[c%62])
			}
		}
	}
	return string(out)
}

func (g *namer) id(prefix string) string { return prefix + g.text(idDigits) }
