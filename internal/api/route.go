package api

import (
	"context"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Where the resources of an org and of a product are.
const (
	orgPath     = "/api/orgs/{org}"
	productPath = orgPath + "/products/{product}"
)

// route is one operation: how it is called and how the document names it.
type route struct {
	method, path string
	id           string // operationId
	tag          string // the noun, as a heading of the document
	summary      string
	status       int                   // of success; 0: 200 with a body, 204 without
	public       bool                  // no token is needed
	document     func(*huma.Operation) // of a GET or POST: what the types do not say
}

// call is a request on its way to a handler, with who makes it.
type call struct {
	ctx   context.Context
	r     *http.Request
	w     http.ResponseWriter
	id    string // of the request
	token string
	user  fleet.User
	scope fleet.Scope // in the org of the path, if it has one
	org   fleet.Org
}

type callKey struct{}

// register adds an operation. Whatever error the handler returns becomes an
// answer here and nowhere else.
func register[I, O any](s *server, rt route, fn func(*call, *I) (*O, error)) {
	op := huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary, Tags: []string{rt.tag}, DefaultStatus: rt.status,
		MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout, SkipValidateBody: true,
		Middlewares: huma.Middlewares{s.admit(rt)},
	}
	if !rt.public {
		op.Security = []map[string][]string{{"token": {}}}
	}
	s.routes = append(s.routes, rt)
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := ctx.Value(callKey{}).(*call)
		c.ctx = ctx
		// The deadline was for the body; now it would end the request. Not
		// every writer has one.
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
		out, err := fn(c, in)
		if err != nil {
			return nil, s.failed(c.ctx, c.id, err)
		}
		return out, nil
	})
	if rt.document != nil {
		// Only now: the framework reads every body it knows of before.
		rt.document(s.operation(rt))
	}
}

// operation is what the document says of a route.
func (s *server) operation(rt route) *huma.Operation {
	item := s.huma.OpenAPI().Paths[rt.path]
	if rt.method == http.MethodPost {
		return item.Post
	}
	return item.Get
}

// admit lets in whoever may see the org of the path at all. What the role
// allows is decided by control.
func (s *server) admit(rt route) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		c := &call{ctx: r.Context(), r: r, w: w, id: requestID(r.Context())}
		if err := s.identify(c, rt); err != nil {
			s.writeError(w, s.failed(c.ctx, c.id, err))
			return
		}
		if err := checkContentType(ctx.Operation(), r); err != nil {
			s.writeError(w, s.failed(c.ctx, c.id, err))
			return
		}
		next(huma.WithValue(ctx, callKey{}, c))
	}
}

func (s *server) identify(c *call, rt route) (err error) {
	if rt.public {
		return nil
	}
	token, ok := bearer(c.r.Header)
	if !ok {
		return fleet.Errorf(fleet.Unauthorized, "this needs a token").WithHint(`send the header "Authorization: Bearer nhu_…"`)
	}
	c.token = token
	if c.scope, c.user, err = s.control.Authenticate(c.ctx, fleet.TokenAPI, token); err != nil {
		return err
	}
	noteUser(c.ctx, c.user)
	if strings.HasPrefix(rt.path, orgPath) {
		c.scope, c.org, err = s.control.OrgScope(c.ctx, c.scope, c.r.PathValue("org"))
	}
	return err
}

// bearer returns the token of a request: exactly one header with the scheme
// token or bearer in any case.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	words := strings.Split(values[0], " ")
	if len(words) < 2 || words[1] == "" {
		return "", false
	}
	scheme := strings.ToLower(words[0])
	return words[1], scheme == "token" || scheme == "bearer"
}

// checkContentType refuses a body that says it is no JSON where JSON is read.
func checkContentType(op *huma.Operation, r *http.Request) error {
	if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return nil
	}
	text := r.Header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(text); text == "" || err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")) {
		return nil
	}
	return newFailure(http.StatusUnsupportedMediaType, fleet.Invalid, "", "the body must be application/json")
}

// Inputs shared by the operations of an org and of a product.
type (
	none  struct{}
	InOrg struct {
		Org string `path:"org"`
	}
	InProduct struct {
		InOrg
		Product string `path:"product"`
	}
	Paging struct {
		Cursor string `query:"cursor" doc:"What the page before gave as next."`
		Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"Rows of a page; 0: the default."`
	}
)

func (p Paging) page() fleet.Page { return fleet.Page{Cursor: p.Cursor, Limit: p.Limit} }

// answer is the output of an operation with a body.
type answer[T any] struct{ Body T }
