package importer

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// got is a row as the tests compare it.
type got struct {
	line  uint64
	cells string // joined with |
	bad   string
}

func readRows(t testing.TB, text string, comma rune, most int, offset int64, line uint64) (all []got, starts []Progress) {
	t.Helper()
	r := newRows(strings.NewReader(text), int64(len(text)), comma, most, offset, line)
	for {
		starts = append(starts, Progress{Offset: r.offset(), Line: r.line})
		row, err := r.next()
		if errors.Is(err, io.EOF) {
			return all, starts
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got{row.line, strings.Join(row.cells, "|"), row.bad.reason})
		if len(all) > len(text)+1 {
			t.Fatal("more rows than bytes")
		}
		if (row.bad.reason == "") == (row.cells == nil) || (row.bad.fix == "") != (row.bad.reason == "") {
			t.Fatalf("row %+v", row)
		}
	}
}

func TestRows(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	tests := []struct {
		name, text string
		comma      rune
		most       int
		want       []got
	}{
		{name: "lines", text: "a,b\nc,d\r\ne,f", want: []got{{1, "a|b", ""}, {2, "c|d", ""}, {3, "e|f", ""}}},
		{name: "semicolons", comma: ';', text: "a;b,c\n;\n", want: []got{{1, "a|b,c", ""}, {2, "|", ""}}},
		{name: "tabs", comma: '\t', text: "a\t b \n", want: []got{{1, "a| b ", ""}}},
		{name: "blank lines", text: "\n\r\na\n\n\nb\n\r\n", want: []got{{3, "a", ""}, {6, "b", ""}}},
		{name: "quotes", text: "\"a,\"\"b\"\"\",c\n\"\",\"\"\n", want: []got{{1, `a,"b"|c`, ""}, {2, "|", ""}}},
		{name: "line breaks in quotes", text: "\"a\n\nb\",\"c\r\nd\"\ne,f\n", want: []got{{1, "a\n\nb|c\nd", ""}, {5, "e|f", ""}}},
		{name: "another number of columns", text: "a,b\nc\nd,e,f\n", want: []got{{1, "a|b", ""}, {2, "c", ""}, {3, "d|e|f", ""}}},
		{name: "any script", text: "имя,名前\nЖ,ж\n", want: []got{{1, "имя|名前", ""}, {2, "Ж|ж", ""}}},
		{name: "a quote within", text: "a,the \"sun\"\nb,c\n",
			want: []got{{1, "", "there is a quote within a field that does not begin with one (byte 7)"}, {2, "b|c", ""}}},
		{name: "text behind a quote", text: "\"a\" b,c\nd,e\n",
			want: []got{{1, "", "there is text behind the quote that ends a field (byte 3)"}, {2, "d|e", ""}}},
		{name: "a quote that is not closed", text: "a,\"b\nc,d\ne,f\n",
			want: []got{{1, "", "a field in quotes begins here and does not end well, up to line 3"}, {2, "c|d", ""}, {3, "e|f", ""}}},
		{name: "a quote that another row closes", text: "a,\"b\nc,d\ne,\"f\"\ng,h\n",
			want: []got{{1, "", "a field in quotes begins here and does not end well, up to line 3"}, {2, "c|d", ""}, {3, "e|f", ""}, {4, "g|h", ""}}},
		{name: "a quote that nothing closes for long", text: "a,b\nc,\"d\n" + strings.Repeat("e,f\n", 50_000) + "g,h", most: 1000,
			want: append(append([]got{{1, "a|b", ""}, {2, "", tooLong(1000).reason}}, many(50_000, 3, "e|f")...), got{50_003, "g|h", ""})},
		{name: "a long row", text: "a,b\n\n" + long + ",c\nd,e\n", most: 1000,
			want: []got{{1, "a|b", ""}, {3, "", tooLong(1000).reason}, {4, "d|e", ""}}},
		{name: "a row that is a little too long", text: "a,b\nlong,xxxxxxx\nd,e\n", most: 10,
			want: []got{{1, "a|b", ""}, {2, "", tooLong(10).reason}, {3, "d|e", ""}}},
		{name: "many blank lines", text: strings.Repeat("\n", 300_000) + "a,b", most: 10, want: []got{{300_001, "a|b", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.comma == 0 {
				tt.comma = ','
			}
			if tt.most == 0 {
				tt.most = MaxRowBytes
			}
			all, _ := readRows(t, tt.text, tt.comma, tt.most, 0, 1)
			if diff := cmp.Diff(tt.want, all, cmp.AllowUnexported(got{})); diff != "" {
				t.Errorf("rows (-want +got):\n%s", head(diff, 2000))
			}
		})
	}
}

func many(n int, line uint64, cells string) (all []got) {
	for i := range n {
		all = append(all, got{line + uint64(i), cells, ""})
	}
	return all
}

// FuzzRows reads any file to its end, and again from the place of each row: a
// resumed import reads the same rows.
func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		"a,b\nc,d\n", "\"a\nb\",c\r\n\r\nd,e", "a,\"b\nc,d\n", "a\"b,c\n\"\n", "\ufeffa;b\n;;\n", "\"\"\"\"\n\"", "\r\r\n\r", "\n\n\n\"", "a\r",
		strings.Repeat("\"x", 50), strings.Repeat("a\n", 20) + "\"", "x,\"y\r\nz\"\nw\n",
	} {
		f.Add(seed, uint8(20))
	}
	f.Fuzz(func(t *testing.T, text string, most uint8) {
		if len(text) > 2000 {
			t.Skip()
		}
		all, starts := readRows(t, text, ',', int(most)+1, 0, 1)
		for i, at := range starts {
			rest, _ := readRows(t, text, ',', int(most)+1, at.Offset, at.Line)
			if diff := cmp.Diff(all[i:], rest, cmp.AllowUnexported(got{}), cmp.Transformer("empty", func(l []got) []got { return append([]got{}, l...) })); diff != "" {
				t.Fatalf("from row %d at %+v on (-want +got):\n%s", i, at, diff)
			}
			if i > 0 && at.Offset <= starts[i-1].Offset {
				t.Fatalf("row %d begins at %d, the one before at %d", i, at.Offset, starts[i-1].Offset)
			}
		}
		if end := starts[len(starts)-1].Offset; end > int64(len(text)) {
			t.Fatalf("the end is at %d of %d", end, len(text))
		}
	})
}
