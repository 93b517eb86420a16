package importer

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"kith/fault"
)

// delimiters are those that are looked for, and their names.
var delimiters = []struct {
	sign rune
	name string
}{{',', "comma"}, {';', "semicolon"}, {'\t', "tab"}, {'|', "pipe"}}

// delimiterOf reads the option: a character or its name; zero when it is empty.
func delimiterOf(option string) (rune, error) {
	for _, d := range delimiters {
		if strings.EqualFold(option, d.name) || option == string(d.sign) || d.sign == '\t' && option == `\t` {
			return d.sign, nil
		}
	}
	sign, size := utf8.DecodeRuneInString(option)
	switch {
	case option == "":
		return 0, nil
	case size != len(option) || sign == utf8.RuneError || strings.ContainsRune("\"\r\n\x00", sign):
		return 0, fault.Field("delimiter", "%q is not a delimiter: want one character, or comma, semicolon, tab or pipe", option)
	}
	return sign, nil
}

// sepLine is a first line by which some programs tell spreadsheets the
// delimiter.
var sepLine = regexp.MustCompile("^\"?sep=([^\r\n\"])\"?\r?\n")

// dialect finds out how a file is written: its delimiter, and how many bytes of
// its beginning belong to no row.
func dialect(begin []byte, wanted rune) (comma rune, skip int, err error) {
	if m := sepLine.FindSubmatch(begin); m != nil {
		skip = len(m[0])
		if wanted == 0 {
			wanted, _ = utf8.DecodeRune(m[1])
		}
	}
	if !bytes.ContainsRune(begin, '\n') && bytes.ContainsRune(begin, '\r') {
		return 0, 0, fault.Field("file", "its lines end with carriage returns alone, as on old Macintoshes: save it with line feeds (\\n or \\r\\n)")
	}
	if wanted != 0 {
		return wanted, skip, nil
	}
	return detect(begin[skip:]), skip, nil
}

// detect returns the delimiter that the first line has most of, outside of
// quotes; a comma when it has none.
func detect(text []byte) rune {
	counts := map[rune]int{}
	quoted := false
	for _, r := range string(bytes.TrimLeft(text, "\r\n")) {
		if r == '"' {
			quoted = !quoted
		}
		if quoted {
			continue
		}
		if r == '\n' {
			break
		}
		counts[r]++
	}
	best := ','
	for _, d := range delimiters {
		if counts[d.sign] > counts[best] {
			best = d.sign
		}
	}
	return best
}

// named returns how people call a delimiter.
func named(comma rune) string {
	for _, d := range delimiters {
		if d.sign == comma {
			return d.name
		}
	}
	return fmt.Sprintf("%q", comma)
}
