package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
)

// Bounds of one deletion.
const (
	maxDeleted = 100 // identifiers, each of which is a record of the space's log
	deleteWait = 10 * time.Second
)

// deletion is the body of a request to delete identifiers, in Segment's shape;
// note is Kith's own.
type deletion struct {
	IDs []struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"delete_external_ids"`
	Note string `json:"note"`
}

// deleted is the answer. Segment's is its first two fields.
type deleted struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Deleted []deletedID `json:"deleted"`
}

type deletedID struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Offset uint64 `json:"offset"` // of the order in the space's log
}

// deleteRoute deletes identifiers of a profile, which keeps its traits, events
// and merges (sheet unify_engage_privacy §1.6). Beyond Segment any identifier
// finds the profile, and several are deleted at once: all of them, or none when
// one cannot be. What Segment refuses for good reason is done with ?force=true.
func (a *API) deleteRoute(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	w.Header().Set("Request-Id", a.requestID())
	w.Header().Set("Cache-Control", "no-store")
	q, err := a.ask(w, r, "")
	var done *deleted
	if err == nil {
		done, err = a.deleteIDs(q)
	}
	var text []byte
	if err == nil {
		text, err = encode(done)
	}
	switch {
	case err != nil:
		a.refuseDelete(w, r, err)
	case done.Code == "success":
		respond(w, http.StatusOK, text)
	default:
		respond(w, http.StatusAccepted, text)
	}
}

// refuseDelete answers with an error under the codes of this endpoint, which
// differ from the others'.
func (a *API) refuseDelete(w http.ResponseWriter, r *http.Request, err error) {
	f := *a.refused(r, err)
	switch f.code {
	case "authentication_error":
		f.code = "unauthorized"
	case "validation_error", "invalid_request_error":
		f.code = "bad_request"
	case "not_found":
		if f.message == "Profile was not found." {
			f.message = "The resource was not found."
		}
	}
	a.refuseProfile(w, r, &f)
}

func badDelete(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...)}
}

func (a *API) deleteIDs(q *asked) (*deleted, error) {
	if !q.caller.Delete {
		return nil, fault.New(fault.Denied, "this token reads; to delete identifiers make one with deleteIdentifiers (POST /api/spaces/%s/profile-tokens), or use the admin token", q.target.Path)
	}
	body, err := readDeletion(q.r)
	if err != nil {
		return nil, err
	}
	ids, err := a.deletable(q, body)
	if err != nil {
		return nil, err
	}
	done := &deleted{Code: "success", Message: "External identifier has been deleted."}
	if len(ids) > 1 {
		done.Message = fmt.Sprintf("%d external identifiers have been deleted.", len(ids))
	}
	var last commitlog.Offset
	for _, id := range ids {
		last, err = a.cfg.Commands.Order(q.r.Context(), q.target.Space.Number, &event.Command{
			DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalIDOf(id)}, By: q.caller.Name, Note: body.Note,
		})
		if err != nil {
			return nil, err
		}
		done.Deleted = append(done.Deleted, deletedID{Type: id.Type, ID: id.Value, Offset: uint64(last)})
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), deleteWait)
	defer cancel()
	if err := a.cfg.Commands.Passed(ctx, q.target.Space.Number, last); fault.Is(err, fault.Unavailable) {
		done.Code, done.Message = "accepted", "The deletion is ordered and durable. It is carried out when what was sent before it has been processed."
	} else if err != nil {
		return nil, err
	}
	return done, nil
}

// readDeletion reads the body. Fields that are not known are left alone, as
// Segment leaves them.
func readDeletion(r *http.Request) (*deletion, error) {
	body := &deletion{}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxProfileBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, badDelete("The body has more than %d bytes.", maxProfileBody)
	case err != nil:
		return nil, badDelete("The body did not arrive whole.")
	case json.Unmarshal(text, body) != nil:
		return nil, badDelete(`The body is not {"delete_external_ids":[{"type":"email","id":"jo@example.com"}]}.`)
	case len(body.IDs) == 0:
		return nil, badDelete("delete_external_ids is missing: want the type and id of each identifier to delete.")
	case len(body.IDs) > maxDeleted:
		return nil, badDelete("%d external ids: at most %d are deleted at once.", len(body.IDs), maxDeleted)
	case len(body.Note) > event.MaxCommandNote:
		return nil, badDelete("The note has %d bytes; at most %d are kept.", len(body.Note), event.MaxCommandNote)
	}
	for i := range body.IDs {
		if body.IDs[i].Type == "" || body.IDs[i].ID == "" {
			return nil, badDelete("delete_external_ids.%d: an identifier has a type and an id.", i)
		}
	}
	return body, nil
}

// deletable returns the identifiers to delete, if all of them can be.
func (a *API) deletable(q *asked, body *deletion) (ids []event.Identifier, err error) {
	force := q.query.flag("force")
	if q.target.Collection != event.Users && !force {
		return nil, badDelete("Invalid collection: `%s`.", q.target.Collection)
	}
	for _, x := range body.IDs {
		if x.Type == "group_id" && !force {
			return nil, &refusal{http.StatusBadRequest, "unsupported_eid_type", "Unsupported external id type."}
		}
		if x.Type+":"+x.ID == q.target.ID && !force {
			return nil, badDelete("External id specification must differ from lookup id.")
		}
	}
	var named []event.Identifier
	for _, x := range body.IDs {
		named = append(named, event.Identifier{Collection: q.target.Collection, Type: x.Type, Value: x.ID})
	}
	own, named, err := a.cfg.Profiles.Own(q.r.Context(), q.target, named)
	if err != nil {
		return nil, err
	}
	for _, id := range named {
		if id.Value == "" {
			return nil, &refusal{http.StatusNotFound, "eid_not_found", "External identifier not found."}
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	left, going := 0, 0
	for _, id := range own {
		if id.Type != "user_id" {
			continue
		}
		if slices.Contains(ids, id) {
			going++
		} else {
			left++
		}
	}
	if going > 0 && left == 0 && !force {
		return nil, badDelete("A profile must keep at least one user_id.")
	}
	return ids, nil
}
