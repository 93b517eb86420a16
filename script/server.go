package script

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	yamlparser "github.com/goccy/go-yaml/parser"

	"kith/client"
	"kith/fault"
)

// Server is the Target that speaks to a running server, over its public APIs.
// The server must have been started with --test-clock.
type Server struct {
	client    *client.Client
	receiver  *Receiver
	url       string // where the receiver listens
	variables func(name string) (string, bool)
	keys      map[string]sourceOf
}

type sourceOf struct{ id, writeKey string }

// NewServer returns the target of a server. receiver, which listens at
// receiverURL, stands in for the webhooks of the workspaces that scripts apply;
// variables gives the values of the variables that they name.
func NewServer(c *client.Client, receiver *Receiver, receiverURL string, variables func(string) (string, bool)) *Server {
	return &Server{client: c, receiver: receiver, url: strings.TrimRight(receiverURL, "/"), variables: variables}
}

// MissingVariable is the value of a variable that nobody has set. Scripts
// deliver to themselves, so the secrets of a workspace do not matter to them.
const MissingVariable = "script"

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// Apply applies a workspace file whose webhooks deliver to the script.
func (s *Server) Apply(ctx context.Context, workspace []byte) error {
	file, err := s.redirect(workspace)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, m := range variable.FindAllStringSubmatch(file, -1) {
		value, ok := s.variables(m[1])
		if !ok {
			value = MissingVariable
		}
		values[m[1]] = value
	}
	s.keys = nil
	return s.client.Call(ctx, "POST", "/workspace/apply", map[string]any{"file": file, "variables": values}, nil)
}

// redirect replaces the URLs of a file's webhooks by the receiver's.
func (s *Server) redirect(workspace []byte) (string, error) {
	var content struct {
		Destinations []struct {
			Slug       string         `yaml:"slug"`
			MetadataID string         `yaml:"metadataId"`
			Settings   map[string]any `yaml:"settings"`
		} `yaml:"destinations"`
	}
	if err := yaml.Unmarshal(workspace, &content); err != nil {
		return "", fault.New(fault.Invalid, "the workspace file cannot be read: %s", yaml.FormatError(err, false, true))
	}
	file, err := yamlparser.ParseBytes(workspace, 0)
	if err != nil {
		return "", fault.New(fault.Invalid, "the workspace file cannot be read: %s", yaml.FormatError(err, false, true))
	}
	for i, d := range content.Destinations {
		if _, ok := d.Settings["url"]; !ok || d.MetadataID != "webhook" {
			continue
		}
		path, err := yaml.PathString(fmt.Sprintf("$.destinations[%d].settings.url", i))
		if err != nil {
			return "", err
		}
		to, err := json.Marshal(s.url + "/" + url.PathEscape(d.Slug))
		if err != nil {
			return "", err
		}
		if err := path.ReplaceWithReader(file, strings.NewReader(string(to))); err != nil {
			return "", fmt.Errorf("replace the URL of destination %s: %w", d.Slug, err)
		}
	}
	return file.String(), nil
}

// Send sends one call with the write key of a source.
func (s *Server) Send(ctx context.Context, source, call string, body json.RawMessage) error {
	known, err := s.source(ctx, source)
	if err != nil {
		return err
	}
	if known.writeKey == "" {
		return fault.New(fault.Invalid, "source %s has no write key", source)
	}
	return s.client.Send(ctx, known.writeKey, call, body)
}

// source looks a source up by its slug.
func (s *Server) source(ctx context.Context, slug string) (sourceOf, error) {
	if s.keys == nil {
		keys := map[string]sourceOf{}
		err := pages(ctx, s.client, "/sources", func(page struct {
			Sources []struct {
				ID        string   `json:"id"`
				Slug      string   `json:"slug"`
				WriteKeys []string `json:"writeKeys"`
			} `json:"sources"`
			pagination
		}) (string, error) {
			for _, x := range page.Sources {
				known := sourceOf{id: x.ID}
				if len(x.WriteKeys) > 0 {
					known.writeKey = x.WriteKeys[0]
				}
				keys[x.Slug] = known
			}
			return page.next(), nil
		})
		if err != nil {
			return sourceOf{}, err
		}
		s.keys = keys
	}
	known, ok := s.keys[slug]
	if !ok {
		return known, fault.New(fault.NotFound, "there is no source %q", slug)
	}
	return known, nil
}

