package collect

import (
	"encoding/json"
)

// ReportHeader asks for an answer that says of each event that was not kept
// which it was and why, as Rejections are told. It is for people who try out
// what they send, and for senders that want to know at once; the SDKs never
// send it, and without it every answer is what they expect.
const ReportHeader = "X-Kith-Report"

// maxReported is how many entries of a report are written out.
const maxReported = 100

// report is what one request is told of its events.
type report struct {
	index    int // of the event at hand; less than zero: none
	accepted int
	rejected []reported
	warnings []reported
	more     int // that did not fit
}

// reported is one entry of a report.
type reported struct {
	Index     *int   `json:"index,omitempty"` // in the batch, from zero; missing when it is about the request
	Code      string `json:"code"`
	Message   string `json:"message"`
	Field     string `json:"field,omitempty"`
	MessageID string `json:"messageId,omitempty"`
	Count     int    `json:"count"` // how many events it stands for
}

// tell reports a rejection of this request to all who want to know.
func (in *intake) tell(x Rejection, r refusal, n int, raw string) {
	if p := in.report; p != nil {
		to := &p.rejected
		if x.Warning {
			to = &p.warnings
		}
		one := reported{Code: r.code, Message: r.message, Field: r.field, MessageID: x.MessageID, Count: n}
		if p.index >= 0 && n == 1 {
			index := p.index
			one.Index = &index
		}
		if len(p.rejected)+len(p.warnings) < maxReported {
			*to = append(*to, one)
		} else {
			p.more++
		}
	}
	in.c.reject(x, r, n, in.sample(raw))
}

// body is the answer to a request that was understood.
func (p *report) body() ([]byte, error) {
	if p.rejected == nil {
		p.rejected = []reported{}
	}
	return json.Marshal(struct {
		Success  bool       `json:"success"`
		Accepted int        `json:"accepted"`
		Rejected []reported `json:"rejected"`
		Warnings []reported `json:"warnings,omitempty"`
		More     int        `json:"more,omitempty"`
	}{true, p.accepted, p.rejected, p.warnings, p.more})
}
