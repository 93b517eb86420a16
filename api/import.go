package api

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"kith/importer"
	"kith/workspace"
)

const tagImports = "Imports"

const mediaCSV = "text/csv"

// Imports makes profiles of files, with the methods Create, Get, List, Pause,
// Resume, Cancel, Report and Preview of importer.Importer.
type Imports interface {
	Create(ctx context.Context, space *workspace.Space, options importer.Options, file io.Reader) (*importer.Status, error)
	Get(ctx context.Context, space uint32, id string) (*importer.Status, error)
	List(ctx context.Context, space uint32) ([]importer.Status, error)
	Pause(ctx context.Context, space uint32, id string) (*importer.Status, error)
	Resume(ctx context.Context, space uint32, id string) (*importer.Status, error)
	Cancel(ctx context.Context, space uint32, id string) (*importer.Status, error)
	Report(kept *importer.Import) (io.ReadCloser, error)
	Preview(kept *importer.Import) ([]byte, error)
}

func (a *API) importRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/imports", "listImportsFromSpace", tagImports, a.listImports,
		about("Kith's own: the imports that have not ended, or ended in the last 30 days, the newest first."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/imports", "createImport", tagImports, a.createImport, created, func(op *huma.Operation) {
		op.Description = "Kith's own: receives a CSV file, as the body, of any size, and begins to make profiles of its rows. " +
			"The file is checked as far as its header before it is received as a whole; what is wrong with rows stands in the report."
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{mediaCSV: {Schema: &huma.Schema{Type: huma.TypeString}}}}
	})
	handle(a, http.MethodGet, "/spaces/{spaceId}/imports/{importId}", "getImport", tagImports, a.getImport, about("Kith's own."))
	for _, verb := range []struct {
		name, about string
		do          func(Imports, context.Context, uint32, string) (*importer.Status, error)
	}{
		{"pause", "Kith's own: the import stands until it is resumed; after 7 days it is canceled.", Imports.Pause},
		{"resume", "Kith's own: a paused import goes on where it was; one that runs just does.", Imports.Resume},
		{"cancel", "Kith's own: stops the import for good and deletes the file. The rows that were sent stay.", Imports.Cancel},
	} {
		handle(a, http.MethodPost, "/spaces/{spaceId}/imports/{importId}/"+verb.name, verb.name+"Import", tagImports,
			func(ctx context.Context, in *importInput) (importAnswer, error) {
				return a.answerImport(ctx, in, verb.do)
			}, about(verb.about))
	}
	register(a, http.MethodGet, "/spaces/{spaceId}/imports/{importId}/errors.csv", "getReportOfImport", tagImports, a.importReport, func(op *huma.Operation) {
		op.Description = "Kith's own: the rows that were not sent, as CSV: what is wrong and how to mend it in the first columns, then the row as it was. " +
			"It can be mended and sent again as it is. It is kept for 7 days after the import has ended."
		op.Responses["200"] = &huma.Response{
			Description: "The report", Content: map[string]*huma.MediaType{mediaCSV: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	})
}

// Import is an import, as the API shows it.
type Import struct {
	ID             string          `json:"id"`
	SpaceID        string          `json:"spaceId"`
	SourceID       string          `json:"sourceId" doc:"The source that the rows come from; empty in a dry run for one that is not there yet"`
	Name           string          `json:"name" doc:"What the sender called the file"`
	State          string          `json:"state" enum:"queued,running,paused,finished,failed,canceled"`
	Waiting        string          `json:"waiting,omitempty" doc:"Why a running import does not go on right now"`
	Error          string          `json:"error,omitempty" doc:"Why it failed"`
	DryRun         bool            `json:"dryRun"`
	Collection     string          `json:"collection" enum:"users,accounts"`
	Delimiter      string          `json:"delimiter"`
	Encoding       string          `json:"encoding"`
	Columns        []ImportColumn  `json:"columns" doc:"What each column is taken for"`
	Notes          []string        `json:"notes" doc:"What was done to the file, for people"`
	Bytes          int64           `json:"bytes" doc:"The size of the file, in UTF-8"`
	BytesRead      int64           `json:"bytesRead"`
	RowsRead       uint64          `json:"rowsRead" doc:"Without the header and blank lines"`
	RowsSent       uint64          `json:"rowsSent" doc:"Rows that became calls; in a dry run those that would"`
	RowsFailed     uint64          `json:"rowsFailed" doc:"Rows that were not sent; errors.csv says why"`
	RowsEmpty      uint64          `json:"rowsEmpty" doc:"Rows without any value, which were passed over"`
	ErrorsReported uint64          `json:"errorsReported" doc:"How many of the rows that were not sent are in errors.csv, which has a bound"`
	RowsPerSecond  float64         `json:"rowsPerSecond" doc:"Since it began, or went on after a restart; 0 while it does not run"`
	SecondsLeft    *float64        `json:"secondsLeft" doc:"Estimated; null while nothing can be said"`
	Preview        json.RawMessage `json:"preview,omitempty" doc:"The first calls of a dry run"`
	CreatedAt      string          `json:"createdAt"`
	UpdatedAt      string          `json:"updatedAt"`
	EndedAt        string          `json:"endedAt,omitempty"`
}

// ImportColumn is what a column of a file is taken for.
type ImportColumn struct {
	Header string `json:"header"`
	As     string `json:"as" enum:"trait,identifier,timestamp,ignore"`
	Name   string `json:"name,omitempty" doc:"Of the trait, or the type of identifier"`
	Type   string `json:"type,omitempty" doc:"Of the trait"`
}

func (a *API) showImport(space *workspace.Space, s *importer.Status) (Import, error) {
	preview, err := a.cfg.Imports.Preview(&s.Import)
	if err != nil {
		return Import{}, err
	}
	out := Import{
		ID: s.ID, SpaceID: space.ID, SourceID: s.Source, Name: s.Options.Name, State: string(s.State), Waiting: s.Waiting, Error: s.Error,
		DryRun: s.Options.DryRun, Collection: s.Options.Collection, Delimiter: s.Options.Delimiter, Encoding: s.Options.Encoding,
		Columns: each(s.Columns, func(c *importer.Column) ImportColumn {
			return ImportColumn{Header: c.Header, As: c.As, Name: c.Name, Type: c.Type}
		}),
		Notes: append([]string{}, s.Notes...), Bytes: s.Size, BytesRead: s.Progress.Offset, RowsRead: s.Progress.Rows, RowsSent: s.Progress.Sent,
		RowsFailed: s.Progress.Failed, RowsEmpty: s.Progress.Empty, ErrorsReported: s.Progress.Reported,
		RowsPerSecond: math.Round(s.RowsPerSecond), Preview: preview, CreatedAt: when(s.Created), UpdatedAt: when(s.Updated), EndedAt: when(s.Ended),
	}
	if s.RowsPerSecond > 0 {
		out.SecondsLeft = ptr(math.Round(s.Left.Seconds()*10) / 10)
	}
	return out, nil
}

type importAnswer struct {
	Import Import `json:"import"`
}

type importsAnswer struct {
	Imports    []Import `json:"imports"`
	Pagination pageInfo `json:"pagination"`
}

type listImportsInput struct {
	SpacePath
	Paging
}

func (a *API) listImports(ctx context.Context, in *listImportsInput) (importsAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return importsAnswer{}, err
	}
	all, err := a.cfg.Imports.List(ctx, space.Number)
	if err != nil {
		return importsAnswer{}, err
	}
	page, info, err := pagedIn(all, func(s *importer.Status) string { return when(s.Created) + s.ID }, true, &in.Paging)
	if err != nil {
		return importsAnswer{}, err
	}
	out := importsAnswer{Imports: []Import{}, Pagination: info}
	for i := range page {
		one, err := a.showImport(space, &page[i])
		if err != nil {
			return importsAnswer{}, err
		}
		one.Preview = nil // that of one import shows it
		out.Imports = append(out.Imports, one)
	}
	return out, nil
}

