package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSlowBodyIsCutOff has a client begin a body and send no more of it. That
// must end, over both versions of HTTP, whether the handler reads or not.
func TestSlowBodyIsCutOff(t *testing.T) {
	read := make(chan error, 1)
	s := httptest.NewUnstartedServer(timely(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			_, err := io.ReadAll(r.Body)
			read <- err
		}
	}), 200*time.Millisecond, 1<<10, time.Minute))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for _, path := range []string{"/read", "/leave"} {
		conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: kith\r\nContent-Length: 1000\r\n\r\n{", path)
		if path == "/read" {
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("HTTP/1.1 %s: %v", path, err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadAll(conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("HTTP/1.1 %s: the connection stays", path)
		}
	}
	body, more := io.Pipe()
	defer more.Close()
	go func() { _, _ = more.Write([]byte("{")) }()
	client := s.Client()
	response, err := client.Post(s.URL+"/read", "application/json", body)
	if err == nil {
		response.Body.Close()
	}
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("HTTP/2: %v", err)
	}
}

// TestSteadyBodyMayTakeLong sends a body for longer than the grace, quickly
// enough, and lets the handler work on for as long again.
func TestSteadyBodyMayTakeLong(t *testing.T) {
	const grace = 300 * time.Millisecond
	got := make(chan string, 1)
	s := httptest.NewServer(timely(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			select {
			case <-r.Context().Done():
				err = errors.New("the request was given up")
			case <-time.After(2 * grace):
			}
		}
		got <- fmt.Sprint(n, err)
	}), grace, 100, time.Minute))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: kith\r\nContent-Length: 1000\r\n\r\n")
	if _, err := conn.Write(bytes.Repeat([]byte("x"), 500)); err != nil { // worth five seconds
		t.Fatal(err)
	}
	select {
	case text := <-got:
		t.Fatalf("too early: %s", text)
	case <-time.After(2 * grace):
	}
	if _, err := conn.Write(bytes.Repeat([]byte("x"), 500)); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "1000 <nil>" {
		t.Errorf("got %s", text)
	}
	if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("answer: %v %v", r, err)
	}
}

// TestAnswerNobodyReadsIsGivenUp has a client ask and not read. The connection
// of one that reads goes on, for answers that take as long as they like too.
func TestAnswerNobodyReadsIsGivenUp(t *testing.T) {
	const fetch = 300 * time.Millisecond
	wrote := make(chan error, 1)
	s := httptest.NewServer(timely(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			var err error
			for piece := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(piece)
			}
			wrote <- err
		case "/api/slow":
			<-time.After(2 * fetch)
		}
		fmt.Fprint(w, "end")
	}), time.Minute, 1<<10, fetch))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /large HTTP/1.1\r\nHost: kith\r\n\r\n")
	if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer ended with %v", err)
	}
	client := s.Client()
	for _, path := range []string{"/small", "/api/slow"} {
		response, err := client.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != "end" || err != nil {
			t.Errorf("%s: %q %v", path, body, err)
		}
	}
}

func TestPanicOfAHandlerIsSaid(t *testing.T) {
	log := &notes{}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/projects/{writeKey}/settings", func(http.ResponseWriter, *http.Request) { panic("a defect") })
	s := httptest.NewServer(loud(mux, slog.New(slog.NewTextHandler(log, nil))))
	defer s.Close()
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if response, err := http.Get(s.URL + "/v1/projects/a-secret-key/settings"); err == nil {
		response.Body.Close()
		t.Error("there was an answer")
	}
	if text := log.String(); !strings.Contains(text, "a defect") || !strings.Contains(text, "level=ERROR") || strings.Contains(text, "a-secret-key") {
		t.Errorf("the log says %q", text)
	}
}

// withDeadline is an answer on a connection whose deadlines are seen.
type withDeadline struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (w *withDeadline) SetReadDeadline(at time.Time) error {
	w.set = append(w.set, at)
	return nil
}

func TestServerHoldsBodiesToTheirTime(t *testing.T) {
	s, err := New(t.Context(), inMemory())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := &withDeadline{ResponseRecorder: httptest.NewRecorder()}
	began := time.Now()
	s.http.Handler.ServeHTTP(w, httptest.NewRequest("POST", "/v1/track", strings.NewReader(`{"event":"Bought","userId":"u1"}`)))
	if w.Code != http.StatusOK || len(w.set) != 2 || w.set[0].Before(began.Add(bodyGrace)) || !w.set[1].IsZero() {
		t.Errorf("%d, deadlines %v", w.Code, w.set)
	}
}
