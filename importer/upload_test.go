package importer

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/fault"
	"kith/workspace"
)

// utf16le writes a text as UTF-16, little-endian.
func utf16le(text string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(u))
		b.WriteByte(byte(u >> 8))
	}
	return b.String()
}

// swapped turns little-endian into big-endian.
func swapped(text string) string {
	b := []byte(text)
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
	return string(b)
}

// TestDialects imports one file in many writings.
func TestDialects(t *testing.T) {
	const plain = "user_id,name\nu1,Zoë Ångström\n"
	latin := "user_id,name\nu1,Zo\xeb \xc5ngstr\xf6m\n"
	for _, tt := range []struct {
		name, file string
		options    Options
		encoding   string
		comma      string
	}{
		{"plain", plain, Options{}, utf8Name, ","},
		{"byte order mark", "\ufeff" + plain, Options{}, utf8Name, ","},
		{"declared, with a mark", "\ufeff" + plain, Options{Encoding: "UTF-8"}, utf8Name, ","},
		{"Windows lines", strings.ReplaceAll(plain, "\n", "\r\n"), Options{}, utf8Name, ","},
		{"no end of line", strings.TrimSuffix(plain, "\n"), Options{}, utf8Name, ","},
		{"UTF-16 with a mark", "\xff\xfe" + utf16le(plain), Options{}, utf16LEName, ","},
		{"UTF-16, big-endian, with a mark", "\xfe\xff" + swapped(utf16le(plain)), Options{}, utf16BEName, ","},
		{"UTF-16 without a mark", utf16le(plain), Options{}, utf16LEName, ","},
		{"UTF-16, big-endian, without a mark", swapped(utf16le(plain)), Options{}, utf16BEName, ","},
		{"UTF-16, declared", "\xfe\xff" + swapped(utf16le(plain)), Options{Encoding: "utf16"}, utf16BEName, ","},
		{"Latin-1, declared", latin, Options{Encoding: "latin1"}, latinName, ","},
		{"Windows-1252, declared", latin, Options{Encoding: "Windows-1252"}, latinName, ","},
		{"semicolons", strings.ReplaceAll(plain, ",", ";"), Options{}, utf8Name, ";"},
		{"tabs", strings.ReplaceAll(plain, ",", "\t"), Options{}, utf8Name, "\t"},
		{"pipes", strings.ReplaceAll(plain, ",", "|"), Options{}, utf8Name, "|"},
		{"a sign, declared", strings.ReplaceAll(plain, ",", "^"), Options{Delimiter: "^"}, utf8Name, "^"},
		{"tabs, declared", strings.ReplaceAll(plain, ",", "\t"), Options{Delimiter: "tab"}, utf8Name, "\t"},
		{"a line for spreadsheets", "sep=;\n" + strings.ReplaceAll(plain, ",", ";"), Options{}, utf8Name, ";"},
		{"quotes", "\"user_id\",\"name\"\n\"u1\",\"Zoë Ångström\"\n", Options{}, utf8Name, ","},
		{"delimiters in quotes", "\"user_id\";\"a,b,c,d\";name\nu1;;Zoë Ångström\n", Options{Mapping: map[string]Mapping{"a,b,c,d": {As: asIgnored}}}, utf8Name, ";"},
		{"blank lines first", "\n\n" + plain, Options{}, utf8Name, ","},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, Limits{})
			s, err := d.m.Create(t.Context(), d.space(), tt.options, iotest.OneByteReader(strings.NewReader(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			s = d.ended(s.ID)
			if s.State != Finished || s.Options.Encoding != tt.encoding || s.Options.Delimiter != tt.comma {
				t.Errorf("%s %s as %s with %q", s.State, s.Error, s.Options.Encoding, s.Options.Delimiter)
			}
			want := []string{fmt.Sprintf(`{"type":"identify","messageId":"%s-1","userId":"u1","traits":{"name":"Zoë Ångström"},"context":{"library":{"name":"kith-csv-import"}}}`, s.ID)}
			if diff := cmp.Diff(want, d.taker.taken()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedFiles are files of which nothing is kept.
func TestRefusedFiles(t *testing.T) {
	many := strings.Repeat("a,", 300)
	for _, tt := range []struct {
		name, file string
		options    Options
		field, why string
	}{
		{"empty", "", Options{}, "file", "it is empty"},
		{"blank", "\n \r\n", Options{}, "file", "it is empty"},
		{"a header alone", "user_id,name\n\n", Options{}, "file", "no rows"},
		{"a workbook", "PK\x03\x04abc", Options{}, "file", "workbook"},
		{"compressed", "\x1f\x8b\x08abc", Options{}, "file", "gzip"},
		{"zero bytes", "a\x00\x00b\x00\x00\x00", Options{}, "file", "not text"},
		{"old Macintosh", "user_id,name\ru1,Jo\r", Options{}, "file", "carriage returns"},
		{"Latin-1", "user_id,name\nu1,Zo\xeb\n", Options{}, "encoding", `line 2 is not UTF-8 ("u1,Zo\xeb"): say how the file is written, as encoding=windows-1252`},
		{"another mark", "\xff\xfea\x00", Options{Encoding: "latin-1"}, "encoding", "its first bytes mark it as utf-16le"},
		{"an unknown encoding", "a", Options{Encoding: "koi8"}, "encoding", "not known"},
		{"an unknown delimiter", "a", Options{Delimiter: "--"}, "delimiter", "want one character"},
		{"no name", "user_id,,name\nu1,a,b\n", Options{}, "columns.2", "column 2 (B in a spreadsheet) has no name"},
		{"no name far right", "user_id,a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,\nu1\n", Options{}, "columns.28", "(AB in a spreadsheet)"},
		{"the same name twice", "user_id,name, name\nu1,a,b\n", Options{}, "columns.3", `column 3 has the same name as column 2, "name"`},
		{"the same names many times", "user_id," + many + "b\nu1\n", Options{}, "columns.", "has the same name as column 2"},
		{"the same identifier twice", "user_id,userId\nu1,u2\n", Options{}, "columns.2", `the columns "user_id" and "userId" would both be the identifier user_id`},
		{"the same trait twice", "user_id,Plan,plan\nu1,a,b\n", Options{Mapping: map[string]Mapping{"Plan": {Name: "plan"}}}, "columns.3", `"Plan" and "plan" would both be the trait plan`},
		{"no identifier", "name;plan\na;b\n", Options{}, "columns", "no column is an identifier of the space"},
		{"the wrong delimiter", "user_id:name\na:b\n", Options{}, "columns", "no column is an identifier"},
		{"accounts without group_id", "name,user_id\na,b\n", Options{Collection: "accounts"}, "columns", "no column is group_id"},
		{"an unclosed quote", "user_id,\"name\nu1,a\n", Options{}, "columns", "the header cannot be read"},
		{"a mapping of nothing", "user_id,name\nu1,a\n", Options{Mapping: map[string]Mapping{"Name": {As: asIgnored}}}, "mapping.Name", "the file has no such column; it has: user_id, name"},
		{"a mapping to nonsense", "user_id\nu1\n", Options{Mapping: map[string]Mapping{"user_id": {As: "key"}}}, "mapping.user_id", `as is "key"`},
		{"a type of nonsense", "user_id\nu1\n", Options{Mapping: map[string]Mapping{"user_id": {Type: "int"}}}, "mapping.user_id", `type is "int"`},
		{"an identifier with a type", "user_id\nu1\n", Options{Mapping: map[string]Mapping{"user_id": {As: "identifier", Type: "number"}}}, "mapping.user_id", "only traits have a type"},
		{"an identifier in capitals", "user_id\nu1\n", Options{Mapping: map[string]Mapping{"user_id": {As: "identifier", Name: "Card"}}}, "mapping.user_id", "in lower case"},
		{"a collection of nonsense", "user_id\nu1\n", Options{Collection: "people"}, "collection", "want users or accounts"},
		{"a source of nonsense", "user_id\nu1\n", Options{Source: "crm"}, "source", `there is no source "crm"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, Limits{})
			_, err := d.m.Create(t.Context(), d.space(), tt.options, strings.NewReader(tt.file))
			found := false
			for _, one := range workspace.Problems(err) {
				if !fault.Is(one, fault.Invalid) {
					t.Errorf("the kind of %v is %v", one, fault.KindOf(one))
				}
				found = found || strings.HasPrefix(one.Error(), tt.field) && strings.Contains(one.Error(), tt.why)
			}
			if !found {
				t.Errorf("got %v, want %s: %s", err, tt.field, tt.why)
			}
			if list, err := d.m.List(t.Context(), d.space().Number); err != nil || len(list) > 0 {
				t.Errorf("%v %v is kept", list, err)
			}
			if entries, err := os.ReadDir(d.dir); err == nil && len(entries) > 0 || d.used() != 0 {
				t.Errorf("%v is on disk", entries)
			}
		})
	}
}

// TestBrokenUpload has the connection break in the middle of a file.
func TestBrokenUpload(t *testing.T) {
	d := newDesk(t, Limits{})
	file := guests(200_000)
	_, err := d.m.Create(t.Context(), d.space(), Options{}, io.MultiReader(strings.NewReader(file[:len(file)/2]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "did not come completely") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) > 0 || d.used() != 0 {
		t.Errorf("%v %v is on disk, %d bytes counted", entries, err, d.used())
	}
}

// TestWrongEncodingLate has the first letter that is no UTF-8 far behind what is
// looked at: the rows with such letters are errors, the others are sent.
func TestWrongEncodingLate(t *testing.T) {
	d := newDesk(t, Limits{})
	s := d.ended(d.create(Options{}, guests(20_000)+"u20001,zo\xeb@example.com,1\nu20002,jo@example.com,1\n").ID)
	report := d.report(s)
	if s.Progress.Sent != 20_001 || len(report) != 1 || report[0][2] != "email" || !strings.Contains(report[0][5], "windows-1252") {
		t.Errorf("%+v, %v", s.Progress, report)
	}
}

// TestColumns says what columns are taken for.
func TestColumns(t *testing.T) {
	rules := []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email"}, {Type: "anonymous_id"}, {Type: "group_id", Collection: event.Accounts},
		{Type: "loyalty_card", Keys: []string{"cardNumber"}}, {Type: "phone"}, {Type: "ios.idfa"}, {Type: "vat", Collection: event.Accounts}}
	type columns []Column
	id := func(header, name string) Column {
		return Column{Header: header, As: asIdentifier, Name: name, Collection: event.Users}
	}
	trait := func(header, kind string) Column {
		return Column{Header: header, As: asTrait, Name: header, Type: kind}
	}
	group := Column{Header: "groupId", As: asIdentifier, Name: groupID, Collection: event.Accounts}
	for _, tt := range []struct {
		name    string
		options Options
		headers []string
		want    columns
		notes   []string
	}{
		{"identifiers", Options{}, []string{"User ID", "e-mail", "Email", "anonymousId", "groupId", "PHONE", "ios.idfa", "vat"}, columns{
			id("User ID", userID), trait("e-mail", typeAuto), id("Email", emailID), id("anonymousId", anonymousID), group, id("PHONE", phoneID), id("ios.idfa", "ios.idfa"), trait("vat", typeAuto),
		}, nil},
		{"keys of a rule", Options{}, []string{"user_id", "card_number"}, columns{
			id("user_id", userID), {Header: "card_number", As: asTrait, Name: "card_number", Type: typeString, Finds: "loyalty_card"},
		}, nil},
		{"traits", Options{}, []string{"user_id", " Zip Code ", "Ж", "name", "nights"}, columns{
			id("user_id", userID), trait("Zip Code", typeString), trait("Ж", typeAuto), trait("name", typeString), trait("nights", typeAuto),
		}, []string{"spaces around names of columns were left out (of 1)"}},
		{"a report", Options{}, []string{"kith_row", "kith_error", "user_id"}, columns{
			{Header: "kith_row", As: asIgnored}, {Header: "kith_error", As: asIgnored}, id("user_id", userID),
		}, []string{"2 columns of an error report are ignored"}},
		{"mapped", Options{Types: typeString, Mapping: map[string]Mapping{
			"Mail": {As: asIdentifier, Name: emailID}, "user_id": {As: asTrait}, "Nights": {Name: "nights", Type: typeNumber}, "since": {As: asTimestamp}, "x": {As: asIgnored}, "Card": {As: asIdentifier},
		}}, []string{"Mail", "user_id", "Nights", "since", "x", "Card", "y"}, columns{
			id("Mail", emailID), trait("user_id", typeString), {Header: "Nights", As: asTrait, Name: "nights", Type: typeNumber},
			{Header: "since", As: asTimestamp}, {Header: "x", As: asIgnored}, id("Card", "card"), trait("y", typeString),
		}, []string{"the space has no rule for identifiers of the type card: it registers itself, with the default limit"}},
		{"accounts", Options{Collection: event.Accounts}, []string{"groupId", "user_id", "email", "vat", "name"}, columns{
			group, id("user_id", userID), trait("email", typeString), {Header: "vat", As: asIdentifier, Name: "vat", Collection: event.Accounts}, trait("name", typeString),
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := tt.options.check(); err != nil {
				t.Fatal(err)
			}
			got, notes, err := plan(tt.headers, &tt.options, rules)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, columns(got)); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}
