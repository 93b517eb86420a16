package client

import (
	"bufio"
	"bytes"
	"context"
	"io"

	"kith/fault"
)

// Message is one message of a stream of server-sent events.
type Message struct {
	Event string // empty for the usual kind
	ID    string
	Data  []byte
}

// maxMessage is the largest message of a stream.
const maxMessage = 8 << 20

// Stream opens a stream of server-sent events of the control API and calls fn
// with each message until ctx ends, which is no error, fn fails, or the server
// closes it, which is fault.Unavailable.
func (c *Client) Stream(ctx context.Context, path string, fn func(Message) error) error {
	response, err := c.send(ctx, "GET", "/api"+path, bearer(c.token), nil)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	err = readStream(response.Body, fn)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		return fault.New(fault.Unavailable, "the server has closed the stream")
	}
	return err
}

// readStream reads messages in the form of the HTML standard, "Server-sent
// events": lines of field and value, an empty line ends a message.
func readStream(r io.Reader, fn func(Message) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxMessage)
	var m Message
	hasData := false
	for lines.Scan() {
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if len(line) == 0 {
			if hasData {
				if err := fn(m); err != nil {
					return err
				}
			}
			m, hasData = Message{}, false
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if hasData {
				m.Data = append(m.Data, '\n')
			}
			m.Data, hasData = append(m.Data, value...), true
			if len(m.Data) > maxMessage {
				return fault.New(fault.Invalid, "a message of the stream is longer than %d MiB", maxMessage>>20)
			}
		case "event":
			m.Event = string(value)
		case "id":
			m.ID = string(value)
		}
	}
	return lines.Err()
}
