package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"kith/fault"
)

// MaxFileBytes is the largest workspace file that is read.
const MaxFileBytes = 8 << 20

// maxDepth is how deep objects and lists of a file may lie in each other.
const maxDepth = 64

// readYAML reads one YAML document. Anchors, aliases, merge keys and tags are
// refused: what a file says must be readable where it stands.
func readYAML(text []byte) (*node, error) {
	if len(text) > MaxFileBytes {
		return nil, fault.New(fault.Invalid, "the file has %d bytes; at most %d are read", len(text), MaxFileBytes)
	}
	if !utf8.Valid(text) {
		return nil, fault.New(fault.Invalid, "the file is not UTF-8")
	}
	tokens := lexer.Tokenize(string(text))
	if err := shallow(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the file is not valid YAML: %s", strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, fault.New(fault.Invalid, "line %d: the file holds a second document; put everything into one", doc.GetToken().Position.Line)
		}
		body = doc.Body
	}
	if body == nil {
		return objectNode(), nil
	}
	n, err := yamlNode(body, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err)
	}
	if n.kind == isNull { // a file of comments only
		return objectNode(), nil
	}
	if n.kind != isObject {
		return nil, fault.New(fault.Invalid, "line %d: the file must be an object with lists such as sources and destinations, not %s", n.line, kindNames[n.kind])
	}
	return n, nil
}

// shallow refuses, before the parser recurses into it, text that is nested
// deeper than any workspace is, and what yamlNode would not read anyway.
func shallow(tokens token.Tokens) error {
	line, open := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
			return fault.New(fault.Invalid, "line %d: anchors, aliases, merges, tags, directives and '?' are not read here; write the value out", t.Position.Line)
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open--
		}
		begins := t.Position.Line != line || t.Type == token.SequenceEntryType
		line = t.Position.Line
		if open > maxDepth || begins && open == 0 && t.Position.Column > 16*maxDepth {
			return fault.New(fault.Invalid, "line %d: nested more than %d deep", line, maxDepth)
		}
	}
	return nil
}

func yamlNode(y ast.Node, depth int) (*node, error) {
	if y == nil {
		return &node{}, nil
	}
	line := y.GetToken().Position.Line
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d deep", line, maxDepth)
	}
	switch y := y.(type) {
	case *ast.NullNode:
		return &node{line: line}, nil
	case *ast.BoolNode:
		return &node{kind: isFlag, text: fmt.Sprint(y.Value), line: line}, nil
	case *ast.IntegerNode, *ast.FloatNode:
		return number(y.(ast.ScalarNode), line)
	case *ast.StringNode:
		if y.Token.Type == token.StringType && jsonNumber.MatchString(y.Value) {
			return &node{kind: isNumber, text: y.Value, line: line}, nil // beyond 64 bits, or with an exponent
		}
		return &node{kind: isText, text: y.Value, line: line}, nil
	case *ast.LiteralNode:
		return &node{kind: isText, text: y.Value.Value, line: line}, nil
	case *ast.SequenceNode:
		n := &node{kind: isList, line: line}
		for _, item := range y.Values {
			v, err := yamlNode(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, v)
		}
		return n, nil
	case *ast.MappingNode:
		return mapping(y.Values, line, depth)
	case *ast.MappingValueNode:
		return mapping([]*ast.MappingValueNode{y}, line, depth)
	}
	return nil, fmt.Errorf("line %d: anchors, aliases, merges, tags and special numbers are not read here; write the value out", line)
}

func mapping(values []*ast.MappingValueNode, line, depth int) (*node, error) {
	n := &node{kind: isObject, line: line}
	for _, v := range values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok {
			return nil, fmt.Errorf("line %d: a name must be plain text", v.GetToken().Position.Line)
		}
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			return nil, fmt.Errorf("line %d: merges are not read here; write the values out", v.GetToken().Position.Line)
		}
		value, err := yamlNode(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if value.line == 0 {
			value.line = key.GetToken().Position.Line
		}
		name := key.GetToken().Value
		if n.get(name) != nil {
			return nil, fmt.Errorf("line %d: %q stands here twice", value.line, name)
		}
		n.set(name, value)
	}
	return n, nil
}

