package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"kith/fault"
)

// Upload sends a body of any size to the control API, as it is read, and reads
// the answer's "data" into out. path begins behind /api.
func (c *Client) Upload(ctx context.Context, path, contentType string, body io.Reader, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api"+path, body)
	if err != nil {
		return fault.Wrap(fault.Invalid, err)
	}
	request.Header.Set("Content-Type", contentType)
	request.ContentLength = -1 // it may grow meanwhile
	bearer(c.token)(request)
	response, err := c.roundTrip(ctx, request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := read(response.Body)
	if err != nil {
		return err
	}
	envelope := struct {
		Data json.RawMessage `json:"data"`
	}{}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return err
	}
	return json.Unmarshal(envelope.Data, out)
}

// Download copies what a path of the control API answers to a writer.
func (c *Client) Download(ctx context.Context, path string, to io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, "/api"+path, bearer(c.token), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(to, response.Body)
	return err
}

// ImportPath returns the control API's path of a space's imports, or of one
// of them.
func ImportPath(space, id string) string {
	path := "/spaces/" + url.PathEscape(space) + "/imports"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return path
}
