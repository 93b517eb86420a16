package collect

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/tidwall/gjson"

	"kith/event"
	"kith/fault"
	"kith/workspace"
)

// The limits of the Objects Bulk API (sheet connections_protocols §1.9; how many
// sessions may be open is Kith's own).
const (
	maxBulkObject  = 400 << 10 // bytes of one line
	maxBulkFile    = 512 << 20 // bytes of one upload, decompressed
	maxUploads     = 20        // of one source at a time; more are 429
	maxSessions    = 1000      // open at a time
	maxOfSource    = 50        // of them of one source
	sessionTimeout = 10 * time.Minute

	bulkBatch      = 1 << 20       // bytes of objects that are made durable together
	uploadBytes    = 3 * bulkBatch // what an upload holds, about
	maxFinishBytes = 64 << 10
)

// bulk holds the sessions of the Objects Bulk API. They live in memory: after a
// restart a sender begins a new one, and what it sends again changes nothing.
type bulk struct {
	mu       sync.Mutex
	sessions map[string]*session
	uploads  map[string]int // by source, going on
	all      int            // uploads that are going on
}

// session is a run of uploads of one source.
type session struct {
	source  string
	expires time.Time
}

// registerBulk adds the routes of the Objects Bulk API: POST of /v0/start,
// /v0/upload/{id}, /v0/finish/{id} and /v0/keep-alive/{id}.
func (c *Collector) registerBulk(mux *http.ServeMux) {
	for _, rt := range []struct {
		path string
		take func(*intake, *hold) bulkAnswer
	}{
		{"start", (*intake).bulkStart}, {"upload/{id}", (*intake).bulkUpload},
		{"finish/{id}", (*intake).bulkFinish}, {"keep-alive/{id}", (*intake).bulkKeepAlive},
	} {
		// Without a method in the pattern: the mux would look for every event
		// among those that have one first.
		mux.HandleFunc("/v0/"+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if !c.begin(w, r, "POST", "send objects with POST") {
				return
			}
			defer c.running.Done()
			c.answerBulk(w, c.takeBulk(r, rt.take))
		})
	}
}

// bulkAnswer is what a sender of files is told. Its body stands for a status
// below 300, the answer for all others.
type bulkAnswer struct {
	answer
	body any
}

