package api

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
	"kith/workspace"
)

const mediaYAML = "text/yaml"

// maxVariables bounds the variables that come with a file.
const maxVariables = 1000

func (a *API) fileRoutes() {
	register(a, http.MethodGet, "/workspace/export", "exportWorkspace", tagWorkspace, a.export, func(op *huma.Operation) {
		op.Description = "Kith's own: the workspace as a file, as text/yaml; with Accept: application/json in {\"data\": {\"file\": …}}. Secrets stand in it as variables."
		op.Responses["200"] = &huma.Response{
			Description: "The file",
			Content:     map[string]*huma.MediaType{mediaYAML: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	})
	handle(a, http.MethodPost, "/workspace/apply", "applyWorkspace", tagWorkspace, a.apply, maxBytes(2*workspace.MaxFileBytes),
		func(op *huma.Operation) {
			op.Description = "Kith's own: changes the workspace into what a file says and answers with what that changes. The file is the body (text/yaml), " +
				"or comes as JSON together with the values of the variables that it names."
			op.SkipValidateBody = true // it is read here, by its media type
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				mediaYAML: {Schema: &huma.Schema{Type: huma.TypeString}},
				mediaJSON: {Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, applyType)},
			}}
		})
}

type exportInput struct {
	Accept string `header:"Accept"`
}

type exportOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (a *API) export(_ context.Context, in *exportInput) (*exportOutput, error) {
	file := workspace.Export(a.cfg.Workspace.Current())
	if !strings.Contains(in.Accept, "json") {
		return &exportOutput{ContentType: mediaYAML + "; charset=utf-8", Body: file}, nil
	}
	body, err := json.Marshal(envelope[map[string]string]{Data: map[string]string{"file": string(file)}})
	return &exportOutput{ContentType: mediaJSON, Body: body}, err
}

var errMoved = errors.New("the workspace has changed since")

// applyBody is a file with what it needs.
type applyBody struct {
	File      string            `json:"file" doc:"The file's text"`
	Variables map[string]string `json:"variables,omitempty" doc:"By name, the values of the variables that the file names"`
	Prune     bool              `json:"prune,omitempty" doc:"Remove what is missing from a list that the file has; spaces are never removed"`
	DryRun    bool              `json:"dryRun,omitempty" doc:"Change nothing"`
}

type applyInput struct {
	ContentType string `header:"Content-Type"`
	DryRun      string `query:"dryRun" doc:"Change nothing; may stand without a value"`
	Prune       string `query:"prune" doc:"Remove what is missing from a list that the file has; may stand without a value"`
	RawBody     []byte

	dryRun, prune bool
}

// Resolve reads the parameters that may stand alone.
func (in *applyInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	q := u.Query()
	in.dryRun, in.prune = flag(q["dryRun"]), flag(q["prune"])
	return nil
}

type applyAnswer struct {
	Changes  []workspace.Change `json:"changes" doc:"What differs, in the order of the file"`
	Diff     string             `json:"diff" doc:"The same for people: + added, ~ changed, - removed"`
	DryRun   bool               `json:"dryRun"`
	Snapshot uint64             `json:"snapshot" doc:"The number of the configuration that is in force now"`
}

func (a *API) apply(ctx context.Context, in *applyInput) (applyAnswer, error) {
	body, err := in.read()
	if err != nil {
		return applyAnswer{}, err
	}
	file, err := workspace.ParseFile([]byte(body.File))
	if err != nil {
		return applyAnswer{}, err
	}
	change := func(d *workspace.Draft) error {
		return file.Apply(d, workspace.ApplyOptions{Prune: body.Prune, Variable: func(name string) (string, bool) {
			value, ok := body.Variables[name]
			return value, ok
		}})
	}
	base, next, err := a.cfg.Workspace.Try(ctx, change)
	for err == nil && !body.DryRun {
		// What is answered is told against what it is applied to: when another
		// change comes between, it is tried again on that.
		next, err = a.cfg.Workspace.Update(ctx, func(d *workspace.Draft) error {
			if d.Base != base.Number {
				return errMoved
			}
			return change(d)
		})
		if !errors.Is(err, errMoved) {
			break
		}
		base, next, err = a.cfg.Workspace.Try(ctx, change)
	}
	if err != nil {
		return applyAnswer{}, err
	}
	out := applyAnswer{Changes: workspace.Diff(base, next), DryRun: body.DryRun, Snapshot: next.Number}
	if body.DryRun {
		out.Snapshot = base.Number
	}
	if out.Changes == nil {
		out.Changes = []workspace.Change{}
	}
	for _, c := range out.Changes {
		out.Diff += c.String()
	}
	return out, nil
}

// read returns the file and what came with it, whatever form it came in.
func (in *applyInput) read() (applyBody, error) {
	body := applyBody{File: string(in.RawBody)}
	media, _, err := mime.ParseMediaType(in.ContentType)
	if err == nil && (media == mediaJSON || strings.HasSuffix(media, "+json")) {
		body.File = ""
		d := json.NewDecoder(strings.NewReader(string(in.RawBody)))
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			return body, fail(http.StatusBadRequest, "", "the body is not as it should be: "+err.Error())
		}
	}
	if len(body.Variables) > maxVariables {
		return body, fault.Field("variables", "%d variables; at most %d are read", len(body.Variables), maxVariables)
	}
	body.DryRun, body.Prune = body.DryRun || in.dryRun, body.Prune || in.prune
	return body, nil
}