type createImportInput struct {
	SpacePath
	Source      string `query:"source" doc:"The id or slug of a source of the space; a source for imports is made when none is named"`
	Collection  string `query:"collection" doc:"users, or accounts; users when missing"`
	Delimiter   string `query:"delimiter" doc:"A character, or comma, semicolon, tab, pipe; found out when missing"`
	Encoding    string `query:"encoding" doc:"utf-8, utf-16, utf-16le, utf-16be or windows-1252 (latin-1); UTF-8 and UTF-16 are found out when missing"`
	Empty       string `query:"empty" doc:"What an empty cell does to a trait: skip (nothing), or null (removes it); skip when missing"`
	AnonymousID string `query:"anonymousId" doc:"generate gives a row without an identifier an anonymous_id; such a row is refused when missing"`
	Types       string `query:"types" doc:"How cells are read: auto (numbers, true and false where nothing is lost), or string; auto when missing"`
	Mapping     string `query:"mapping" doc:"JSON, by header what a column is: {\"Mail\": {\"as\": \"identifier\", \"name\": \"email\"}, \"Nights\": {\"type\": \"number\"}}"`
	Name        string `query:"name" doc:"What the file is called, for people"`
	DryRun      string `query:"dryRun" doc:"Check everything and send nothing; may stand without a value"`

	dryRun bool
	file   io.Reader
}

