package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// size is a number of bytes as people write it: 500000, 32KB, 1.5MB. The units
// are powers of 1,024, with or without the i.
type size int64

// UnmarshalText reads a size of at least one byte.
func (s *size) UnmarshalText(text []byte) error {
	word := strings.ToUpper(strings.TrimSpace(string(text)))
	number := strings.TrimRight(word, "BKMGTI ")
	unit, ok := map[string]float64{
		"": 1, "B": 1, "K": 1 << 10, "KB": 1 << 10, "KIB": 1 << 10, "M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20,
		"G": 1 << 30, "GB": 1 << 30, "GIB": 1 << 30, "T": 1 << 40, "TB": 1 << 40, "TIB": 1 << 40,
	}[strings.TrimSpace(word[len(number):])]
	n, err := strconv.ParseFloat(number, 64)
	if bytes := n * unit; !ok || err != nil || bytes < 1 || bytes > 1<<50 || bytes != math.Trunc(bytes) {
		return fmt.Errorf("%q is not a size: want a number of bytes such as 500000, or one with a unit such as 32KB or 1MB", text)
	}
	*s = size(n * unit)
	return nil
}

// duration is a length of time as people write it: 30d, 2w, 12h30m, 0.
type duration time.Duration

// UnmarshalText reads a duration of zero or more.
func (d *duration) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(word, suffix); ok {
			if n, err := strconv.ParseUint(number, 10, 16); err == nil {
				*d = duration(time.Duration(n) * unit)
				return nil
			}
		}
	}
	t, err := time.ParseDuration(word)
	if err != nil || t < 0 {
		return fmt.Errorf("%q is not a length of time: want one such as 30d, 2w, 12h or 90m, or 0", text)
	}
	*d = duration(t)
	return nil
}
