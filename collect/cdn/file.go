package cdn

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// How long caches may keep a file without asking again. What changes with the
// workspace or with a new version of Kith is asked for often; a chunk has a hash
// of its content in its name.
const (
	keepShortly = "public, max-age=60"
	keepAWhile  = "public, max-age=300"
	keepForever = "public, max-age=31536000, immutable"
)

// The content types of the files.
const (
	typeJSON   = "application/json; charset=utf-8"
	typeScript = "text/javascript; charset=utf-8" // RFC 9239
	typeText   = "text/plain; charset=utf-8"
)

// file is something to answer with.
type file struct {
	contentType string
	keep        string // Cache-Control
	plain       []byte
	zipped      []byte // gzip; nil where it is not worth it
	tag         string // strong, without quotes; that of zipped has "-gzip" behind it
	onlyZipped  bool   // asked for by a name that ends in .gz
}

// newFile returns a file of the content. zipped may be nil.
func newFile(contentType, keep string, plain, zipped []byte) *file {
	sum := sha256.Sum256(plain)
	return &file{contentType: contentType, keep: keep, plain: plain, zipped: zipped, tag: hex.EncodeToString(sum[:12])}
}

// asGzip returns the file as its name with .gz means it: packed, whatever the
// client says it understands.
func (f *file) asGzip() *file {
	g := *f
	g.onlyZipped = true
	if g.zipped == nil {
		g.zipped = pack(f.plain)
	}
	return &g
}

func (f *file) size() int { return len(f.plain) + len(f.zipped) }

// write answers a GET or HEAD with the file, or with 304 to a client that says
// which version it has. The SDKs never do so themselves: they ask for a status
// of 200. Only HTTP caches below them do, which hand them the 200 they kept.
func (f *file) write(w http.ResponseWriter, r *http.Request) (status int) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", f.keep)
	h.Set("X-Content-Type-Options", "nosniff")
	body, tag := f.plain, `"`+f.tag+`"`
	if !f.onlyZipped && f.zipped != nil {
		h.Add("Vary", "Accept-Encoding")
	}
	if f.onlyZipped || f.zipped != nil && takesGzip(r) {
		body, tag = f.zipped, `"`+f.tag+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if known(r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that has gone has gone
	return http.StatusOK
}

// takesGzip reports whether a client understands gzip (RFC 9110 §12.5.3).
func takesGzip(r *http.Request) bool {
	for _, one := range strings.Split(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, params, _ := strings.Cut(one, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			name, value, _ := strings.Cut(strings.TrimSpace(params), "=")
			quality, err := strconv.ParseFloat(value, 64)
			return !strings.EqualFold(name, "q") || err != nil || quality > 0
		}
	}
	return false
}

// known reports whether a tag is among those of If-None-Match (RFC 9110
// §13.1.2, where tags are compared weakly).
func known(headers []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(headers, ","), ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// pack compresses with gzip.
func pack(plain []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(plain) // into memory: cannot fail
	_ = z.Close()
	return b.Bytes()
}

// cache keeps files by a key, up to a number of bytes. When there is no more
// room it is emptied: what is asked for often comes back at once, and names that
// somebody makes up cannot fill it.
type cache struct {
	limit   int
	emptied prometheus.Counter

	mu      sync.RWMutex
	version uint64
	held    int
	files   map[string]*file
}

func newCache(limit int, emptied prometheus.Counter) *cache {
	return &cache{limit: limit, emptied: emptied, files: map[string]*file{}}
}

// get returns the file that was kept for a key at a version, or nil.
func (c *cache) get(version uint64, key string) *file {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.version != version {
		return nil
	}
	return c.files[key]
}

// put keeps a file. Those of older versions are forgotten; one of an older
// version is not kept.
func (c *cache) put(version uint64, key string, f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version < c.version || f.size() > c.limit {
		return
	}
	if version > c.version {
		c.version, c.held = version, 0
		clear(c.files)
	}
	if _, there := c.files[key]; there {
		return
	}
	if c.held+f.size() > c.limit {
		c.held = 0
		clear(c.files)
		c.emptied.Inc()
	}
	c.files[key] = f
	c.held += f.size()
}
