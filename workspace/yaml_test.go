package workspace

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// texts are what YAML readers and writers have stumbled over.
var texts = []string{
	"", " ", "a", "true", "no", "NULL", "~", "12", "-0", "1e3", ".inf", "0x1F", "1_000", "2024-01-01", "- a", "a: b", "a #b", "#a", "a:", ":a",
	"'", `"`, `\`, "a\tb", "a\nb", "a\n", "\na", "a\n\n b\nc", " a\nb", "a \nb", "a\n \nb", "a\r\nb", "\u2028", "\u0085", "\x00", "\x7f", "ä", "日本", "🙂", "\ufeff",
	"${A}", "$${A}", "{}", "[]", "{a", "|", ">-", "&a", "*a", "!a", "%a", "@a", "`a`", "?", "? a", "-", "---", "...", "=", "<<", "a,b", "null\nb", "#a\nb",
	"event = \"A\"\nand b", "- a\n- b", "key: |\n  x", strings.Repeat("long ", 100), "a  b", "<&>", "\u200b", "a\u00a0b",
}

func roundTrip(t *testing.T, n *node) {
	t.Helper()
	text := writeYAML(n)
	back, err := readYAML(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want, err := n.json(verbatim)
	if err != nil {
		t.Fatal(err)
	}
	got, err := back.json(verbatim)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("wrote\n%s\nread %s\nwant %s", text, got, want)
	}
	if again := writeYAML(back); !bytes.Equal(again, text) {
		t.Fatalf("written again:\n%s\nfirst:\n%s", again, text)
	}
}

func TestYAMLKeepsEveryText(t *testing.T) {
	for _, s := range texts {
		n, in := objectNode(), objectNode()
		n.set("value", textNode(s))
		in.set("name", textNode(s))
		in.set("other", listNode([]*node{textNode(s), textNode("b"), listNode([]*node{textNode(s)})}))
		n.set("list", listNode([]*node{in, textNode(s)}))
		if s != "" {
			n.set("k"+s, objectNode())
		}
		roundTrip(t, n)
	}
}

func TestYAMLKeepsEveryTree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	numbers := []string{"0", "-1", "1.50", "1e3", "-0.0", "12345678901234567890123456789", "1E-7"}
	var grow func(depth int) *node
	grow = func(depth int) *node {
		k := r.IntN(6)
		if depth > 4 {
			k = r.IntN(4)
		}
		switch k {
		case 0:
			return &node{}
		case 1:
			return textNode(texts[r.IntN(len(texts))])
		case 2:
			return &node{kind: isNumber, text: numbers[r.IntN(len(numbers))]}
		case 3:
			return flagNode(r.IntN(2) == 0)
		case 4:
			n := listNode(nil)
			for range r.IntN(4) {
				n.list = append(n.list, grow(depth+1))
			}
			return n
		}
		n := objectNode()
		for i := range r.IntN(4) {
			n.set(string(rune('a'+i))+texts[r.IntN(len(texts))], grow(depth+1))
		}
		return n
	}
	for range 3000 {
		n := objectNode()
		n.set("a", grow(0))
		n.set("b", grow(0))
		roundTrip(t, n)
	}
}

func FuzzYAMLText(f *testing.F) {
	for _, s := range texts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		n := objectNode()
		n.set("value", textNode(s))
		n.set("list", listNode([]*node{textNode(s)}))
		roundTrip(t, n)
	})
}

func FuzzReadFile(f *testing.F) {
	for _, s := range []string{"", "a: 1", "sources:\n  - slug: a\n    settings: {a: [1, {b: ~}]}", "destinations: [{slug: a, metadataId: b, settings: {x: \"${A}\"}}]",
		"a: |\n  b\n c", "? a", "a: &b c", "- - - a", "[[[[", "a: 'b", "a: \"\\x\"", "\t", "a:\n\tb", "%YAML 1.2\n---\na: b", "audiences: [{name: a, definition: {query: |-\n x}}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		if file, err := ParseFile(text); err == nil {
			file.Variables()
		}
	})
}
