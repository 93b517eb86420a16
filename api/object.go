package api

import (
	"context"
	"encoding/json"
	"net/http"

	"kith/fault"
	"kith/object"
	"kith/workspace"
)

// maxObjectsPage is the largest page of objects.
const maxObjectsPage = 200

// Objects reads what the Objects API has sent, with the methods Collections and
// Objects of object.Reader.
type Objects interface {
	Collections(ctx context.Context, space uint32, source, cursor string, limit int) (list []object.Collection, next string, err error)
	Objects(ctx context.Context, space uint32, source, collection, cursor string, limit int) (list []object.Object, next string, err error)
}

func (a *API) objectRoutes() {
	handle(a, http.MethodGet, "/sources/{sourceId}/objects", "listObjectCollectionsFromSource", tagInspect, a.listCollections,
		about("Kith's own: the collections that the source has sent to the Objects API, with how many objects each has."))
	handle(a, http.MethodGet, "/sources/{sourceId}/objects/{collection}", "listObjectsFromSource", tagInspect, a.listObjects,
		about("Kith's own: the objects of a collection by id, each with the newest value of every property."))
}

type collectionBody struct {
	Name      string `json:"name"`
	Objects   uint64 `json:"objects" doc:"How many there are"`
	UpdatedAt string `json:"updatedAt" doc:"When one of them was last sent"`
}

type collectionsAnswer struct {
	Collections []collectionBody `json:"collections"`
	Pagination  pageInfo         `json:"pagination"`
}

type listCollectionsInput struct {
	SourcePath
	Paging
}

func (a *API) listCollections(ctx context.Context, in *listCollectionsInput) (collectionsAnswer, error) {
	source, space, err := a.sourceAndSpace(in.SourceID)
	if err != nil {
		return collectionsAnswer{}, err
	}
	count, cursor, err := in.wantPassed(maxObjectsPage)
	if err != nil {
		return collectionsAnswer{}, err
	}
	list, next, err := a.cfg.Objects.Collections(ctx, space.Number, source.ID, cursor, count)
	if err != nil {
		return collectionsAnswer{}, err
	}
	return collectionsAnswer{each(list, func(c *object.Collection) collectionBody {
		return collectionBody{Name: c.Name, Objects: c.Objects, UpdatedAt: when(c.LastAt)}
	}), passed(cursor, next)}, nil
}

type objectBody struct {
	ID         string          `json:"id"`
	Properties json.RawMessage `json:"properties" doc:"The newest value of each"`
	CreatedAt  string          `json:"createdAt" doc:"When it was first sent"`
	UpdatedAt  string          `json:"updatedAt" doc:"When it was last sent"`
	First      uint64          `json:"first" doc:"The place of the first record of it in the space's raw log"`
	Last       uint64          `json:"last" doc:"The place of the newest"`
}

type objectsAnswer struct {
	Objects    []objectBody `json:"objects"`
	Pagination pageInfo     `json:"pagination"`
}

type listObjectsInput struct {
	SourcePath
	Collection string `path:"collection"`
	Paging
}

func (a *API) listObjects(ctx context.Context, in *listObjectsInput) (objectsAnswer, error) {
	source, space, err := a.sourceAndSpace(in.SourceID)
	if err != nil {
		return objectsAnswer{}, err
	}
	count, cursor, err := in.wantPassed(maxObjectsPage)
	if err != nil {
		return objectsAnswer{}, err
	}
	list, next, err := a.cfg.Objects.Objects(ctx, space.Number, source.ID, in.Collection, cursor, count)
	switch {
	case err != nil:
		return objectsAnswer{}, err
	case len(list) == 0 && cursor == "":
		return objectsAnswer{}, fault.New(fault.NotFound, "the source has sent no objects of the collection %q", in.Collection)
	}
	return objectsAnswer{each(list, func(o *object.Object) objectBody {
		return objectBody{
			ID: o.ID, Properties: o.Properties, CreatedAt: when(o.FirstAt), UpdatedAt: when(o.LastAt), First: uint64(o.First), Last: uint64(o.Last),
		}
	}), passed(cursor, next)}, nil
}

// sourceAndSpace returns a source and the space that it feeds.
func (a *API) sourceAndSpace(id string) (*workspace.Source, *workspace.Space, error) {
	snap, source, err := a.source(id)
	if err != nil {
		return nil, nil, err
	}
	space := snap.Space(source.SpaceID)
	if space == nil {
		return nil, nil, notFound("space", source.SpaceID)
	}
	return source, space, nil
}
