package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// checkNames refuses packages named after nothing.
func checkNames(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		switch path.Base(p.dir) {
		case "util", "utils", "common", "misc", "helper", "helpers", "shared", "base", "lib", "pkg", "types", "models", "interfaces":
			complaints = append(complaints, p.dir+": name a package after what it holds")
		}
	}
	return complaints
}

// checkDocs asks for a doc.go in every package and a comment on every exported
// name, methods of exported types and of interfaces among them.
func checkDocs(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		if p.name == "" {
			continue // test files only
		}
		documented := false
		for _, f := range p.files {
			if path.Base(f.name) == "doc.go" && f.ast.Doc != nil {
				documented = true
			}
		}
		if !documented {
			complaints = append(complaints, p.dir+": no doc.go with a package comment")
		}
		if p.name == "main" {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				for _, n := range undocumented(d) {
					complaints = append(complaints, fmt.Sprintf("%s: %s has no doc comment", t.at(n), n.Name))
				}
			}
		}
	}
	return complaints
}

// undocumented returns the exported names of a declaration that nobody has
// described. A comment on a group speaks for its consts and variables; that of
// an interface speaks for its only method, and for those that it names.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || receiver(d).IsExported()) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					names = append(names, s.Name)
				}
				if i, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() && i.Methods.NumFields() > 1 {
					about := d.Doc.Text() + s.Doc.Text()
					for _, m := range i.Methods.List {
						if len(m.Names) > 0 && m.Names[0].IsExported() && m.Doc == nil && m.Comment == nil && !mentions(about, m.Names[0].Name) {
							names = append(names, m.Names[0])
						}
					}
				}
			case *ast.ValueSpec:
				if s.Doc == nil && s.Comment == nil && d.Doc == nil {
					for _, n := range s.Names {
						if n.IsExported() {
							names = append(names, n)
						}
					}
				}
			}
		}
	}
	return names
}

// mentions reports whether a comment names something.
func mentions(comment, name string) bool {
	return slices.Contains(strings.FieldsFunc(comment, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), name)
}

// receiver returns the type that a method belongs to.
func receiver(d *ast.FuncDecl) *ast.Ident {
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x
		default:
			return ast.NewIdent("_")
		}
	}
}

// clockwork is the time and chance of the machine, which rooms are given
// instead of taking.
var clockwork = []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick", "time.Sleep"}

// timekeepers may use the machine's clock and chance: it is handed out there, or
// plays the part of another process.
var timekeepers = []string{"clock", "server", "cmd", "script", "demo"}

// checkClock keeps the machine's clock and chance where they are handed out.
func checkClock(t *tree) (complaints []string) {
	for p, f := range t.code() {
		if slices.Contains(timekeepers, room(p.dir)) {
			continue
		}
		for _, imported := range f.imports {
			switch imported {
			case "crypto/rand", "math/rand", "math/rand/v2":
				complaints = append(complaints, fmt.Sprintf("%s imports %s: randomness is passed in as an io.Reader", f.name, imported))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if used := f.used(n); slices.Contains(clockwork, used) {
				complaints = append(complaints, fmt.Sprintf("%s: %s: time is passed in as a clock.Clock", t.at(n), used))
			}
			return true
		})
	}
	return complaints
}

// checkSleep refuses tests that wait by the clock: they are slow when the
// machine is fast and fail when it is slow.
func checkSleep(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		for _, f := range p.files {
			if !f.test && !forTests(p.dir) || p.dir == "bench" {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if f.used(n) == "time.Sleep" {
					complaints = append(complaints, t.at(n)+": a test waits for a condition, not for time")
				}
				return true
			})
		}
	}
	return complaints
}

// makers are calls whose results are values that nobody changes.
var makers = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "regexp.MustCompilePOSIX",
	"sync.OnceValue", "sync.OnceValues", "sync.OnceFunc", "strings.NewReplacer", "bytes.Repeat", "time.Date", "time.Duration", "time.Unix", "time.UnixMilli",
	"net/netip.MustParsePrefix", "net/netip.MustParseAddr", "reflect.TypeOf", "reflect.TypeFor",
}

// stateless are variables that hold something dear to make that keeps nothing
// between calls and is safe for concurrent use.
var stateless = []string{"event.encoder", "event.decoder"}

// checkState refuses package-level state: whatever can change is passed in. A
// variable of a package is an error, a compiled pattern, an embedded file, a
// value made once, or an unexported table that no line of the package writes.
// Start-up code that runs on import is state by another door.
func checkState(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		if forTests(p.dir) {
			continue
		}
		written := writtenIn(p)
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					complaints = append(complaints, t.at(fn)+": no init functions: a registry is a value that somebody passes on")
				}
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					if embedded(g.Doc) || embedded(v.Doc) {
						continue
					}
					for i, n := range v.Names {
						if slices.Contains(stateless, p.dir+"."+n.Name) {
							continue
						}
						if why := mutable(t, f, v, i, written); why != "" {
							complaints = append(complaints, fmt.Sprintf("%s: %s %s", t.at(n), n.Name, why))
						}
					}
				}
			}
		}
	}
	return complaints
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// mutable says why a package's variable may change, or nothing.
func mutable(t *tree, f *file, v *ast.ValueSpec, i int, written map[string]bool) string {
	name := v.Names[i].Name
	if name == "_" {
		return ""
	}
	if written[name] {
		return "is written after it was set"
	}
	if len(v.Values) == 0 {
		return "has no value: package-level state"
	}
	if len(v.Values) != len(v.Names) {
		return "comes from a call with several results"
	}
	if why := changeable(t, f, v.Values[i]); why != "" {
		return why
	}
	if isError(name) {
		return ""
	}
	if ast.IsExported(name) {
		return "is exported and can be written from anywhere: make it a const or a function"
	}
	return ""
}

