package client

import (
	"context"
	"encoding/json"
)

// Send sends one call to the Tracking API ("track", "identify", …) as an SDK
// would: message holds the call's fields, the write key is the user name.
func (c *Client) Send(ctx context.Context, writeKey, call string, message any) error {
	return c.do(ctx, "POST", "/v1/"+call, basic(writeKey), message, nil)
}

// SendBatch sends calls together; each message has its "type". They are
// durable when it returns.
func (c *Client) SendBatch(ctx context.Context, writeKey string, messages []json.RawMessage) error {
	return c.do(ctx, "POST", "/v1/batch", basic(writeKey), map[string]any{"batch": messages}, nil)
}
