package importer

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/identity"
)

// FuzzFile takes any bytes for a file, from its encoding to the calls. What is
// not refused gives rows, and of each row either calls, every one a JSON object
// with its own messageId and somebody whom it is about, or what is wrong.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		guests(3), "\ufeffuser_id;Ж\nu1;\"a\nb\"\n", "\xff\xfe" + utf16le("email\tname\na@example.com\tZoë\n"), "sep=|\nuser_id|a\nu1|\"\n",
		"group_id,user_id,x\ng1,u1,{}\n,,\n", "user_id,a\nu1\nu2,b,c\n\"u3\"\"\",\xff\n", "user_id,n,n2\nu1,1e400,-0\nu2,\x00,\u2028\n", "user_id\n\"u\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, file []byte, accounts bool) {
		if len(file) > 5000 {
			t.Skip()
		}
		o := Options{AnonymousID: generateID, Empty: emptyNull}
		if accounts {
			o = Options{Collection: event.Accounts}
		}
		comma, encoding, err := o.check()
		if err != nil {
			t.Fatal(err)
		}
		decoded, _, err := decoded(strings.NewReader(string(file)), encoding)
		if err != nil {
			return
		}
		text, err := io.ReadAll(decoded)
		if err != nil {
			t.Fatal(err)
		}
		i := Import{ID: "imp", Options: o}
		if err := i.look(text, comma, identity.DefaultIdentifiers()); err != nil {
			return
		}
		b := builder{id: i.ID, options: &i.Options, columns: i.Columns, identifiers: map[string]string{}}
		rows := newRows(strings.NewReader(string(text)), int64(len(text)), []rune(i.Options.Delimiter)[0], MaxRowBytes, i.Begin.Offset, i.Begin.Line)
		seen := map[string]bool{}
		for n := uint64(1); ; n++ {
			r, err := rows.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			calls, problems := b.build(n, r)
			if len(calls) > 0 && len(problems) > 0 {
				t.Fatalf("row %d gives %s and %v", n, calls, problems)
			}
			for _, c := range calls {
				repeated, err := event.CheckJSON([]byte(c))
				if err != nil {
					t.Fatalf("row %d gives %s: %v", n, c, err)
				}
				if repeated && string(event.LastWins([]byte(c))) != c { // it may be said of what repeats nothing
					t.Fatalf("row %d gives %s, which has a key twice", n, c)
				}
				e, err := event.Parse([]byte(c))
				if err != nil {
					t.Fatalf("row %d gives %s: %v", n, c, err)
				}
				if id := gjson.Get(c, "messageId").Str; id == "" || seen[id] {
					t.Fatalf("row %d has the messageId %q", n, id)
				} else {
					seen[id] = true
				}
				if len(event.StandardIdentifiers(e)) == 0 {
					t.Fatalf("row %d is nobody's: %s", n, c)
				}
			}
		}
	})
}
