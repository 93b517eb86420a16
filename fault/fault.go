package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. Internal is the zero value: an error nobody classified is ours.
const (
	Internal    Kind = iota // a defect of ours or of the machine; details stay in the log
	Invalid                 // the input is wrong; Message says what, where and how to mend it
	NotFound                // the thing named does not exist
	Conflict                // the thing exists already, is in use, or has changed since it was read
	Denied                  // the caller may not do this
	Permanent               // a remote side refused for good: trying again will not help
	RetryAfter              // a remote side or a bounded queue asks to wait; see Error.After
	Unavailable             // not now (shutting down, connection lost): trying again may help
)

var kindNames = [...]string{"internal", "invalid", "not found", "conflict", "denied", "permanent", "retry after", "unavailable"}

// String returns the kind in plain words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Error is an error of a known kind. Message and Field may be shown to people
// and must never hold a secret; Err is for the log.
type Error struct {
	Kind    Kind
	Message string        // a sentence a person understands
	Field   string        // where in the input, as a path ("properties.revenue"); may be empty
	After   time.Duration // with RetryAfter: how long to wait; zero leaves it to the caller
	Err     error         // the cause; may be nil
}

// Error returns the message, preceded by the field and followed by the cause.
func (e *Error) Error() string {
	s := e.Message
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		if s == "" {
			return e.Err.Error()
		}
		if cause := e.Err.Error(); cause != "" { // empty when the message has it already; see New
			s += ": " + cause
		}
	}
	if s == "" {
		return e.Kind.String()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of kind k with a formatted message. A %w verb keeps the
// cause reachable through errors.Is and errors.As.
func New(k Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), Err: hidden(err)}
}

// Field returns an Invalid error about one field of the input.
func Field(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Wrap gives err a kind, keeping its text. A nil err stays nil.
func Wrap(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err}
}

// KindOf returns the kind of the outermost classified error in err's chain,
// and Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k. A nil error is of no kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// hidden keeps what err wraps reachable without printing its text twice.
func hidden(err error) error {
	if errors.Unwrap(err) == nil {
		return nil
	}
	return quiet{err}
}

type quiet struct{ err error }

func (q quiet) Error() string { return "" }
func (q quiet) Unwrap() error { return q.err }
