package query

import "strings"

// decimal is a number's text, taken apart but not converted: comparing two of
// them is exact for numbers of any length and costs no allocation. The value is
// 0.d1d2d3… × 10^exp, d1 not being zero; zero has no digits.
type decimal struct {
	negative bool
	digits   string // from the first digit that counts to the last, may hold a dot
	exp      int64
}

// maxExponent keeps exponents that are written out far from overflow.
const maxExponent = 1 << 40

// parseDecimal reads -12.50e3. Leading zeros are allowed, since strings hold
// them; what is no number is not ok.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && s[0] == '-' {
		d.negative, s = true, s[1:]
	}
	whole := digitRun(s)
	if whole == 0 {
		return decimal{}, false
	}
	end := whole
	if end < len(s) && s[end] == '.' {
		n := digitRun(s[end+1:])
		if n == 0 {
			return decimal{}, false
		}
		end += 1 + n
	}
	mantissa, rest := s[:end], s[end:]
	var exp int64
	if rest != "" {
		if rest[0] != 'e' && rest[0] != 'E' {
			return decimal{}, false
		}
		if exp, ok = parseExponent(rest[1:]); !ok {
			return decimal{}, false
		}
	}
	first := strings.IndexAny(mantissa, "123456789")
	if first < 0 {
		return decimal{}, true
	}
	last := strings.LastIndexAny(mantissa, "123456789")
	d.digits = mantissa[first : last+1]
	if first < whole {
		d.exp = exp + int64(whole-first)
	} else {
		d.exp = exp - int64(first-whole-1)
	}
	return d, true
}

func parseExponent(s string) (n int64, ok bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	if s == "" || digitRun(s) != len(s) {
		return 0, false
	}
	for i := range len(s) {
		n = min(n*10+int64(s[i]-'0'), maxExponent)
	}
	if negative {
		n = -n
	}
	return n, true
}

func digitRun(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// compare returns -1, 0 or 1.
func (d decimal) compare(e decimal) int {
	ds, es := d.sign(), e.sign()
	switch {
	case ds != es:
		return order(ds, es)
	case ds == 0:
		return 0
	case d.exp != e.exp:
		return ds * order(d.exp, e.exp)
	}
	i, j := 0, 0
	for {
		if i < len(d.digits) && d.digits[i] == '.' {
			i++
		}
		if j < len(e.digits) && e.digits[j] == '.' {
			j++
		}
		switch {
		case i == len(d.digits) && j == len(e.digits):
			return 0
		case i == len(d.digits):
			return -ds
		case j == len(e.digits):
			return ds
		case d.digits[i] != e.digits[j]:
			return ds * order(d.digits[i], e.digits[j])
		}
		i++
		j++
	}
}

func order[T int | int64 | byte](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// canonical writes the number in its one form: no zeros that say nothing, and
// an exponent only where the plain form would be long.
func (d decimal) canonical() string {
	if d.digits == "" {
		return "0"
	}
	digits := strings.Replace(d.digits, ".", "", 1)
	var s string
	switch n := int64(len(digits)); {
	case d.exp > 40 || d.exp < -40:
		s = digits[:1]
		if n > 1 {
			s += "." + digits[1:]
		}
		s += "e" + itoa(d.exp-1)
	case d.exp <= 0:
		s = "0." + strings.Repeat("0", int(-d.exp)) + digits
	case d.exp >= n:
		s = digits + strings.Repeat("0", int(d.exp-n))
	default:
		s = digits[:d.exp] + "." + digits[d.exp:]
	}
	if d.negative {
		s = "-" + s
	}
	return s
}

// floor returns the largest whole number that is not above d, cut to the range
// of ±limit.
func (d decimal) floor(limit int64) int64 {
	if d.digits == "" {
		return 0
	}
	var n int64
	var fraction bool
	if d.exp <= 0 {
		fraction = true
	} else {
		digits := strings.Replace(d.digits, ".", "", 1)
		fraction = int64(len(digits)) > d.exp
		for i := int64(0); i < d.exp && n <= limit; i++ {
			n *= 10
			if i < int64(len(digits)) {
				n += int64(digits[i] - '0')
			}
		}
	}
	n = min(n, limit)
	if d.negative {
		n = -n
		if fraction && n > -limit {
			n--
		}
	}
	return n
}
