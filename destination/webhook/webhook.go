package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kith/clock"
	"kith/destination"
	"kith/fault"
)

// webhook sends to one URL.
type webhook struct {
	client   *http.Client
	clock    clock.Clock
	url      string
	header   http.Header
	secret   []byte
	gather   bool
	batching destination.Batching
	mask     *strings.Replacer
}

func open(raw json.RawMessage, env destination.Env) (destination.Destination, error) {
	if err := destination.CheckSettings(spec().Settings, raw, nil); err != nil {
		return nil, err
	}
	if err := check(raw); err != nil {
		return nil, err
	}
	s, err := parse(raw)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fault.Field("url", "a URL like https://example.com/path is expected")
	}
	w := &webhook{
		client: env.HTTP, clock: env.Clock, url: s.URL, header: s.header(), secret: []byte(s.SharedSecret),
		batching: destination.Batching{Size: 1}, mask: newMask(&s, u),
	}
	if s.Batch != nil {
		w.gather, w.batching = true, s.Batch.batching()
	}
	return w, nil
}

// Batching returns what the settings say.
func (w *webhook) Batching() destination.Batching { return w.batching }

// Close does nothing: the connections belong to the client that was handed in.
func (w *webhook) Close() error { return nil }

// Send sends the batch in one request.
func (w *webhook) Send(ctx context.Context, items []destination.Item) []destination.Outcome {
	return destination.All(len(items), w.post(ctx, items))
}

func (w *webhook) post(ctx context.Context, items []destination.Item) destination.Outcome {
	body := items[0].Body
	if w.gather {
		body = array(items)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return destination.Outcome{Status: destination.Permanent, Regardless: true, Code: destination.CodeInvalidSettings, Reason: "the request cannot be made of these settings"}
	}
	req.Header = w.header.Clone()
	if len(w.secret) > 0 {
		mac := hmac.New(sha1.New, w.secret)
		mac.Write(body)
		req.Header.Set(SignatureHeader, hex.EncodeToString(mac.Sum(nil)))
	}
	if items[0].Resent {
		req.Header.Set(ResentHeader, "true")
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return w.failed(ctx, err)
	}
	defer resp.Body.Close()
	return w.answered(resp)
}

// array writes the bodies as a JSON array.
func array(items []destination.Item) []byte {
	size := 2
	for _, item := range items {
		size += len(item.Body) + 1
	}
	body := append(make([]byte, 0, size), '[')
	for i, item := range items {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, item.Body...)
	}
	return append(body, ']')
}

// What is read of a response: enough to say what is wrong, also when a secret
// that is masked stands at the cut, and what is left of a short one so that its
// connection can be used again.
const (
	maxExcerpt = 400
	maxSaid    = 16 << 10
	maxDrain   = 64 << 10
)

func (w *webhook) answered(resp *http.Response) destination.Outcome {
	code := resp.StatusCode
	if code >= 200 && code < 300 {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		return destination.Outcome{Status: destination.Delivered}
	}
	reason := fmt.Sprintf("the server answered %d %s", code, http.StatusText(code))
	if said := w.excerpt(resp.Body); said != "" {
		reason += ": " + said
	}
	switch {
	case code >= 300 && code < 400:
		reason = fmt.Sprintf("the server answered %d %s; of redirects only 307 and 308 are followed, and not from https to http", code, http.StatusText(code))
	case code == http.StatusRequestTimeout, code == http.StatusLocked, code == http.StatusTooManyRequests,
		code >= 500 && code != http.StatusNotImplemented:
		return destination.Outcome{Status: destination.Retry, Reason: reason, Code: strconv.Itoa(code), After: w.retryAfter(resp.Header.Get("Retry-After"))}
	}
	return destination.Outcome{Status: destination.Permanent, Reason: reason, Code: strconv.Itoa(code), Regardless: !aboutEvents(code)}
}

// aboutEvents reports whether a refusal may be because of what was sent, and
// not because of where and by whom.
func aboutEvents(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// excerpt returns the beginning of what the server said, on one line and
// without secrets.
func (w *webhook) excerpt(body io.Reader) string {
	said, _ := io.ReadAll(io.LimitReader(body, maxSaid)) // what came before an error says enough
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	text := w.mask.Replace(strings.ToValidUTF8(string(said), ""))
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "\x00", "")), " ")
	if len(text) > maxExcerpt {
		text = strings.ToValidUTF8(text[:maxExcerpt], "") + "…"
	}
	return text
}

// failed judges a request that got no answer.
func (w *webhook) failed(ctx context.Context, err error) destination.Outcome {
	var whole *url.Error
	if errors.As(err, &whole) { // its text repeats the URL
		err = whole.Err
	}
	o := destination.Outcome{Status: destination.Retry, Reason: w.mask.Replace(err.Error()), Code: codeOf(err)}
	switch {
	case fault.Is(err, fault.Denied), fault.Is(err, fault.Permanent):
		o.Status, o.Code, o.Regardless = destination.Permanent, destination.CodeInvalidSettings, true
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		o.Reason, o.Code = "the server did not answer in time", destination.CodeTimedOut
	case ctx.Err() != nil:
		o.Reason = "interrupted"
	}
	return o
}

// codeOf names the kind of an error of the network.
func codeOf(err error) string {
	var unknown *net.DNSError
	var slow net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return destination.CodeRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return destination.CodeReset
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return destination.CodeNotFound
	case errors.As(err, &slow) && slow.Timeout():
		return destination.CodeTimedOut
	}
	return destination.CodeInternal
}

// retryAfter reads the header: seconds or a date (RFC 9110, 10.2.3). What
// cannot be read or lies behind is zero.
func (w *webhook) retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(w.clock.Now()))
}
