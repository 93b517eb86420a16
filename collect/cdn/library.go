package cdn

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

// embedded is web/dist: what "make build" has copied out of the npm packages,
// and nothing but a README without it.
//
//go:embed all:web/dist
var embedded embed.FS

// The files of web/dist that are not chunks.
const (
	fileLibrary  = "standalone.js"
	filePolyfill = "polyfill.min.js" // for browsers of 2016 and before
	fileLicense  = "LICENSE"
)

// library is analytics.js.
type library struct {
	source string           // of standalone.js; empty when the binary was built without it
	files  map[string]*file // chunks, the polyfill and the licence, by name

	packing sync.Mutex // held while a script is compressed
}

// openLibrary reads analytics.js from the folder web/dist.
func openLibrary(from fs.FS) (*library, error) {
	l := &library{files: map[string]*file{}}
	dist, err := fs.Sub(from, "web/dist")
	if err != nil {
		return nil, err
	}
	source, err := fs.ReadFile(dist, fileLibrary)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, nil
	case err != nil:
		return nil, err
	}
	l.source = withoutMap(string(source))
	names, err := fs.ReadDir(dist, ".")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		name := n.Name()
		contentType, keep := typeScript, keepForever
		switch {
		case name == fileLicense:
			contentType, keep = typeText, keepAWhile
		case name == filePolyfill:
			keep = keepAWhile
		case !strings.Contains(name, ".bundle.") || path.Ext(name) != ".js":
			continue
		}
		plain, err := fs.ReadFile(dist, name)
		if err != nil {
			return nil, err
		}
		zipped, err := fs.ReadFile(dist, name+".gz")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		l.files[name] = newFile(contentType, keep, plain, zipped)
	}
	return l, nil
}

// withoutMap takes away the last line of a script, which names a source map:
// after the hosts are set its columns are wrong.
func withoutMap(source string) string {
	if i := strings.LastIndex(source, "\n//# sourceMappingURL="); i >= 0 {
		return source[:i+1]
	}
	return source
}

// What stands in analytics.js for a write key and for the hosts.
const (
	literalKey      = `"__WRITE_KEY__"`
	literalCDN      = `https://cdn.segment.com`
	literalAPI      = `"api.segment.io/v1"`
	literalPolyfill = `https://cdnjs.cloudflare.com/ajax/libs/babel-polyfill/7.7.0/polyfill.min.js`
)

// render returns analytics.js for a write key and the server at base, with an
// https or http in front.
func (l *library) render(key, base string) ([]byte, error) {
	quoted, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	_, host, _ := strings.Cut(base, "://")
	api, err := json.Marshal(host + "/v1")
	if err != nil {
		return nil, err
	}
	set := strings.NewReplacer(
		literalKey, string(quoted),
		literalPolyfill, base+"/analytics-next/"+filePolyfill,
		literalCDN, base,
		literalAPI, string(api),
	)
	return []byte("/*! @segment/analytics-next, MIT: " + base + "/analytics-next/" + fileLicense + " ; its hosts are set to this server */\n" + set.Replace(l.source)), nil
}

// notBuilt is the answer of a binary without analytics.js.
func notBuilt() *refusal {
	return &refusal{http.StatusServiceUnavailable, "this server was built without analytics.js: build it with \"make build\", which needs Node and npm"}
}

// script finds analytics.js for a request's write key.
func (c *CDN) script(r *http.Request) (*file, *refusal) {
	name, zipped := strings.CutSuffix(r.PathValue("file"), ".gz")
	switch name {
	case "analytics.min.js", "analytics.js", "analytics.classic.js":
	default:
		return nil, &refusal{http.StatusNotFound, "there is no such script here: want analytics.min.js"}
	}
	if c.library.source == "" {
		return nil, notBuilt()
	}
	_, _, key, no := c.sourceOf(r)
	if no != nil {
		return nil, no
	}
	base := c.Base(r)
	if base == "" {
		return nil, noHost()
	}
	at := key + " " + base
	f := c.scripts.get(0, at)
	if f == nil {
		text, err := c.library.render(key, base)
		if err != nil { // texts always marshal
			c.logger.Error("analytics.js cannot be written", "error", err)
			return nil, &refusal{http.StatusInternalServerError, "the script cannot be written; the server's log says why"}
		}
		f = newFile(typeScript, c.shared(keepAWhile), text, nil)
		// One at a time: who comes while another is being compressed gets it as
		// it is, and does not wait.
		if c.library.packing.TryLock() {
			f.zipped = pack(text)
			c.library.packing.Unlock()
			c.scripts.put(0, at, f)
		}
	}
	if zipped {
		f = f.asGzip()
	}
	return f, nil
}

// chunk finds a part of analytics.js that it loads when it needs it.
func (c *CDN) chunk(r *http.Request) (*file, *refusal) {
	if c.library.source == "" {
		return nil, notBuilt()
	}
	name, zipped := strings.CutSuffix(r.PathValue("file"), ".gz")
	f := c.library.files[name]
	if f == nil || strings.HasPrefix(r.URL.Path, "/analytics-next/bundles/") != strings.Contains(name, ".bundle.") {
		return nil, &refusal{http.StatusNotFound, "there is no such part of analytics.js here: reload the page, it has the parts of another version"}
	}
	if zipped {
		f = f.asGzip()
	}
	return f, nil
}
