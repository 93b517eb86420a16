package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/tools/txtar"
)

// composed is a request as an SDK makes it that cannot be run here, written down
// from the SDK's own source: a file of sdk/composed. Its parts:
//
//	(before the first part) what is particular about it, and the repository,
//	         commit and files that it follows
//	expect   what arrives of it: "library NAME", "calls TYPE…", and, where that
//	         is not as sdkCalls has it, "differs TYPE PATH=VALUE" and
//	         "has TYPE PATH=VALUE"
//	request  method and path, and the headers
//	body     of the request; compressed and chunked as the headers say
//	settings method, path and headers with which the SDK asks for its settings,
//	         if it does
//	model    what the SDK reads of them: "PATH KIND", where the kind is object,
//	         array, string, or absent; with "?" it may be absent, but not null
//
// Request, body and settings are templates: .Key, .Basic, .Person, id (a new
// one each time), now LAYOUT, ago LAYOUT (an hour ago).
type composed struct {
	sdk
	has                            []string
	request, body, settings, model string
}

func readComposed(t *testing.T, file, slug string) composed {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if about := string(archive.Comment); !strings.Contains(about, "Followed from source, not tried: segmentio/") {
		t.Errorf("%s does not say what it follows", file)
	}
	c := composed{sdk: sdk{name: slug, differs: map[string]string{}}}
	into := map[string]*string{"request": &c.request, "body": &c.body, "settings": &c.settings, "model": &c.model}
	for _, part := range archive.Files {
		text := strings.TrimSuffix(string(part.Data), "\n")
		if part.Name == "expect" {
			for line := range strings.Lines(text) {
				c.expect(t, strings.TrimSpace(line))
			}
			continue
		}
		if into[part.Name] == nil {
			t.Fatalf("%s has a part %q", file, part.Name)
		}
		*into[part.Name] = c.filled(t, text)
	}
	if c.library == "" || len(c.calls) == 0 || c.request == "" || c.body == "" || (c.settings == "") != (c.model == "") {
		t.Fatalf("%s is not complete", file)
	}
	return c
}

func (c *composed) expect(t *testing.T, line string) {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "library":
		c.library = rest
	case "calls":
		c.calls = strings.Fields(rest)
	case "differs":
		path, value, _ := strings.Cut(rest, "=")
		if _, known := sdkCalls()[path]; !known {
			t.Fatalf("%s: %s is no field that could differ", c.name, path)
		}
		c.differs[path] = value
	case "has":
		c.has = append(c.has, rest)
	default:
		t.Fatalf("%s: %q", c.name, line)
	}
}

// filled runs a template.
func (c *composed) filled(t *testing.T, text string) string {
	t.Helper()
	now := time.Now().UTC()
	made, err := template.New(c.name).Option("missingkey=error").Funcs(template.FuncMap{
		"id":  rand.Text,
		"now": now.Format,
		"ago": now.Add(-time.Hour).Format,
	}).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	key := c.name + "-key"
	if err := made.Execute(&b, map[string]string{"Person": c.name, "Key": key, "Basic": base64.StdEncoding.EncodeToString([]byte(key + ":"))}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestComposedRequests sends the requests of SDKs that cannot be run here, byte
// by byte, and each once more, as after an answer that got lost. What arrives is
// what was sent, once; the answers are what those SDKs need.
func TestComposedRequests(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("sdk/composed/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d requests, %v", len(files), err)
	}
	var slugs []string
	for _, f := range files {
		slugs = append(slugs, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	h := newSDKHouse(t, slugs, nil)
	for i, f := range files {
		t.Run(slugs[i], func(t *testing.T) {
			c := readComposed(t, f, slugs[i])
			began := time.Now()
			for range 2 {
				status, header, body := send(t, h.process.base, c.request, c.body)
				// PHP and Python take nothing but 200; Java and Ruby read the JSON.
				if status != http.StatusOK || !gjson.Valid(body) || !gjson.Get(body, "success").Bool() || gjson.Get(body, "error").Exists() ||
					!strings.HasPrefix(header.Get("Content-Type"), "application/json") {
					t.Errorf("answered with %d, %s, %s", status, header.Get("Content-Type"), body)
				}
			}
			delivered := h.settled(t, c.name, len(c.calls), 2*len(c.calls))
			for _, kind := range c.calls {
				wantCall(t, c.sdk, kind, c.name, delivered, began)
			}
			for _, has := range c.has {
				at, want, _ := strings.Cut(has, "=")
				kind, path, _ := strings.Cut(at, " ")
				for _, e := range delivered {
					if got := gjson.GetBytes(e, path).String(); gjson.GetBytes(e, "type").String() == kind && got != want {
						t.Errorf("%s of the %s is %q, want %q", path, kind, got, want)
					}
				}
			}
			if c.settings != "" {
				status, _, body := send(t, h.process.base, c.settings, "")
				if status != http.StatusOK || !gjson.Valid(body) {
					t.Fatalf("the settings are answered with %d, %s", status, body)
				}
				for line := range strings.Lines(c.model) {
					wantModel(t, body, strings.TrimSpace(line))
				}
			}
		})
	}
	if err := h.process.stop(); err != nil {
		t.Error(err)
	}
}

// wantModel wants settings to have something of a kind at a path.
func wantModel(t *testing.T, settings, line string) {
	t.Helper()
	path, kind, _ := strings.Cut(line, " ")
	got := gjson.Get(settings, path)
	kind, optional := strings.CutSuffix(kind, "?")
	if !got.Exists() {
		if !optional && kind != "absent" {
			t.Errorf("the settings have no %s: %s", path, settings)
		}
		return
	}
	is := map[string]bool{"object": got.IsObject(), "array": got.IsArray(), "string": got.Type == gjson.String && got.String() != ""}
	if !is[kind] {
		t.Errorf("%s of the settings is %s, want %s", path, got.Raw, kind)
	}
}

// send writes a request to a connection of its own: head has the method and the
// path in its first line, then headers. It returns the answer.
func send(t *testing.T, base, head, body string) (status int, header http.Header, text string) {
	t.Helper()
	host := strings.TrimPrefix(base, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	start, headers, _ := strings.Cut(head, "\n")
	b := bytes.NewBufferString(start + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for line := range strings.Lines(headers) {
		b.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
	}
	content := []byte(body)
	if strings.Contains(headers, "Content-Encoding: gzip") {
		content = zipped(t, body)
	}
	switch {
	case strings.Contains(headers, "Transfer-Encoding: chunked"):
		content = chunked(content)
	case body != "":
		fmt.Fprintf(b, "Content-length: %d\r\n", len(content))
	}
	b.WriteString("\r\n")
	answers := bufio.NewReader(conn)
	if strings.Contains(headers, "Expect: 100-continue") {
		write(t, conn, b.Bytes())
		b.Reset()
		for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
			if line, err := answers.ReadString('\n'); err != nil || line != want {
				t.Fatalf("before the body comes %q, %v; want %q", line, err, want)
			}
		}
	}
	b.Write(content)
	write(t, conn, b.Bytes())
	method, _, _ := strings.Cut(start, " ")
	response, err := http.ReadResponse(answers, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var read io.Reader = response.Body
	if response.Header.Get("Content-Encoding") == "gzip" {
		if read, err = gzip.NewReader(response.Body); err != nil {
			t.Fatal(err)
		}
	}
	all, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(all)
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(t, z, []byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// chunked returns a body in chunks of a kilobyte, as Android's connections
// write it.
func chunked(content []byte) []byte {
	var b bytes.Buffer
	for len(content) > 0 {
		n := min(len(content), 1024)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, content[:n])
		content = content[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}
