package api

import (
	"context"
	"strings"

	"kith/workspace"
)

// update changes the workspace. Errors about fields of the resource at path,
// which the request is about, name them as the request does.
func (a *API) update(ctx context.Context, path string, fn func(*workspace.Draft) error) (*workspace.Snapshot, error) {
	return a.updateNamed(ctx, func() string { return path }, fn)
}

// updateNamed is update for a resource whose path is known only when fn has
// run.
func (a *API) updateNamed(ctx context.Context, path func() string, fn func(*workspace.Draft) error) (*workspace.Snapshot, error) {
	snap, err := a.cfg.Workspace.Update(ctx, fn)
	if err != nil {
		return nil, within(err, func(field string) string {
			if rest, ok := strings.CutPrefix(field, path()+"."); ok {
				return strings.TrimPrefix(strings.TrimPrefix(rest, "schema."), "tracking.")
			}
			return field
		})
	}
	return snap, nil
}
