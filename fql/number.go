package fql

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

var (
	decimalNumber = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)
	prefixNumber  = regexp.MustCompile(`^0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)$`)
)

// toNumber reads a text as a number as JavaScript's Number() does (ECMA-262,
// StringToNumber): space around it is ignored, nothing is 0, hexadecimal, octal
// and binary have prefixes, and what is no number is NaN.
func toNumber(s string) float64 {
	s = strings.Trim(s, "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff")
	switch s {
	case "":
		return 0
	case "Infinity", "+Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	if decimalNumber.MatchString(s) {
		f, _ := strconv.ParseFloat(s, 64) // out of range is infinite, as it should be
		return f
	}
	if prefixNumber.MatchString(s) {
		return digitsNumber(s)
	}
	return math.NaN()
}

// digitsNumber reads digits after 0x, 0o or 0b, of any length.
func digitsNumber(s string) float64 {
	base := map[byte]float64{'x': 16, 'X': 16, 'o': 8, 'O': 8, 'b': 2, 'B': 2}[s[1]]
	if n, err := strconv.ParseUint(s[2:], int(base), 64); err == nil {
		return float64(n)
	}
	f := 0.0
	for i := 2; i < len(s); i++ {
		d, _ := strconv.ParseUint(s[i:i+1], int(base), 8)
		f = f*base + float64(d)
	}
	return f
}

// numberText writes a number as JavaScript's String() does (ECMA-262,
// Number::toString): 5, 1.5, 1e+21, 1e-7, NaN, Infinity.
func numberText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+") + "inity"
	case f == 0:
		return "0"
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
}
