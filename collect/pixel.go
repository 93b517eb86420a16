package collect

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/fault"
)

// pixelRoutes are the ways in of sheet connections_protocols §1.7, below
// /v1/pixel/. Images are fetched by devices.
func pixelRoutes() []route {
	var all []route
	for _, t := range []event.Type{event.Track, event.Identify, event.Page, event.Screen, event.Group, event.Alias} {
		all = append(all, route{name: "pixel/" + t.String(), single: t, device: true, form: formPixel})
	}
	return all
}

// registerPixel adds a route that answers every GET with an image: whoever
// fetches one can do nothing about an error, and a page with a broken image is
// worse than a lost event. What was wrong becomes a Rejection. HEAD, with which
// mail scanners and proxies look before somebody does, answers alike and sends
// no event.
func (c *Collector) registerPixel(mux *http.ServeMux, rt route) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowOrigin(w.Header(), r)
		switch r.Method {
		case http.MethodGet:
			if c.enter() {
				defer c.running.Done()
				c.take(r, rt)
			} else {
				c.reject(Rejection{At: c.config.Clock.Now(), Type: rt.single.String()}, refusal{code: CodeUnavailable, message: "the server is shutting down (a pixel is not sent again)"}, 1, "")
			}
		case http.MethodHead:
		case http.MethodOptions:
			preflight(w, r)
			return
		default:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			c.answer(w, answer{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "a pixel is fetched with GET; send events to /v1/" + rt.single.String() + " with POST"})
			return
		}
		c.metrics.requests.WithLabelValues(strconv.Itoa(http.StatusOK)).Inc()
		header := w.Header()
		header.Set("Content-Type", "image/gif")
		header.Set("Content-Length", strconv.Itoa(len(pixel)))
		header.Set("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
		header.Set("Pragma", "no-cache")
		header.Set("Expires", "0")
		_, _ = w.Write([]byte(pixel)) // whoever has gone sees no image
	})
	mux.Handle("/v1/"+rt.name, h)
	mux.Handle("/v1/"+rt.name+"/{$}", h)
}

// pixel is a GIF of one transparent point: header, screen of 1×1 with two
// colours, the first of them transparent, one image, one code for its only
// point (GIF89a specification).
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" +
	"!\xf9\x04\x01\x00\x00\x00\x00" +
	",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

// readPixel returns the event in a request's query as JSON text that
// event.CheckJSON has passed: what data holds in base64, or else a member for
// each parameter, dots in its name leading into objects. Its errors are
// *unreadable and fault.RetryAfter when there is no room.
func (c *Collector) readPixel(r *http.Request, held *hold) (string, error) {
	query := r.URL.RawQuery
	if limit := 4 * c.limits.EventBytes; len(query) > limit {
		return "", &unreadable{CodeEventTooLarge, fmt.Sprintf("the query has %d bytes, the most is %d", len(query), limit), ""}
	}
	if !held.grow(fieldBytes * len(query)) {
		return "", &fault.Error{Kind: fault.RetryAfter, Message: "no room for the query"}
	}
	fields, err := readQuery(query)
	if err != nil {
		return "", &unreadable{CodeInvalidQuery, err.Error(), query}
	}
	var body []byte
	if data := fields.child("data"); data != nil && data.text != "" {
		body, err = readData(data.text)
	} else {
		body = fields.write(nil, "")
	}
	if err != nil {
		return "", &unreadable{CodeInvalidQuery, err.Error(), query}
	}
	body = event.ValidUTF8(body)
	repeated, err := event.CheckJSON(body)
	if err != nil {
		return "", &unreadable{CodeInvalidJSON, "data: " + err.Error(), c.sample(body)}
	}
	if repeated {
		body = event.LastWins(body)
	}
	return string(body), nil
}

// readData decodes base64 of either alphabet, with or without padding. A plus
// sign that nobody escaped has become a space on its way.
func readData(data string) ([]byte, error) {
	if strings.HasPrefix(data, "{") {
		return []byte(data), nil // somebody has sent the text itself
	}
	data = strings.NewReplacer("-", "+", "_", "/", " ", "+", "\n", "", "\r", "").Replace(data)
	body, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(data, "="))
	if err != nil {
		return nil, fmt.Errorf("data is no base64: %w", err)
	}
	return body, nil
}

// fieldBytes is what a byte of a query can take in memory: half a field, and
// its place in two lists.
const fieldBytes = 64

// field is a parameter of a query or an object of them.
type field struct {
	name  string
	text  string
	under []*field          // in the order in which they came
	named map[string]*field // once there are many
}

// readQuery takes a query apart. Of two parameters of one name the last counts,
// as it does in JSON.
func readQuery(query string) (*field, error) {
	root := &field{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, fmt.Errorf("the name of a parameter cannot be read: %w", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, fmt.Errorf("the parameter %.100q cannot be read: %w", name, err)
		}
		f := root
		if strings.Count(name, ".") >= event.MaxDepth {
			return nil, fmt.Errorf("the parameter %.100q has more than %d dots", name, event.MaxDepth-1)
		}
		for step := range strings.SplitSeq(name, ".") {
			f = f.enter(step)
		}
		f.text, f.under, f.named = value, nil, nil
	}
	return root, nil
}

func (f *field) child(name string) *field {
	if f.named != nil {
		return f.named[name]
	}
	for _, g := range f.under {
		if g.name == name {
			return g
		}
	}
	return nil
}

// enter returns the field of that name below f, which is an object from here on.
func (f *field) enter(name string) *field {
	g := f.child(name)
	if g == nil {
		g = &field{name: name}
		f.under, f.text = append(f.under, g), ""
		if f.named == nil && len(f.under) > 16 {
			f.named = make(map[string]*field, 2*len(f.under))
			for _, h := range f.under {
				f.named[h.name] = h
			}
		} else if f.named != nil {
			f.named[name] = g
		}
	}
	return g
}

// write appends f's JSON. Values are text, as they are in a query; only where
// nothing but a truth value has a meaning "true" and "false" become one:
// integrations, and the categories of a consent.
func (f *field) write(out []byte, path string) []byte {
	if f.under == nil && path != "" {
		if f.text == "true" || f.text == "false" {
			if strings.HasPrefix(path, "integrations.") || strings.HasPrefix(path, "context.consent.categoryPreferences.") {
				return append(out, f.text...)
			}
		}
		return gjson.AppendJSONString(out, f.text)
	}
	out = append(out, '{')
	for i, g := range f.under {
		if i > 0 {
			out = append(out, ',')
		}
		at := path + g.name + "."
		if g.under == nil {
			at = path + g.name
		}
		out = append(gjson.AppendJSONString(out, g.name), ':')
		out = g.write(out, at)
	}
	return append(out, '}')
}
