package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keyRow is a line of the table "Keys" of docs/keys.md.
type keyRow struct {
	line                                          int
	pkg, scope, form, fence, epoch, value, erased string
}

// fileRow is a line of its table "Files".
type fileRow struct {
	line              int
	name, pkg, erased string
}

// keysFile is where every key and every file that Kith writes is listed.
const keysFile = "docs/keys.md"

var (
	scopes  = []string{"workspace", "space", "epoch"}
	erasure = []string{"none", "by profile", "by identifier", "by record", "expires"}
	quoted  = regexp.MustCompile(`'.'`)
)

// readKeys reads both tables.
func readKeys(files fs.FS) (keys []keyRow, listed []fileRow, err error) {
	text, err := fs.ReadFile(files, keysFile)
	if err != nil {
		return nil, nil, err
	}
	heading := ""
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.Trim(strings.TrimSpace(cells[j]), "`")
		}
		switch {
		case cells[0] == "Package" || cells[0] == "File":
		case heading == "Keys" && len(cells) == 7:
			keys = append(keys, keyRow{i + 1, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]})
		case heading == "Files" && len(cells) == 4:
			listed = append(listed, fileRow{i + 1, cells[0], cells[1], cells[3]})
		case heading == "Keys" || heading == "Files":
			return nil, nil, fmt.Errorf("%s:%d: a row of %s has %d cells", keysFile, i+1, heading, len(cells))
		}
	}
	return keys, listed, nil
}

// keyUse is a place where a key is begun.
type keyUse struct {
	where, pkg, scope string
	room              byte
}

// checkKeys compares the keys that the code builds with docs/keys.md, both
// ways: every room byte and every letter in a keys.go stands in a row of its
// package, and what a row names exists. No two packages own a room byte.
func checkKeys(t *tree) (complaints []string) {
	rows, _, err := readKeys(t.files)
	if err != nil {
		return []string{err.Error()}
	}
	complaints = append(complaints, wellFormed(rows)...)
	consts := map[string]map[string]byte{} // package → name → byte, from all its files
	inKeysFile := map[string]map[byte]string{}
	for p, f := range t.code() {
		if consts[p.dir] == nil {
			consts[p.dir], inKeysFile[p.dir] = map[string]byte{}, map[byte]string{}
		}
		for name, value := range byteConsts(f.ast) {
			consts[p.dir][name] = value
		}
		if path.Base(f.name) == "keys.go" {
			for value, where := range t.letters(f.ast) {
				inKeysFile[p.dir][value] = where
			}
		}
	}
	owner := map[string]string{}
	for p, f := range t.code() {
		if p.dir == "kv" {
			continue
		}
		for _, use := range keysBegun(t, p, f, consts, &complaints) {
			prefix := fmt.Sprintf("%s %q", use.scope, use.room)
			if !slices.ContainsFunc(rows, func(r keyRow) bool {
				return r.pkg == use.pkg && r.scope == use.scope && strings.HasPrefix(r.form, fmt.Sprintf("%q", use.room))
			}) {
				complaints = append(complaints, fmt.Sprintf("%s: key %s of %s is not in %s", use.where, prefix, use.pkg, keysFile))
			}
			if before, ok := owner[prefix]; ok && before != use.pkg {
				complaints = append(complaints, fmt.Sprintf("%s: key %s belongs to %s and to %s", use.where, prefix, before, use.pkg))
			}
			owner[prefix] = use.pkg
		}
	}
	for dir, bytes := range inKeysFile {
		for value, where := range bytes {
			if !slices.ContainsFunc(rows, func(r keyRow) bool { return r.pkg == dir && strings.Contains(r.form, fmt.Sprintf("%q", value)) }) {
				complaints = append(complaints, fmt.Sprintf("%s: %q is in no row of %s in %s", where, value, dir, keysFile))
			}
		}
	}
	for _, r := range rows {
		for _, q := range quoted.FindAllString(r.form, -1) {
			if _, written := inKeysFile[r.pkg][q[1]]; !written && !slices.Contains(slices.Collect(maps.Values(consts[r.pkg])), q[1]) {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s writes no %s", keysFile, r.line, r.pkg, q))
			}
		}
	}
	slices.Sort(complaints)
	return complaints
}

func wellFormed(rows []keyRow) (complaints []string) {
	bad := func(r keyRow, what string) {
		complaints = append(complaints, fmt.Sprintf("%s:%d: %s", keysFile, r.line, what))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if !slices.Contains(scopes, r.scope) {
			bad(r, "scope is workspace, space or epoch")
		}
		if len(r.form) < 3 || !quoted.MatchString(r.form[:3]) {
			bad(r, "a key's form begins with its room byte in quotes")
		}
		if (r.scope == "epoch") != (r.epoch == "yes") || (r.epoch != "yes" && r.epoch != "no") {
			bad(r, `the epoch column is "yes" for keys of the epoch scope and "no" for all others`)
		}
		if r.fence == "" || r.value == "" {
			bad(r, "fence and format are given")
		}
		if !slices.Contains(erasure, r.erased) {
			bad(r, "erasure is one of: "+strings.Join(erasure, ", "))
		}
		if id := r.scope + r.form; seen[id] {
			bad(r, "listed twice")
		} else {
			seen[id] = true
		}
	}
	return complaints
}