// pagination is the part of a list's answer that says where it goes on.
type pagination struct {
	Pagination struct {
		Next string `json:"next"`
	} `json:"pagination"`
}

func (p pagination) next() string { return p.Pagination.Next }

// pages reads a list of the control API page by page; fn returns the cursor of
// the next.
func pages[P any](ctx context.Context, c *client.Client, path string, fn func(P) (string, error)) error {
	cursor := ""
	for {
		query := url.Values{"pagination.count": {"200"}}
		if cursor != "" {
			query.Set("pagination.cursor", cursor)
		}
		var page P
		if err := c.Call(ctx, "GET", path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		next, err := fn(page)
		if err != nil || next == "" {
			return err
		}
		cursor = next
	}
}

// Advance moves the test clock.
func (s *Server) Advance(ctx context.Context, by time.Duration) (time.Time, error) {
	var out struct {
		Now time.Time `json:"now"`
	}
	err := s.client.Call(ctx, "POST", "/test-clock", map[string]string{"advance": by.String()}, &out)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Invalid, "the server's clock cannot be moved: start it with --test-clock TIME")
	}
	return out.Now, err
}

// Answer sets what the receiver answers for a destination.
func (s *Server) Answer(_ context.Context, destination string, status int) error {
	s.receiver.Answer(destination, status)
	return nil
}

// Delivered returns what the receiver has received for a destination.
func (s *Server) Delivered(_ context.Context, destination string) ([]json.RawMessage, error) {
	return s.receiver.Delivered(destination), nil
}

// maxPages bounds how much of one profile is read.
const maxPages = 200

// Profile reads a profile's identifiers and traits; nil when there is none.
func (s *Server) Profile(ctx context.Context, space, id string) (*Profile, error) {
	of := client.Profile{Space: space, ID: id}
	out := &Profile{Traits: map[string]json.RawMessage{}}
	page := client.Page{Limit: 100}
	for range maxPages {
		ids, cursor, err := s.client.ExternalIDs(ctx, of, page)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, x := range ids {
			out.Identifiers = append(out.Identifiers, x.Type+":"+x.ID)
		}
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	page = client.Page{Limit: 100}
	for range maxPages {
		traits, cursor, err := s.client.Traits(ctx, of, page)
		if err != nil {
			return nil, err
		}
		for name, value := range traits {
			out.Traits[name] = value
		}
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	return out, nil
}

// Events reads the events of that name in a profile's history.
func (s *Server) Events(ctx context.Context, space, id, name string) ([]json.RawMessage, error) {
	of := client.Profile{Space: space, ID: id}
	page := client.Page{Limit: 100, Include: name}
	var list []json.RawMessage
	for range maxPages {
		events, cursor, err := s.client.Events(ctx, of, page)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			raw, err := json.Marshal(e)
			if err != nil {
				return nil, err
			}
			list = append(list, raw)
		}
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	return list, nil
}

// Blocked reads the reasons of the events in a source's quarantine.
func (s *Server) Blocked(ctx context.Context, source string) ([]string, error) {
	known, err := s.source(ctx, source)
	if err != nil {
		return nil, err
	}
	var reasons []string
	err = pages(ctx, s.client, "/sources/"+url.PathEscape(known.id)+"/quarantined-events", func(page struct {
		QuarantinedEvents []struct {
			Reason string `json:"reason"`
		} `json:"quarantinedEvents"`
		pagination
	}) (string, error) {
		for _, x := range page.QuarantinedEvents {
			reasons = append(reasons, x.Reason)
		}
		return page.next(), nil
	})
	return reasons, err
}

// Rejected reads the reasons for which calls of a source were refused.
func (s *Server) Rejected(ctx context.Context, source string) ([]string, error) {
	known, err := s.source(ctx, source)
	if err != nil {
		return nil, err
	}
	var reasons []string
	err = pages(ctx, s.client, "/sources/"+url.PathEscape(known.id)+"/rejected-events", func(page struct {
		RejectedEvents []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Count   int    `json:"count"`
		} `json:"rejectedEvents"`
		pagination
	}) (string, error) {
		for _, x := range page.RejectedEvents {
			for range max(1, x.Count) {
				reasons = append(reasons, x.Code+": "+x.Message)
			}
		}
		return page.next(), nil
	})
	return reasons, err
}