func (c *Collector) answerBulk(w http.ResponseWriter, a bulkAnswer) {
	if a.status >= 300 {
		c.answer(w, a.answer)
		return
	}
	c.metrics.requests.WithLabelValues(strconv.Itoa(a.status)).Inc()
	body, err := json.Marshal(a.body)
	if err != nil {
		body = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a client that has gone learns nothing
}

// takeBulk finds out who sends and hands the request on.
func (c *Collector) takeBulk(r *http.Request, take func(*intake, *hold) bulkAnswer) bulkAnswer {
	held := &hold{c: c}
	defer held.release()
	in := c.intake()
	defer c.forget(in)
	in.route, in.request, in.now = route{form: formObjects}, r, c.config.Clock.Now()
	in.key, in.token = credentials(r)
	if in.from = c.config.Workspace.Current().SourceByWriteKey(in.key); in.from == nil {
		why := unknownKey(in.key)
		if in.key == "" {
			why = "no write key: send it as the user name of HTTP Basic" // there is no body to have it in, and no place for a token
		}
		in.refuseAll(refusal{code: CodeProjectNotFound, message: why})
		return bulkAnswer{answer: answer{status: http.StatusUnauthorized, code: CodeProjectNotFound, message: why}}
	}
	if !in.from.Enabled {
		return in.badBulk(CodeSourceDisabled, "the source is disabled: enable it, or remove its write key from the sender")
	}
	if in.from.Tracking.RequireToken {
		return bulkAnswer{answer: *in.denied(refusal{code: CodeTokenRequired, message: "the source takes what comes with an access token only, and files of objects come with the write key: send the objects to /v1/set"})}
	}
	return take(in, held)
}

// badBulk refuses a request for a fault of its sender.
func (in *intake) badBulk(code, message string) bulkAnswer {
	in.refuseAll(refusal{code: code, message: message})
	return bulkAnswer{answer: bad(code, message)}
}

// bulkStart begins a session: 201 with its id.
func (in *intake) bulkStart(*hold) bulkAnswer {
	id, err := in.bulkID()
	if err != nil {
		in.c.logger.Error("no randomness for a session", "error", err)
		return bulkAnswer{answer: unavailable("no session could be begun; try again")}
	}
	b := &in.c.bulk
	b.mu.Lock()
	defer b.mu.Unlock()
	ours := 0
	for id, s := range b.sessions {
		switch {
		case !s.expires.After(in.now):
			delete(b.sessions, id)
		case s.source == in.from.ID:
			ours++
		}
	}
	switch {
	case ours >= maxOfSource:
		return bulkAnswer{answer: busy(fmt.Sprintf("%d sessions of this source are open; finish some", ours))}
	case len(b.sessions) >= maxSessions:
		return bulkAnswer{answer: busy(fmt.Sprintf("%d sessions are open, of all sources; try again", len(b.sessions)))}
	}
	if b.sessions == nil {
		b.sessions = map[string]*session{}
	}
	b.sessions[id] = &session{in.from.ID, in.now.Add(sessionTimeout)}
	return created("sync_id", id)
}

func created(name, id string) bulkAnswer {
	return bulkAnswer{answer{status: http.StatusCreated}, map[string]string{name: id}}
}

func (in *intake) bulkID() (string, error) {
	var b [12]byte
	_, err := in.c.random.Read(b[:])
	return hex.EncodeToString(b[:]), err
}

// bulkSession keeps the session of a request alive and reports whether there is
// one; finish ends it.
func (in *intake) bulkSession(finish bool) bool {
	id := in.request.PathValue("id")
	b := &in.c.bulk
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[id]
	if s == nil || s.source != in.from.ID || !s.expires.After(in.now) {
		return false
	}
	s.expires = in.now.Add(sessionTimeout)
	if finish {
		delete(b.sessions, id)
	}
	return true
}

func (in *intake) noSession() bulkAnswer {
	return in.badBulk(CodeInvalidObject, "there is no such session of this source: it has ended, or nothing was heard of it for 10 minutes; POST /v0/start begins another")
}

// bulkKeepAlive answers 200.
func (in *intake) bulkKeepAlive(*hold) bulkAnswer {
	if !in.bulkSession(false) {
		return in.noSession()
	}
	return bulkAnswer{answer{status: http.StatusOK}, struct{}{}}
}

// bulkFinish ends a session: 202. What went wrong at the sender's is logged.
func (in *intake) bulkFinish(*hold) bulkAnswer {
	body, err := io.ReadAll(io.LimitReader(in.request.Body, maxFinishBytes))
	if err != nil {
		return bulkAnswer{answer: unavailable("the request could not be read; try again")}
	}
	if body = bytes.TrimSpace(body); len(body) > 0 {
		if _, err := event.CheckJSON(body); err != nil {
			return in.badBulk(CodeInvalidJSON, err.Error())
		}
		if failed := gjson.GetBytes(body, "error"); !blank(failed) {
			in.c.logger.Warn("a sender of objects ended its session with an error", "source", in.from.ID, "error", head(failed.String(), 1000))
		}
	}
	if !in.bulkSession(true) {
		return in.noSession()
	}
	return bulkAnswer{answer{status: http.StatusAccepted}, struct{}{}}
}

// bulkUpload takes a file of objects, one JSON object a line, compressed or
// not: 201 once all of them are durable. It is read in pieces, so that it takes
// no more memory than one. At the first line that is wrong the answer is 400,
// and says so; the objects before it are kept.
func (in *intake) bulkUpload(held *hold) bulkAnswer {
	if !in.bulkSession(false) {
		return in.noSession()
	}
	space := in.c.config.Workspace.Current().Space(in.from.SpaceID)
	if space == nil {
		in.c.logger.Error("a source feeds a space that does not exist", "source", in.from.ID, "space", in.from.SpaceID)
		return bulkAnswer{answer: unavailable("the source is not set up completely; try again")}
	}
	leave, ok := in.c.bulk.enter(in.from.ID, in.c.limits.uploads())
	if !ok {
		return bulkAnswer{answer: busy("too many uploads are going on; try again when one has ended")}
	}
	defer leave()
	kept, err := in.bulkLines(space, held)
	in.bulkNow()
	var u *unreadable
	switch {
	case errors.As(err, &u):
		message := fmt.Sprintf("%s; the %d objects before it are kept", u.message, kept)
		in.tell(in.rejection(), refusal{code: u.code, message: message}, 1, u.sample)
		a := bad(u.code, message)
		if u.code == CodeBodyTooLarge {
			a.status = http.StatusRequestEntityTooLarge
		}
		return bulkAnswer{answer: a}
	case fault.Is(err, fault.RetryAfter):
		return bulkAnswer{answer: busy("too much is being received; send the file again")}
	case errors.Is(err, errConnection):
		in.c.logger.Debug("a file of objects was not read", "source", in.from.ID, "kept", kept, "error", err)
		return bulkAnswer{answer: unavailable("the file could not be read completely; send it again")}
	case err != nil:
		in.c.logger.Error("objects could not be taken", "source", in.from.ID, "kept", kept, "error", err)
		return bulkAnswer{answer: unavailable("the file could not be taken completely; send it again")}
	case kept == 0:
		return in.badBulk(CodeInvalidObject, "the file has no objects: want one JSON object a line, with id, collection and properties")
	}
	id, err := in.bulkID()
	if err != nil {
		return bulkAnswer{answer: unavailable("the file could not be taken completely; send it again")}
	}
	return created("part_id", id)
}

// bulkNow is told how late it has become in the course of an upload. That goes
// on is a sign of life.
func (in *intake) bulkNow() {
	in.now = in.c.config.Clock.Now()
	in.stamp = event.FormatTime(in.now)
	in.bulkSession(false)
}

// uploads returns how many may go on at a time, of all sources: slow ones hold
// no more than a quarter of the memory that is there for all requests.
func (l *Limits) uploads() int { return max(1, l.InflightBytes/4/uploadBytes) }

// enter counts an upload of a source; leave ends it. Of all sources there may
// be most.
func (b *bulk) enter(source string, most int) (leave func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.uploads[source] >= maxUploads || b.all >= most {
		return nil, false
	}
	b.all++
	if b.uploads == nil {
		b.uploads = map[string]int{}
	}
	b.uploads[source]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.all--
		if b.uploads[source]--; b.uploads[source] == 0 {
			delete(b.uploads, source)
		}
	}, true
}