// letters returns the letters that stand in a file as characters, and where: in
// a keys.go they are room bytes and forms of keys.
func (t *tree) letters(f *ast.File) map[byte]string {
	found := map[byte]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			if b, ok := character(lit); ok && b >= 'a' && b <= 'z' {
				found[b] = t.at(lit)
			}
		}
		return true
	})
	return found
}

// byteConsts returns the file's constants that are written as a character.
func byteConsts(f *ast.File) map[string]byte {
	consts := map[string]byte{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, n := range v.Names {
				if i < len(v.Values) {
					if b, ok := character(v.Values[i]); ok {
						consts[n.Name] = b
					}
				}
			}
		}
	}
	return consts
}

func character(e ast.Expr) (byte, bool) {
	if call, ok := e.(*ast.CallExpr); ok && len(call.Args) == 1 {
		e = call.Args[0] // byte('x')
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.CHAR {
		return 0, false
	}
	r, _, _, err := strconv.UnquoteChar(strings.Trim(lit.Value, "'"), '\'')
	return byte(r), err == nil && r < 256
}

// keysBegun finds the calls of kv's key constructors, and of a batch's Key, in
// a file.
func keysBegun(t *tree, p *pkg, f *file, consts map[string]map[string]byte, complaints *[]string) (uses []keyUse) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		scope := ""
		switch f.used(call.Fun) {
		case t.module + "/kv.WorkspaceKey":
			scope = "workspace"
		case t.module + "/kv.SpaceKey":
			scope = "space"
		case t.module + "/kv.EpochKey":
			scope = "epoch"
		default:
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Key" || len(call.Args) != 1 {
				return true
			}
			if id, ok := call.Args[0].(*ast.Ident); !ok || consts[p.dir][id.Name] == 0 {
				return true
			}
			scope = "epoch"
		}
		use := keyUse{where: t.at(call), pkg: p.dir, scope: scope}
		switch arg := call.Args[len(call.Args)-1].(type) {
		case *ast.Ident:
			use.room = consts[p.dir][arg.Name]
		case *ast.SelectorExpr:
			if dir, ok := t.inside(strings.TrimSuffix(f.used(arg), "."+arg.Sel.Name)); ok {
				use.pkg, use.room = dir, consts[dir][arg.Sel.Name]
			}
		}
		if use.room == 0 {
			if p.dir != "pipeline" || scope != "epoch" { // Batch.Key passes its argument on
				*complaints = append(*complaints, use.where+": the room byte of a key is a constant of its package's keys.go")
			}
			return true
		}
		uses = append(uses, use)
		return true
	})
	return uses
}

// fileConsts finds the string constants of server/files.go: the names of all
// that a server writes into its data directory.
func fileConsts(t *tree) map[string]string {
	names := map[string]string{}
	for _, p := range t.pkgs {
		for _, f := range p.files {
			if f.name != "server/files.go" {
				continue
			}
			for _, d := range f.ast.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.CONST {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					for i, n := range v.Names {
						if i < len(v.Values) && strings.HasPrefix(n.Name, "file") {
							names[t.text(f, v.Values[i])] = t.at(n)
						}
					}
				}
			}
		}
	}
	return names
}

// text returns the value of a string constant: a literal, or another package's
// constant that is one.
func (t *tree) text(f *file, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.SelectorExpr:
		dir, _ := t.inside(strings.TrimSuffix(f.used(e), "."+e.Sel.Name))
		for _, p := range t.pkgs {
			for _, other := range p.files {
				if p.dir != dir {
					continue
				}
				for _, d := range other.ast.Decls {
					g, ok := d.(*ast.GenDecl)
					if !ok || g.Tok != token.CONST {
						continue
					}
					for _, s := range g.Specs {
						v := s.(*ast.ValueSpec)
						for i, n := range v.Names {
							if n.Name == e.Sel.Name && i < len(v.Values) {
								return t.text(other, v.Values[i])
							}
						}
					}
				}
			}
		}
	}
	return "?"
}

// checkFiles compares the files of a data directory with docs/keys.md. That
// server/files.go names all of them is a test of server's.
func checkFiles(t *tree) (complaints []string) {
	_, rows, err := readKeys(t.files)
	if err != nil {
		return []string{err.Error()}
	}
	named := fileConsts(t)
	for name, where := range named {
		if !slices.ContainsFunc(rows, func(r fileRow) bool { return r.name == name }) {
			complaints = append(complaints, fmt.Sprintf("%s: file %q is not in %s", where, name, keysFile))
		}
	}
	for _, r := range rows {
		if named[r.name] == "" {
			complaints = append(complaints, fmt.Sprintf("%s:%d: server/files.go has no constant file… = %q", keysFile, r.line, r.name))
		}
		if !slices.Contains(erasure, r.erased) {
			complaints = append(complaints, fmt.Sprintf("%s:%d: erasure is one of: %s", keysFile, r.line, strings.Join(erasure, ", ")))
		}
	}
	return complaints
}