// jsonNumber is a number as JSON writes it (RFC 8259, section 6).
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// number keeps a number's text; forms that JSON does not have (0x1F, 1_000, .5)
// are written anew.
func number(y ast.ScalarNode, line int) (*node, error) {
	text := y.GetToken().Value
	if !jsonNumber.MatchString(text) {
		doc, err := json.Marshal(y.GetValue())
		if err != nil {
			return nil, errors.New("line " + decimal(line) + ": " + text + " is not a number that JSON can hold")
		}
		text = string(doc)
	}
	return &node{kind: isNumber, text: text, line: line}, nil
}

// writeYAML writes a node as a block of YAML. The same node gives the same
// text, and readYAML gives the node back.
func writeYAML(n *node) []byte {
	w := &yamlWriter{}
	w.object(n, 0)
	return w.b.Bytes()
}

type yamlWriter struct{ b bytes.Buffer }

func (w *yamlWriter) indent(depth int) {
	for range depth {
		w.b.WriteString("  ")
	}
}

func (w *yamlWriter) object(n *node, depth int) {
	for i, f := range n.fields {
		if depth == 0 && i > 0 && f.value.kind > isFlag {
			w.b.WriteByte('\n')
		}
		w.indent(depth)
		w.field(f, depth)
	}
}

func (w *yamlWriter) field(f field, depth int) {
	w.b.WriteString(scalar(f.name))
	w.b.WriteByte(':')
	w.value(f.value, depth)
}

// value writes what stands behind a name, which stands at depth.
func (w *yamlWriter) value(n *node, depth int) {
	switch {
	case n.kind == isObject && !n.empty():
		w.b.WriteByte('\n')
		w.object(n, depth+1)
	case n.kind == isList && !n.empty():
		w.b.WriteByte('\n')
		w.items(n, depth+1)
	case n.kind == isText && foldable(n.text):
		w.b.WriteString(" |-\n")
		for _, line := range strings.Split(n.text, "\n") {
			if line != "" {
				w.indent(depth + 1)
			}
			w.b.WriteString(line + "\n")
		}
	default:
		w.b.WriteString(" " + leaf(n) + "\n")
	}
}

func (w *yamlWriter) items(n *node, depth int) {
	for _, item := range n.list {
		w.indent(depth)
		w.b.WriteByte('-')
		switch {
		case item.kind == isObject && !item.empty():
			for i, f := range item.fields {
				if i == 0 {
					w.b.WriteByte(' ')
				} else {
					w.indent(depth + 1)
				}
				w.field(f, depth+1)
			}
		default:
			w.value(item, depth)
		}
	}
}

func leaf(n *node) string {
	switch n.kind {
	case isText:
		return scalar(n.text)
	case isNumber, isFlag:
		return n.text
	case isList:
		return "[]"
	case isObject:
		return "{}"
	}
	return "null"
}

// foldable reports whether a text is best read as a block of lines and comes
// back from one unchanged.
func foldable(s string) bool {
	if !strings.Contains(s, "\n") || strings.HasSuffix(s, "\n") || strings.HasPrefix(s, "\n") || !utf8.ValidString(s) {
		return false
	}
	for _, line := range strings.Split(s, "\n") {
		if line != strings.TrimRight(line, " ") {
			return false
		}
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return false
		}
	}
	first, _, _ := strings.Cut(s, "\n")
	return first == strings.TrimSpace(first) && !strings.HasPrefix(first, "#")
}

// plainText is a text that YAML reads as itself without quotes.
var plainText = regexp.MustCompile(`^([A-Za-z_/][A-Za-z0-9_./()-]*( [A-Za-z0-9_./()-]+)*|\$\{[A-Za-z0-9_]+\}|https?://[A-Za-z0-9_./:-]*[a-z0-9/])$`)

// scalar writes a text, in quotes where YAML could take it for something else.
func scalar(s string) string {
	if plainText.MatchString(s) && len(s) <= 200 {
		switch strings.ToLower(s) {
		case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		default:
			return s
		}
	}
	doc, err := marshal(s)
	if err != nil {
		return `""`
	}
	return string(doc)
}