// Resolve takes hold of the body, which is not read into memory.
func (in *createImportInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	in.dryRun, in.file = flag(u.Query()["dryRun"]), ctx.BodyReader()
	return nil
}

func (a *API) createImport(ctx context.Context, in *createImportInput) (importAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return importAnswer{}, err
	}
	mapping, err := importer.ParseMapping(in.Mapping)
	if err != nil {
		return importAnswer{}, err
	}
	s, err := a.cfg.Imports.Create(ctx, space, importer.Options{
		Name: in.Name, Source: in.Source, Collection: in.Collection, Delimiter: in.Delimiter, Encoding: in.Encoding, Empty: in.Empty,
		AnonymousID: in.AnonymousID, Types: in.Types, Mapping: mapping, DryRun: in.dryRun,
	}, in.file)
	if err != nil {
		return importAnswer{}, err
	}
	out, err := a.showImport(space, s)
	return importAnswer{out}, err
}

type importInput struct {
	SpacePath
	ImportID string `path:"importId"`
}

func (a *API) getImport(ctx context.Context, in *importInput) (importAnswer, error) {
	return a.answerImport(ctx, in, Imports.Get)
}

func (a *API) answerImport(ctx context.Context, in *importInput, do func(Imports, context.Context, uint32, string) (*importer.Status, error)) (importAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return importAnswer{}, err
	}
	s, err := do(a.cfg.Imports, ctx, space.Number, in.ImportID)
	if err != nil {
		return importAnswer{}, err
	}
	out, err := a.showImport(space, s)
	return importAnswer{out}, err
}

type reportOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        func(huma.Context)
}

func (a *API) importReport(ctx context.Context, in *importInput) (*reportOutput, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Imports.Get(ctx, space.Number, in.ImportID)
	if err != nil {
		return nil, err
	}
	report, err := a.cfg.Imports.Report(&s.Import)
	if err != nil {
		return nil, err
	}
	return &reportOutput{
		ContentType: mediaCSV + "; charset=utf-8", Disposition: `attachment; filename="` + s.ID + `-errors.csv"`,
		Body: func(ctx huma.Context) {
			defer report.Close()
			ctx.SetStatus(http.StatusOK)
			_, _ = io.Copy(ctx.BodyWriter(), report) // a reader that has gone is its own business
		},
	}, nil
}
