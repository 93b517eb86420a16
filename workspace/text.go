package workspace

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what an operator may declare. They keep one snapshot small enough
// to be read at every start and to be checked at every change.
const (
	maxSlug        = 100
	maxName        = 255
	maxDescription = 4096
	maxSettings    = 256 << 10 // bytes of JSON, of one source, destination, subscription or connection
	maxLabels      = 50
	maxWriteKeys   = 20
	// maxSubscriptions is Segment's (sheet connections_protocols §3.5).
	maxSubscriptions = 50
	maxTrigger       = 8 << 10
	maxQuery         = 64 << 10
	maxRules         = 2000 // of one plan, as in Segment (sheet connections_protocols §5.1)
	maxSchema        = 1 << 20
	maxActivations   = 20
	maxIdentifiers   = 100 // identifier rules of one space
	maxBlocked       = 1000
	maxFilters       = 200 // event filters of one space; Segment has 10 (sheet unify_engage_privacy §1.13)
	maxFilter        = 5 << 10
	maxPattern       = 1000
	maxLimit         = 1_000_000
	maxSearchTraits  = 20
)

var (
	slugForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	writeKeyForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	typeForm     = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.$-]*$`)
	regionForm   = regexp.MustCompile(`^[A-Z]{2}$`)
	keyForm      = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_]+$`)
)

// words returns name in lower case with every run of other characters than
// letters and digits made one sep.
func words(name string, sep rune) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(name) {
		ascii := r < unicode.MaxASCII || sep == '_' // slugs stand in addresses, keys need not
		if ascii && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			if gap && b.Len() > 0 {
				b.WriteRune(sep)
			}
			b.WriteRune(r)
			gap = false
			continue
		}
		gap = true
	}
	return b.String()
}

func decimal(n int) string { return strconv.Itoa(n) }
