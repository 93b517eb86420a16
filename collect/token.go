package collect

import (
	"errors"
	"net/http"

	"kith/fault"
	"kith/workspace"
)

// Tokens judges the access tokens that senders show (sheet
// connections_protocols §1.8).
type Tokens interface {
	// Check returns nil when the bearer of token may write to the source. A
	// token that is unknown, expired, revoked, without the scope or not for
	// this source is fault.Denied, whose Message is shown to the sender and to
	// those who look at the source's rejections; other errors are ours. It is
	// called once for a request that has a token, by many goroutines at once,
	// and must be quick. It must not keep source.
	Check(token string, source *workspace.Source) error
}

// authorize judges the token of a request. Its answer is nil when the request
// may write.
//
// A token that is wrong is 401: the SDKs that use tokens then fetch another one
// and try again (analytics-python: segment/analytics/request.py; analytics-next:
// packages/node/src/lib/token-manager.ts). A token that is missing where one is
// needed is 401 as well, since nothing but another configuration of the sender
// will help.
func (in *intake) authorize() *answer {
	if in.token == "" && !in.from.Tracking.RequireToken {
		return nil
	}
	tokens := in.c.config.Tokens
	switch {
	case in.token == "":
		return in.denied(refusal{code: CodeTokenRequired, message: "the source takes events with an access token only: send \"Authorization: Bearer\" with a token of the scope tracking_api:write, and the write key in the body"})
	case tokens == nil && !in.from.Tracking.RequireToken:
		return nil
	case tokens == nil:
		return in.denied(refusal{code: CodeInvalidToken, message: "this server has no OAuth applications, so no access token is valid"})
	}
	err := tokens.Check(in.token, in.from)
	var told *fault.Error
	switch {
	case err == nil:
		return nil
	case !fault.Is(err, fault.Denied) || !errors.As(err, &told):
		in.c.logger.Error("an access token could not be checked", "source", in.from.ID, "error", err)
		a := unavailable("the access token could not be checked; try again")
		return &a
	}
	message := told.Message
	if message == "" {
		message = "the access token is not valid for this source"
	}
	return in.denied(refusal{code: CodeInvalidToken, message: message})
}

func (in *intake) denied(r refusal) *answer {
	in.refuseAll(r)
	return &answer{status: http.StatusUnauthorized, code: r.code, message: r.message}
}
