package fleet

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an Error is. Edges map it to an HTTP status,
// an exit code or a page; nothing else about an error decides that.
type Kind string

// The kinds of errors.
const (
	Invalid      Kind = "invalid"      // the input is wrong; Field names where
	Unauthorized Kind = "unauthorized" // nobody is signed in, or the credentials are wrong
	Forbidden    Kind = "forbidden"    // signed in, but the role does not allow it
	NotFound     Kind = "not_found"    // does not exist, or is not this org's
	Conflict     Kind = "conflict"     // exists already, is in use, or changed meanwhile
	TooLarge     Kind = "too_large"    // over a documented limit
	RateLimited  Kind = "rate_limited" // too often; try later
	Unavailable  Kind = "unavailable"  // a part we need is out of reach; try again
	Internal     Kind = "internal"     // our fault
)

// Error is a failure with a kind for programs, a message for people and a
// cause for the log.
type Error struct {
	Kind    Kind
	Field   string        // the input field at fault, in API spelling; "" when none
	Message string        // one sentence a person can act on; never holds secrets
	Hint    string        // what to do next; may be empty
	Wait    time.Duration // how long to wait before the next try; 0: not known
	Err     error         // the cause; never shown to a caller
}

func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = string(e.Kind)
	}
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind. A %w verb sets the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	if cause := errors.Unwrap(err); cause != nil {
		return &Error{Kind: kind, Message: err.Error(), Err: cause}
	}
	return &Error{Kind: kind, Message: err.Error()}
}

// InvalidField makes an Invalid error about one input field.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Missing makes a NotFound error that does not tell whether the thing exists
// in another org.
func Missing(noun string) *Error {
	return &Error{Kind: NotFound, Message: noun + " not found"}
}

// WithHint returns a copy of e that also says what to do next.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// KindOf returns the kind of err: that of the first Error in its chain, ""
// for nil, Internal for any other error.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// MessageOf returns what may be shown of err to the caller: the message of
// the first Error in its chain, or a neutral sentence.
func MessageOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		if e.Message == "" {
			return string(e.Kind)
		}
		return e.Message
	}
	return "something went wrong on our side"
}

// FieldOf returns the input field err is about, or "".
func FieldOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Field
	}
	return ""
}

// WaitOf returns how long to wait before trying again, or 0 when err does
// not say.
func WaitOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.Wait
	}
	return 0
}

// HintOf returns what to do next about err, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
