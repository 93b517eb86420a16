package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// tree is the source of a module, parsed but not type-checked: a wall needs no
// more, and works on a package that does not build yet.
type tree struct {
	fset   *token.FileSet
	files  fs.FS
	module string
	pkgs   []*pkg // sorted by dir
}

// pkg is a folder of Go files with its test files.
type pkg struct {
	dir   string // relative to the module: "kv/memkv"
	name  string
	files []*file
}

// file is one Go file.
type file struct {
	name    string // relative to the module: "kv/memkv/db.go"
	test    bool
	ast     *ast.File
	imports map[string]string // local name → import path
}

// load parses every Go file of a module, but for testdata, modules within it and
// folders that the go command ignores too.
func load(files fs.FS) (*tree, error) {
	mod, err := fs.ReadFile(files, "go.mod")
	if err != nil {
		return nil, err
	}
	first, _, _ := bytes.Cut(mod, []byte("\n"))
	t := &tree{fset: token.NewFileSet(), files: files, module: strings.TrimSpace(strings.TrimPrefix(string(first), "module "))}
	byDir := map[string]*pkg{}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(files, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir // a module of its own, as the go command has it
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		source, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(t.fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := &file{name: name, test: strings.HasSuffix(base, "_test.go"), ast: parsed, imports: map[string]string{}}
		for _, spec := range parsed.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports[localName(spec, p)] = p
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir}
			t.pkgs = append(t.pkgs, byDir[dir])
		}
		p := byDir[dir]
		p.files = append(p.files, f)
		if !f.test {
			p.name = parsed.Name.Name
		}
		return nil
	})
	slices.SortFunc(t.pkgs, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return t, err
}

// localName is the name under which a file knows what it imports. Without a
// type check it is the last part of the path that is not a version.
func localName(spec *ast.ImportSpec, importPath string) string {
	if spec.Name != nil && spec.Name.Name != "_" && spec.Name.Name != "." {
		return spec.Name.Name
	}
	parts := strings.Split(importPath, "/")
	last := parts[len(parts)-1]
	if len(parts) > 1 && len(last) > 1 && last[0] == 'v' && strings.Trim(last[1:], "0123456789") == "" {
		last = parts[len(parts)-2]
	}
	if spec.Name != nil {
		return spec.Name.Name + last // blank and dot imports: only for uniqueness
	}
	return last
}

// inside returns the folder of an import of this module, or false.
func (t *tree) inside(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, t.module+"/")
}

// room is the top-level folder of a package; "internal" keeps two parts.
func room(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// forTests says whether a package serves tests only: a conformance suite or a
// fake (its name ends in "test"), or a folder of proofs.
func forTests(dir string) bool {
	return strings.HasSuffix(dir, "test") || layerOf[room(dir)] == proof
}

// at writes where something stands.
func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// code yields the non-test files of packages that are part of the product.
func (t *tree) code() func(yield func(*pkg, *file) bool) {
	return func(yield func(*pkg, *file) bool) {
		for _, p := range t.pkgs {
			for _, f := range p.files {
				if !f.test && !forTests(p.dir) && !yield(p, f) {
					return
				}
			}
		}
	}
}

// used returns "path.Name" for a selector on an imported package, or "".
func (f *file) used(n ast.Node) string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	p, ok := f.imports[x.Name]
	if !ok {
		return ""
	}
	return p + "." + sel.Sel.Name
}
