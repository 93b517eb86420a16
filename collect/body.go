package collect

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"kith/event"
	"kith/fault"
)

// unreadable is a body that no server could read: the client's fault, 400.
type unreadable struct {
	code, message string
	sample        string // what there is of it, or its beginning
}

func (u *unreadable) Error() string { return u.message }

// firstBytes is how much memory a body gets before any of it has come: what it
// says of its length is only counted as it does come.
const firstBytes = 64 << 10

// maxPooled is the largest buffer that is kept for the next request.
const maxPooled = 1 << 20

// read returns the text of a request's body: decompressed, UTF-8, one JSON
// value no deeper than event.MaxDepth in which no key is repeated. Its errors
// are *unreadable, fault.RetryAfter when there is no room, and those of the
// connection.
//
// Whether a body is compressed is seen in the body itself: JSON never begins
// like a gzip file, and proxies are known to decompress and leave the header.
// Bytes that are not UTF-8 become U+FFFD, as in browsers and in Go.
func (c *Collector) read(r *http.Request, held *hold) (string, error) {
	limit := c.limits.BodyBytes
	if r.ContentLength > int64(limit) {
		return "", c.tooLarge(r)
	}
	buf := c.buffer()
	defer c.recycle(buf)
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, firstBytes)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(&counted{io.LimitReader(r.Body, int64(limit)+1), held}); err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	if buf.Len() > limit {
		return "", c.tooLarge(r)
	}
	body := buf.Bytes()
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		unzipped := c.buffer()
		defer c.recycle(unzipped)
		if err := c.unzip(unzipped, body, held); err != nil {
			return "", err
		}
		body = unzipped.Bytes()
	}

	body = event.ValidUTF8(bytes.TrimPrefix(body, []byte("\ufeff")))
	repeated, err := event.CheckJSON(body)
	if err != nil {
		message := err.Error()
		if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
			message += fmt.Sprintf("; its Content-Encoding is %.40q, only gzip is understood", encoding)
		}
		return "", &unreadable{CodeInvalidJSON, message, c.sample(body)}
	}
	if repeated {
		body = event.LastWins(body)
	}
	return string(body), nil
}

func (c *Collector) unzip(to *bytes.Buffer, body []byte, held *hold) error {
	z, _ := c.unzips.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer c.unzips.Put(z)
	err := z.Reset(bytes.NewReader(body))
	if err == nil {
		_, err = to.ReadFrom(&counted{io.LimitReader(z, int64(c.limits.BodyBytes)+1), held})
	}
	switch {
	case fault.Is(err, fault.RetryAfter):
		return err
	case err != nil:
		return &unreadable{CodeInvalidGzip, "the body is compressed with gzip and damaged: " + err.Error(), ""}
	case to.Len() > c.limits.BodyBytes:
		return &unreadable{CodeBodyTooLarge, c.largest(), c.sample(to.Bytes())}
	}
	return nil
}

// tooLarge reads on for a while, so that a client that is still writing gets
// to see the answer instead of a broken connection, which it would take for a
// reason to try again. A client that waits for a go-ahead sees it at once.
func (c *Collector) tooLarge(r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		_, _ = io.CopyN(io.Discard, r.Body, 8*int64(c.limits.BodyBytes))
	}
	return &unreadable{CodeBodyTooLarge, c.largest(), ""}
}

func (c *Collector) largest() string {
	return fmt.Sprintf("the body is larger than %d bytes: send smaller batches", c.limits.BodyBytes)
}

func (c *Collector) sample(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), c.limits.SampleBytes+1)]), "\uFFFD")
}

func (c *Collector) buffer() *bytes.Buffer {
	if b, _ := c.bodies.Get().(*bytes.Buffer); b != nil {
		return b
	}
	return new(bytes.Buffer)
}

func (c *Collector) recycle(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		b.Reset()
		c.bodies.Put(b)
	}
}

// counted counts what it reads against the memory of the Collector.
type counted struct {
	r    io.Reader
	held *hold
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if !c.held.grow(n) {
		return n, &fault.Error{Kind: fault.RetryAfter, Message: "no room for the body"}
	}
	return n, err
}
