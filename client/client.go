package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kith/fault"
)

// maxResponse is the largest answer read into memory.
const maxResponse = 256 << 20

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base  string // without a slash at the end
	token string
	http  *http.Client
}

// New returns a client of the server at base ("http://127.0.0.1:8080"). The
// token is the admin token or one that the server made; the Tracking API needs
// none. A nil transport means a plain *http.Client without a time limit of its
// own: contexts bound every call.
func New(base, token string, transport *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fault.New(fault.Invalid, "server %q is not a URL: want something like http://127.0.0.1:8080", base)
	}
	if transport == nil {
		transport = &http.Client{}
	}
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: transport}, nil
}

// Base returns the server's URL, without a slash at the end.
func (c *Client) Base() string { return c.base }

// Call sends one request to the control API and reads its answer. path begins
// behind /api ("/sources"); in, unless nil, goes as JSON; out, unless nil, takes
// what stands in the answer's "data".
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	envelope := struct {
		Data json.RawMessage `json:"data"`
	}{}
	if err := c.do(ctx, method, "/api"+path, bearer(c.token), in, &envelope); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if envelope.Data == nil {
		return fault.New(fault.Internal, `%s %s: the answer has no "data"`, method, path)
	}
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// auth puts the caller's right into a request.
type auth func(*http.Request)

func bearer(token string) auth {
	return func(r *http.Request) {
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
}

func basic(user string) auth { return func(r *http.Request) { r.SetBasicAuth(user, "") } }

// do sends a request and reads a JSON answer into out, or any answer into a
// *[]byte. in is sent as JSON; a []byte is JSON already.
func (c *Client) do(ctx context.Context, method, path string, allow auth, in, out any) error {
	response, err := c.send(ctx, method, path, allow, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxResponse))
		return err
	}
	body, err := read(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = body
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

func read(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = fmt.Errorf("it is longer than %d MiB", maxResponse>>20)
	}
	return body, err
}

// send sends a request and returns a 2xx answer, whose body the caller closes.
func (c *Client) send(ctx context.Context, method, path string, allow auth, in any) (*http.Response, error) {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err)
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	allow(request)
	return c.roundTrip(ctx, request)
}

// roundTrip sends a request and returns a 2xx answer, whose body the caller
// closes.
func (c *Client) roundTrip(ctx context.Context, request *http.Request) (*http.Response, error) {
	response, err := c.http.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the URL, which may hold a token
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var unknown *tls.CertificateVerificationError
		if errors.As(err, &unknown) {
			return nil, fault.New(fault.Unavailable, "the certificate of %s is not trusted: name its authority with --ca or KITH_CA (%w)", c.base, err)
		}
		return nil, fault.New(fault.Unavailable, "no server answers at %s: start one with \"kith serve\", or name it with --server or KITH_URL (%w)", c.base, err)
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return nil, problem(response, text)
}

// problem turns an answer that is no success into an error of the kind its
// status stands for. It knows the control API's {"errors":[…]}, the Profile
// API's {"error":{…}} and the Tracking API's {"message":…}.
func problem(response *http.Response, text []byte) error {
	e := &fault.Error{Kind: kindOf(response.StatusCode)}
	envelope := struct {
		Errors []struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Field   string `json:"field"`
		} `json:"errors"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Message string `json:"message"`
	}{}
	_ = json.Unmarshal(text, &envelope) // what is not ours is said by the status alone
	switch {
	case len(envelope.Errors) > 0:
		var messages []string
		e.Field = envelope.Errors[0].Field
		for i, x := range envelope.Errors {
			if i > 0 && x.Field != "" {
				x.Message = x.Field + ": " + x.Message
			}
			messages = append(messages, x.Message)
		}
		e.Message = strings.Join(messages, "\n")
	case envelope.Error.Message != "":
		e.Message = envelope.Error.Message
	case envelope.Message != "":
		e.Message = envelope.Message
	case response.StatusCode == http.StatusBadRequest && strings.Contains(string(text), "HTTP request to an HTTPS server"):
		e.Message = "the server speaks https: name it with --server or KITH_URL, https://…"
	default:
		e.Message = fmt.Sprintf("the server answered %s to %s %s", response.Status, response.Request.Method, response.Request.URL.Path)
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && e.Kind == fault.RetryAfter {
		e.After = time.Duration(seconds) * time.Second
	}
	return e
}

func kindOf(status int) fault.Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Denied
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return fault.Conflict
	case http.StatusTooManyRequests:
		return fault.RetryAfter
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fault.Unavailable
	}
	if status >= 400 && status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}