func isError(name string) bool {
	return strings.HasPrefix(name, "err") || strings.HasPrefix(name, "Err")
}

// changeable says why a variable's first value is something that can change.
func changeable(t *tree, f *file, e ast.Expr) (why string) {
	switch e := e.(type) {
	case *ast.CallExpr:
		called := e.Fun
		if x, ok := called.(*ast.IndexExpr); ok {
			called = x.X
		}
		if sel, ok := called.(*ast.SelectorExpr); ok {
			if made, ok := sel.X.(*ast.CallExpr); ok { // a method of what a call made
				return changeable(t, f, made)
			}
		}
		if id, ok := called.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
			return "begins empty and can only be meant to change"
		}
		used := f.used(called)
		if _, ours := t.inside(strings.TrimSuffix(used, path.Ext(used))); ours && strings.HasPrefix(used, t.module+"/fault.") {
			return ""
		}
		if _, conversion := called.(*ast.ArrayType); conversion || slices.Contains(makers, used) {
			return ""
		}
		if id, ok := called.(*ast.Ident); ok && isConversion(id) {
			return ""
		}
		return "is made by a call that archtest.makers does not know as harmless"
	case *ast.UnaryExpr:
		if e.Op == token.AND {
			return "is a pointer to something that can change"
		}
	case *ast.CompositeLit:
		ast.Inspect(e, func(n ast.Node) bool {
			if used := f.used(n); strings.HasPrefix(used, "sync.") || strings.HasPrefix(used, "sync/atomic.") {
				why = "holds " + used
			}
			return why == ""
		})
		return why
	}
	return ""
}

func isConversion(id *ast.Ident) bool {
	switch id.Name {
	case "string", "byte", "int", "int64", "uint64", "uint32", "float64", "len", "min", "max":
		return true
	}
	return false
}

// writtenIn returns the names of package-level variables that some line of the
// package may write: an assignment to them or to a part of them, ++, &, delete,
// clear. A local variable that hides one counts as one; it is better named.
func writtenIn(p *pkg) map[string]bool {
	written := map[string]bool{}
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			local := localsOf(fn)
			mark := func(e ast.Expr) {
				if id := root(e); id != nil && !local[id.Name] {
					written[id.Name] = true
				}
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					if n.Tok != token.DEFINE {
						for _, e := range n.Lhs {
							mark(e)
						}
					}
				case *ast.IncDecStmt:
					mark(n.X)
				case *ast.UnaryExpr:
					if _, literal := n.X.(*ast.CompositeLit); n.Op == token.AND && !literal {
						mark(n.X)
					}
				case *ast.CallExpr:
					if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
						mark(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return written
}

// localsOf returns the names a function declares: receiver, parameters,
// results, := and var, in its closures too.
func localsOf(fn *ast.FuncDecl) map[string]bool {
	local := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						local[id.Name] = true
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		}
		return true
	})
	return local
}

// root returns the variable that an expression is a part of.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// unfinished finds promises in comments.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b|(?i)not implemented yet`)

// checkUnfinished refuses promises: what is not there is an issue, not a
// comment.
func checkUnfinished(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		if p.dir == "internal/archtest" {
			continue // it has to name them
		}
		for _, f := range p.files {
			for _, g := range f.ast.Comments {
				if m := unfinished.FindString(g.Text()); m != "" {
					complaints = append(complaints, fmt.Sprintf("%s: %q: finish it or open an issue", t.at(g), m))
				}
			}
		}
	}
	return complaints
}

// checkOutput keeps the process's own mouth out of the rooms: loggers and
// streams are passed in, the environment is read at the gate.
func checkOutput(t *tree) (complaints []string) {
	for p, f := range t.code() {
		if room(p.dir) == "cmd" {
			continue
		}
		if _, ok := f.imports["log"]; ok && f.imports["log"] == "log" {
			complaints = append(complaints, f.name+" imports log: a *slog.Logger is passed in")
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch used := f.used(n); used {
			case "log/slog.Default", "log/slog.SetDefault", "log/slog.Info", "log/slog.Warn", "log/slog.Error", "log/slog.Debug",
				"fmt.Print", "fmt.Println", "fmt.Printf", "os.Exit", "os.Stdout", "os.Stderr", "os.Stdin", "os.Getenv", "os.LookupEnv", "os.Environ":
				complaints = append(complaints, fmt.Sprintf("%s: %s: streams, loggers and the environment are passed in from cmd", t.at(n), used))
			}
			return true
		})
	}
	return complaints
}
