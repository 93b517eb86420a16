package importer

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"kith/fault"
)

// The encodings, as an import tells them.
const (
	utf8Name    = "utf-8"
	utf16LEName = "utf-16le"
	utf16BEName = "utf-16be"
	latinName   = "windows-1252"
)

// sniffed is how much of a file is looked at before anything is done with it.
const sniffed = 256 << 10

// encodingOf reads the option; empty when it is to be found out. Latin-1 is
// read as Windows-1252, which has it within: nobody means the control
// characters that stand there otherwise.
func encodingOf(option string) (string, error) {
	switch strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(option)) {
	case "":
		return "", nil
	case "utf-8", "utf8":
		return utf8Name, nil
	case "utf-16", "utf16":
		return "utf-16", nil
	case utf16LEName, "utf16le":
		return utf16LEName, nil
	case utf16BEName, "utf16be":
		return utf16BEName, nil
	case "latin-1", "latin1", "iso-8859-1", latinName, "cp1252", "ansi":
		return latinName, nil
	}
	return "", fault.Field("encoding", "%q is not known: want utf-8, utf-16, utf-16le, utf-16be or windows-1252 (latin-1)", option)
}

// decoded returns the text of a file as UTF-8 without a byte order mark, and
// the name of the encoding, which is found out unless it is given.
func decoded(file io.Reader, given string) (text io.Reader, name string, err error) {
	from := bufio.NewReaderSize(file, sniffed)
	begin, err := from.Peek(sniffed)
	if len(begin) == 0 && err != nil && err != io.EOF {
		return nil, "", err
	}
	mark, marked := bom(begin)
	switch {
	case given == "utf-16" && marked == utf16BEName:
		name = utf16BEName
	case given == "utf-16":
		name = utf16LEName
	case given != "" && marked != "" && given != marked:
		return nil, "", fault.Field("encoding", "the file is not %s: its first bytes mark it as %s", given, marked)
	case given != "":
		name = given
	case marked != "":
		name = marked
	default:
		if name, err = guess(begin); err != nil {
			return nil, "", err
		}
	}
	if marked == name {
		if _, err := from.Discard(mark); err != nil {
			return nil, "", err
		}
	}
	var as encoding.Encoding
	switch name {
	case utf8Name:
		return from, name, nil
	case utf16LEName:
		as = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case utf16BEName:
		as = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	default:
		as = charmap.Windows1252
	}
	return transform.NewReader(from, as.NewDecoder()), name, nil
}

// bom returns the length of a byte order mark and the encoding that it says.
func bom(begin []byte) (n int, name string) {
	switch {
	case bytes.HasPrefix(begin, []byte("\xef\xbb\xbf")):
		return 3, utf8Name
	case bytes.HasPrefix(begin, []byte("\xff\xfe")):
		return 2, utf16LEName
	case bytes.HasPrefix(begin, []byte("\xfe\xff")):
		return 2, utf16BEName
	}
	return 0, ""
}

// guess tells the encoding of a file without a mark: UTF-8, or UTF-16 by where
// its zero bytes are. Latin-1 is not guessed: nothing tells it from UTF-8 with
// a mistake in it, or from twenty others.
func guess(begin []byte) (string, error) {
	switch {
	case bytes.HasPrefix(begin, []byte("PK\x03\x04")), bytes.HasPrefix(begin, []byte("\xd0\xcf\x11\xe0")):
		return "", fault.Field("file", "this is a workbook or an archive, not a CSV file: save the sheet as CSV, or unpack it")
	case bytes.HasPrefix(begin, []byte("\x1f\x8b")):
		return "", fault.Field("file", "this is compressed with gzip: unpack it first")
	}
	zeros := [2]int{}
	for i, b := range begin[:min(len(begin), 4<<10)&^1] {
		if b == 0 {
			zeros[i%2]++
		}
	}
	switch {
	case zeros[1] > 0 && zeros[0] == 0:
		return utf16LEName, nil
	case zeros[0] > 0 && zeros[1] == 0:
		return utf16BEName, nil
	case zeros[0] > 0:
		return "", fault.Field("file", "this is not text: it has zero bytes")
	}
	if at := notUTF8(begin); at >= 0 {
		return "", fault.Field("encoding", "line %d is not UTF-8 (%q): say how the file is written, as encoding=windows-1252 for one from Excel on Windows, or save it as \"CSV UTF-8\"",
			1+bytes.Count(begin[:at], []byte("\n")), around(begin, at))
	}
	return utf8Name, nil
}

// notUTF8 returns the place of the first byte that is no UTF-8, or -1. What may
// only be cut off at the end is fine.
func notUTF8(text []byte) int {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 && utf8.FullRune(text[at:]) {
			return at
		}
		at += size
	}
	return -1
}

// around returns some of a text around a place.
func around(text []byte, at int) string {
	from, to := max(0, at-10), min(len(text), at+10)
	if i := bytes.LastIndexByte(text[from:at], '\n'); i >= 0 {
		from += i + 1
	}
	if i := bytes.IndexByte(text[at:to], '\n'); i >= 0 {
		to = at + i
	}
	return string(text[from:to])
}
