package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kith/fault"
)

// answering returns a client of a server that answers every request alike, and
// where the last request is noted as "METHOD URI auth body".
func answering(t *testing.T, status int, header map[string]string, body string) (*Client, *string) {
	t.Helper()
	last := new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		*last = fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), in)
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	c, err := New(server.URL+"/", "secret", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c, last
}

func TestCallReadsData(t *testing.T) {
	c, last := answering(t, 200, nil, `{"data":{"source":{"id":"s1"}}}`)
	var out struct {
		Source struct {
			ID string `json:"id"`
		} `json:"source"`
	}
	if err := c.Call(t.Context(), "POST", "/sources", map[string]string{"slug": "web"}, &out); err != nil || out.Source.ID != "s1" {
		t.Errorf("got %+v, %v", out, err)
	}
	if want := `POST /api/sources Bearer secret {"slug":"web"}`; *last != want {
		t.Errorf("sent %s\nwant %s", *last, want)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		kind   fault.Kind
		want   string
	}{
		{400, `{"errors":[{"type":"bad-request","message":"is not a URL","field":"settings.url"}]}`, fault.Invalid, "settings.url: is not a URL"},
		{422, `{"errors":[{"message":"one"},{"message":"two","field":"b"}]}`, fault.Invalid, "one\nb: two"},
		{401, `{"error":{"code":"authentication_error","message":"The token is not known."}}`, fault.Denied, "The token is not known."},
		{404, `gone`, fault.NotFound, "the server answered 404 Not Found to GET /api/x"},
		{409, `{"errors":[{"message":"exists"}]}`, fault.Conflict, "exists"},
		{429, `{"message":"slow down"}`, fault.RetryAfter, "slow down"},
		{503, ``, fault.Unavailable, "the server answered 503 Service Unavailable to GET /api/x"},
		{500, `{"errors":[{"message":"internal"}]}`, fault.Internal, "internal"},
	} {
		c, _ := answering(t, test.status, map[string]string{"Retry-After": "3"}, test.body)
		err := c.Call(t.Context(), "GET", "/x", nil, nil)
		if fault.KindOf(err) != test.kind || err.Error() != test.want {
			t.Errorf("%d: %v (%v), want %s (%v)", test.status, err, fault.KindOf(err), test.want, test.kind)
		}
		var e *fault.Error
		if errors.As(err, &e) && test.status == 429 && e.After != 3*time.Second {
			t.Errorf("wait %v, want 3s", e.After)
		}
	}
}

func TestUnreachableServerSaysWhatToDo(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	c, err := New(server.URL, "secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Call(t.Context(), "GET", "/", nil, nil)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "kith serve") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	if _, err := New("127.0.0.1:8080", "", nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a server that is no URL gives %v", err)
	}
}

func TestProfileReadsEscapeWhatPeopleSend(t *testing.T) {
	c, last := answering(t, 200, nil, `{"traits":{"email":"a@b.c"},"cursor":{"has_more":true,"next":"n"}}`)
	traits, cursor, err := c.Traits(t.Context(), Profile{Space: "default", ID: "email:a+b/c@example.com"}, Page{Limit: 5, Next: "x y"})
	if err != nil || string(traits["email"]) != `"a@b.c"` || !cursor.HasMore {
		t.Errorf("got %v %v %v", traits, cursor, err)
	}
	if want := "GET /v1/spaces/default/collections/users/profiles/email:a+b%2Fc@example.com/traits?limit=5&next=x+y Basic c2VjcmV0Og== "; *last != want {
		t.Errorf("sent %q\nwant %q", *last, want)
	}
}

func TestStream(t *testing.T) {
	const text = ": hello\n\ndata: one\nid: 7\n\nevent: dropped\r\ndata: two\r\ndata:three\r\n\r\ndata: cut off"
	c, last := answering(t, 200, nil, text)
	var got []string
	err := c.Stream(t.Context(), "/live?stage=sent", func(m Message) error {
		got = append(got, fmt.Sprintf("%s/%s/%s", m.Event, m.ID, m.Data))
		return nil
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("a closed stream gives %v", err)
	}
	if fmt.Sprintf("%q", got) != `["/7/one" "dropped//two\nthree"]` {
		t.Errorf("got %q", got)
	}
	if !strings.HasPrefix(*last, "GET /api/live?stage=sent Bearer secret") {
		t.Errorf("asked %s", *last)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = c.Stream(ctx, "/live", func(Message) error { cancel(); return ctx.Err() })
	if err != nil {
		t.Errorf("an ended context gives %v", err)
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add([]byte("data: x\n\n"))
	f.Add([]byte("event\ndata\n\r\n:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readStream(strings.NewReader(string(b)), func(m Message) error {
			if len(m.Data) > len(b) {
				t.Error("more data than there was")
			}
			return nil
		})
	})
}
