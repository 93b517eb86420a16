package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"kith/fault"
	"kith/inspect"
)

// heartbeat is how often a quiet stream says that it is alive, so that nobody
// on the way closes it.
const heartbeat = 15 * time.Second

// maxRecent is how many items from before a stream may ask for.
const maxRecent = 1000

type liveInput struct {
	Stage       []string `query:"stage,explode" doc:"Only these stages, as accepted, rejected, admitted, duplicate, blocked, discarded, changed, announced, sent, retrying, dead; several times for several"`
	Space       string   `query:"space" doc:"A space's id or slug"`
	Source      string   `query:"source" doc:"A source's id or slug"`
	Destination string   `query:"destination" doc:"A destination's id or slug"`
	Profile     string   `query:"profile" doc:"A profile, as use_…"`
	ID          string   `query:"id" doc:"Only with this messageId, record id, profile, userId, anonymousId, groupId or other identifier"`
	Recent      int      `query:"recent" minimum:"0" maximum:"1000" doc:"How many items from before to begin with"`
}

type stream struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	Body         func(huma.Context)
}

func (a *API) liveRoute() {
	register(a, http.MethodGet, "/live", "watchLiveEvents", tagInspect, a.live, func(op *huma.Operation) {
		op.Description = "Kith's own: events as they pass each stage, as server-sent events. The data of each is one JSON object; " +
			"an event named dropped, with {\"dropped\": n}, says how many items so far came faster than they were read."
		op.Responses["200"] = &huma.Response{
			Description: "A stream that lasts until one side closes it",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	})
}

// filter turns slugs into the names that the feed's items carry.
func (a *API) filter(in *liveInput) (inspect.Filter, error) {
	snap := a.cfg.Workspace.Current()
	f := inspect.Filter{Profile: in.Profile, ID: in.ID}
	for _, s := range in.Stage {
		if !slices.Contains(inspect.Stages(), inspect.Stage(s)) {
			return f, fault.Field("stage", "%q is no stage: want some of %v", s, inspect.Stages())
		}
		f.Stages = append(f.Stages, inspect.Stage(s))
	}
	if in.Space != "" {
		sp := snap.Space(in.Space)
		if sp == nil {
			return f, notFound("space", in.Space)
		}
		f.Space = sp.Slug
	}
	if in.Source != "" {
		for i := range snap.Sources {
			if s := &snap.Sources[i]; s.ID == in.Source || s.Slug == in.Source {
				f.Source = s.ID
			}
		}
		if f.Source == "" {
			return f, notFound("source", in.Source)
		}
	}
	if in.Destination != "" {
		for i := range snap.Destinations {
			if d := &snap.Destinations[i]; d.ID == in.Destination || d.Slug == in.Destination {
				f.Destination = d.ID
			}
		}
		if f.Destination == "" {
			return f, notFound("destination", in.Destination)
		}
	}
	return f, nil
}

func (a *API) live(_ context.Context, in *liveInput) (*stream, error) {
	f, err := a.filter(in)
	if err != nil {
		return nil, err
	}
	watch, err := a.cfg.Feed.Watch(f, min(in.Recent, maxRecent))
	if err != nil {
		return nil, err
	}
	return &stream{ContentType: "text/event-stream", CacheControl: "no-store", Body: func(ctx huma.Context) {
		defer watch.Close()
		_, w := humago.Unwrap(ctx)
		flush := http.NewResponseController(w)
		_ = flush.SetWriteDeadline(time.Time{}) // it lasts as long as somebody watches
		w.WriteHeader(http.StatusOK)
		if flush.Flush() != nil {
			return
		}
		var dropped uint64
		for {
			beat, stop := a.cfg.Clock.Until(a.cfg.Clock.Now().Add(heartbeat))
			select {
			case <-ctx.Context().Done():
				stop()
				return
			case <-beat:
				err = say(w, ": alive\n\n")
			case item, open := <-watch.Items():
				if !open {
					stop()
					return
				}
				err = sayItem(w, &item)
			}
			stop()
			if n := watch.Dropped(); err == nil && n > dropped {
				dropped = n
				err = say(w, fmt.Sprintf("event: dropped\ndata: {\"dropped\":%d}\n\n", n))
			}
			if err != nil || flush.Flush() != nil {
				return
			}
		}
	}}, nil
}

func sayItem(w io.Writer, item *inspect.Item) error {
	var data strings.Builder // one line, with its end
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false) // bodies as they were sent
	if err := e.Encode(item); err != nil {
		return err
	}
	return say(w, fmt.Sprintf("id: %d\ndata: %s\n", item.Seq, &data))
}

func say(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}
