package script

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"kith/client"
	"kith/fault"
)

// named is an identifier as the control API has it.
type named struct {
	Collection string `json:"collection,omitempty"`
	Type       string `json:"type"`
	ID         string `json:"id"`
}

func namedOf(id string) named {
	kind, value, _ := strings.Cut(id, ":")
	return named{Type: kind, ID: value}
}

func namesOf(ids []string) []named {
	list := []named{} // not null
	for _, id := range ids {
		list = append(list, namedOf(id))
	}
	return list
}

func textsOf(list []named) (ids []string) {
	for _, x := range list {
		ids = append(ids, x.Type+":"+x.ID)
	}
	return ids
}

// standing is a command that holds for all time, as the control API has it.
type standing struct {
	Offset   uint64  `json:"offset"`
	Kind     string  `json:"kind"`
	Left     []named `json:"left"`
	Right    []named `json:"right"`
	Blocked  *named  `json:"blocked"`
	LiftedBy *uint64 `json:"liftedBy"`
	State    string  `json:"state"`
	Reason   string  `json:"reason"`
}

// Order gives an order and waits until all that comes of it is done.
func (s *Server) Order(ctx context.Context, space string, o *Order) error {
	path := "/spaces/" + url.PathEscape(space)
	switch {
	case o.Lift:
		at, err := s.inForce(ctx, path, o)
		if err != nil {
			return err
		}
		return s.stand(ctx, path, "lift", map[string]any{"offset": at})
	case o.Verb == "separate":
		return s.stand(ctx, path, "separate", map[string]any{"left": namesOf(o.IDs), "right": namesOf(o.Apart)})
	case o.Verb == "block":
		return s.stand(ctx, path, "block", namedOf(o.IDs[0]))
	case o.Verb == "delete":
		return s.deleteIdentifier(ctx, space, o.IDs[0])
	case o.Verb == "leave":
		return s.leave(ctx, path, o)
	case o.Verb == "erase":
		return s.erase(ctx, path, o)
	case o.Verb == "rebuild":
		return s.rebuild(ctx, path, o)
	}
	return fmt.Errorf("an order %q is unknown", o.Verb)
}

// stand gives an order that holds for all time.
func (s *Server) stand(ctx context.Context, space, verb string, body any) error {
	var out struct {
		Command standing `json:"command"`
	}
	if err := s.client.Call(ctx, "POST", space+"/identity/"+verb+"?wait=true", body, &out); err != nil {
		return err
	}
	if out.Command.State != "done" {
		return undone("the order is "+out.Command.State, out.Command.Reason)
	}
	return nil
}

func undone(what, why string) error {
	if why != "" {
		what += ": " + why
	}
	return fault.New(fault.Conflict, "%s", what)
}

// inForce returns the offset of the newest command that a lift names.
func (s *Server) inForce(ctx context.Context, space string, o *Order) (uint64, error) {
	var out struct {
		Commands []standing `json:"commands"`
	}
	if err := s.client.Call(ctx, "GET", space+"/identity/commands?limit=1000", nil, &out); err != nil {
		return 0, err
	}
	for _, c := range out.Commands { // the newest first
		left, right := c.Left, c.Right
		if c.Blocked != nil {
			left = []named{*c.Blocked}
		}
		if c.LiftedBy == nil && o.same(c.Kind, textsOf(left), textsOf(right)) {
			return c.Offset, nil
		}
	}
	kept := *o
	kept.Lift = false
	return 0, fault.New(fault.NotFound, "no %q is in force", kept.String())
}

// deleteIdentifier takes an identifier from the person or the account that has
// it.
func (s *Server) deleteIdentifier(ctx context.Context, space, id string) error {
	x := namedOf(id)
	for _, collection := range []string{"users", "accounts"} {
		of := client.Profile{Space: space, Collection: collection, ID: id}
		out, err := s.client.DeleteIdentifiers(ctx, of, []client.ExternalID{{Type: x.Type, ID: x.ID}}, "", true)
		switch {
		case fault.Is(err, fault.NotFound):
			continue
		case err == nil && out.Code != "success":
			err = undone("the order is "+out.Code, out.Message)
		}
		return err
	}
	return fault.New(fault.NotFound, "nobody has %s", id)
}

func (s *Server) leave(ctx context.Context, space string, o *Order) error {
	var out struct {
		Done bool `json:"done"`
	}
	err := s.client.Call(ctx, "POST", space+"/identity/leave", map[string]any{"user": namedOf(o.IDs[0]), "account": namedOf(o.IDs[1])}, &out)
	if err == nil && !out.Done {
		err = undone("the order has not been carried out within 10 seconds", "")
	}
	return err
}

// erase returns when nobody can read any more what is erased; the files follow.
func (s *Server) erase(ctx context.Context, space string, o *Order) error {
	return s.client.Call(ctx, "POST", space+"/erasures", map[string]any{"identifiers": namesOf(o.IDs), "now": true}, nil)
}

func (s *Server) rebuild(ctx context.Context, space string, o *Order) error {
	var out struct {
		Rebuild struct {
			ID    uint32 `json:"id"`
			State string `json:"state"`
			Error string `json:"error"`
		} `json:"rebuild"`
	}
	in := map[string]any{}
	if o.Rules != "" {
		in["rules"] = o.Rules
	}
	if err := s.client.Call(ctx, "POST", space+"/rebuilds", in, &out); err != nil {
		return err
	}
	if _, err := s.Advance(ctx, 0); err != nil {
		return err
	}
	if err := s.client.Call(ctx, "GET", fmt.Sprintf("%s/rebuilds/%d", space, out.Rebuild.ID), nil, &out); err != nil {
		return err
	}
	if out.Rebuild.State != "live" {
		return undone("the rebuild is "+out.Rebuild.State, out.Rebuild.Error)
	}
	return nil
}

// Linked reads the identifiers of the accounts that a person is part of; none
// when there is no such person.
func (s *Server) Linked(ctx context.Context, space, id string) (list []string, err error) {
	of := client.Profile{Space: space, ID: id}
	page := client.Page{Limit: 20} // the most
	for range maxPages {
		links, cursor, err := s.client.Links(ctx, of, page)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			for _, x := range l.ExternalIDs {
				list = append(list, x.Type+":"+x.ID)
			}
		}
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	return list, nil
}
