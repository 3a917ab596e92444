package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// What clients of the NervesHub API are told when a token, a role or a thing
// is missing. They compare the text.
const notFoundOrAllowed = "Resource Not Found or Authorization Insufficient"

// retryAfter is how long to wait when nothing better is known.
const retryAfter = 5 * time.Second

// statusClientGone is what the log says when the caller left before the
// answer; nobody receives it.
const statusClientGone = 499

// statuses maps every kind of failure to its status. A role that is too low
// is 401, as NervesHub has it; the kind in the body tells it from a bad token.
var statuses = map[fleet.Kind]int{
	fleet.Invalid:      http.StatusUnprocessableEntity,
	fleet.Unauthorized: http.StatusUnauthorized,
	fleet.Forbidden:    http.StatusUnauthorized,
	fleet.NotFound:     http.StatusNotFound,
	fleet.Conflict:     http.StatusConflict,
	fleet.TooLarge:     http.StatusRequestEntityTooLarge,
	fleet.RateLimited:  http.StatusTooManyRequests,
	fleet.Unavailable:  http.StatusServiceUnavailable,
	fleet.Internal:     http.StatusInternalServerError,
}

// failure is the body of an answer that is not a success, in the form of
// rest.Error, with its status.
type failure struct {
	Errors  map[string]any `json:"errors" doc:"A detail, or messages by field."`
	Problem rest.Problem   `json:"error"`

	status int
	retry  time.Duration
}

func (f *failure) Error() string { return f.Problem.Message }

// GetStatus is the HTTP status.
func (f *failure) GetStatus() int { return f.status }

// GetHeaders are the headers beside the body.
func (f *failure) GetHeaders() http.Header {
	h := http.Header{}
	if f.retry > 0 {
		seconds := (f.retry + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

func newFailure(status int, kind fleet.Kind, field, message string) *failure {
	f := &failure{status: status, Problem: rest.Problem{Kind: kind, Message: message, Field: field}}
	f.Errors = map[string]any{"detail": message}
	if field != "" {
		f.Errors = nest(field, message)
	}
	return f
}

// nest writes "conditions.version" as an object in an object.
func nest(field, message string) map[string]any {
	first, rest, ok := strings.Cut(field, ".")
	if ok {
		return map[string]any{first: nest(rest, message)}
	}
	return map[string]any{first: []string{message}}
}

// failed turns an error into its answer, and writes the ones that are our
// fault into the log under the id the caller is shown.
func (s *server) failed(ctx context.Context, id string, err error) *failure {
	var ready *failure
	if errors.As(err, &ready) {
		return ready
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return newFailure(statusClientGone, fleet.Unavailable, "", "the request was given up")
	}
	kind := fleet.KindOf(err)
	status, ok := statuses[kind]
	if !ok {
		kind, status = fleet.Internal, http.StatusInternalServerError
	}
	f := newFailure(status, kind, fleet.FieldOf(err), fleet.MessageOf(err))
	f.Problem.Hint = fleet.HintOf(err)
	switch kind {
	case fleet.Unauthorized, fleet.Forbidden, fleet.NotFound:
		f.Errors = map[string]any{"detail": notFoundOrAllowed}
	case fleet.RateLimited, fleet.Unavailable:
		if f.retry = fleet.WaitOf(err); f.retry == 0 {
			f.retry = retryAfter
		}
	}
	if status >= http.StatusInternalServerError {
		f.Problem.ID = id
		s.log.ErrorContext(ctx, "request failed", "request_id", id, "error", err)
	}
	return f
}

// writeError writes a failure outside of an operation.
func (s *server) writeError(w http.ResponseWriter, f *failure) {
	body, err := json.Marshal(f)
	if err != nil {
		body = []byte(`{"errors":{"detail":"something went wrong on our side"}}`)
	}
	for k, v := range f.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		s.log.Debug("an error was not received", "error", err)
	}
}

// huma takes the shape of its own errors, and whether lists may be null, by
// variables of its package.
func init() {
	huma.NewError = frameworkError
	huma.DefaultArrayNullable = false
}

// frameworkError gives errors found before a handler runs our shape: bodies
// that can not be read and parameters of a wrong form.
func frameworkError(status int, message string, errs ...error) huma.StatusError {
	for _, err := range errs {
		var ready *failure
		if errors.As(err, &ready) {
			return ready
		}
	}
	kind := fleet.Invalid
	switch status {
	case http.StatusRequestEntityTooLarge:
		kind = fleet.TooLarge
		message = "the body is larger than " + strconv.Itoa(maxBody) + " bytes"
	case http.StatusInternalServerError:
		// The only such error of the framework: the body broke off.
		status, message = http.StatusBadRequest, "the body ended before all of it had arrived"
	}
	f := newFailure(status, kind, "", message)
	for i, err := range errs {
		var d huma.ErrorDetailer
		if !errors.As(err, &d) {
			continue
		}
		detail := d.ErrorDetail()
		_, field, _ := strings.Cut(detail.Location, ".")
		if field == "" {
			continue
		}
		if i == 0 {
			f.Errors = map[string]any{}
			f.Problem.Field, f.Problem.Message = field, detail.Message
		}
		f.Errors[field] = []string{detail.Message}
	}
	return f
}