// bulkLines makes the objects of a file durable, a piece after the other, and
// returns how many are.
func (in *intake) bulkLines(space *workspace.Space, held *hold) (kept int, err error) {
	if !held.grow(uploadBytes) {
		return 0, &fault.Error{Kind: fault.RetryAfter, Message: "no room for a file"}
	}
	in.stamp = event.FormatTime(in.now)
	body := &watched{from: in.request.Body}
	file := &io.LimitedReader{R: unpacked(body), N: maxBulkFile + 1}
	text := &watched{from: file}
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, 64<<10), maxBulkObject)
	keep := func() error {
		if len(in.records) == 0 {
			return nil
		}
		if err := in.keep(space); err != nil {
			return err
		}
		kept += len(in.records)
		in.bulkNow()
		clear(in.records)
		in.records, in.out = in.records[:0], in.out[:0]
		return nil
	}
	n := 0
	for lines.Scan() && text.err == nil { // the last line of what has broken off is none
		n++
		if err := in.bulkLine(n, lines.Bytes()); err != nil {
			if failed := keep(); failed != nil {
				return kept, failed
			}
			return kept, err
		}
		if len(in.records) == event.MaxBlockRecords || len(in.out) > bulkBatch {
			if err := keep(); err != nil {
				return kept, err
			}
		}
	}
	if err := keep(); err != nil {
		return kept, err
	}
	switch err := lines.Err(); {
	case file.N == 0:
		return kept, &unreadable{CodeBodyTooLarge, fmt.Sprintf("the file is larger than %d bytes", maxBulkFile), ""}
	case errors.Is(err, bufio.ErrTooLong):
		return kept, &unreadable{CodeInvalidObject, fmt.Sprintf("line %d is longer than %d bytes", n+1, maxBulkObject), ""}
	case text.err != nil && body.err == nil:
		return kept, &unreadable{CodeInvalidGzip, fmt.Sprintf("the file is compressed with gzip and damaged behind line %d: %v", n, text.err), ""}
	case text.err != nil:
		return kept, fmt.Errorf("%w: %w", errConnection, text.err)
	default:
		return kept, err
	}
}

// bulkLine makes a record of a line.
func (in *intake) bulkLine(n int, line []byte) error {
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return nil
	}
	line = event.ValidUTF8(line)
	repeated, err := event.CheckJSON(line)
	if err != nil {
		return &unreadable{CodeInvalidJSON, fmt.Sprintf("line %d: %v", n, err), in.c.sample(line)}
	}
	if repeated {
		line = event.LastWins(line)
	}
	object := gjson.ParseBytes(line)
	collection := object.Get("collection")
	why := ""
	if object.IsObject() {
		if why = badCollection(collection); why != "" {
			why = ".collection " + why
		}
	}
	if why == "" {
		why = in.c.badObject(object)
	}
	if why != "" {
		return &unreadable{CodeInvalidObject, fmt.Sprintf("line %d: object%s", n, why), in.c.sample(line)}
	}
	return in.object(collection.Str, object)
}

// errConnection is what a sender's connection has come to, which is no fault of
// ours.
var errConnection = errors.New("read the file")

// watched notes the error that ended a reader: of the body, so that what is
// wrong with the connection is not taken for something wrong with the file.
type watched struct {
	from io.Reader
	err  error
}

// Read reads on.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// unpacked returns what is in a body, compressed with gzip or not.
func unpacked(body io.Reader) io.Reader {
	from := bufio.NewReader(body)
	if magic, err := from.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return from
	}
	z, err := gzip.NewReader(from)
	if err != nil {
		return &broken{err}
	}
	return z
}

// broken is a reader that has nothing but an error.
type broken struct{ err error }

// Read returns the error.
func (b *broken) Read([]byte) (int, error) { return 0, b.err }
