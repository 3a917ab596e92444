package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
	"github.com/ganglion-iot/ganglion/internal/version"
)

// apiVersion is the version of the API, not of the program.
const apiVersion = "1.0.0"

func humaConfig() huma.Config {
	c := huma.DefaultConfig("Ganglion", apiVersion)
	// Documents, viewers and $schema links of the framework are not ours.
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.AllowAdditionalPropertiesByDefault = true // unknown fields are ignored
	c.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	c.Info.Description = "Updates fleets of devices. Names in paths are those of orgs, products, keys and deployment groups, " +
		"percent-encoded. Every answer that is not a success has the shape Failure."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", BearerFormat: "nhu_…", Description: `An API token. The scheme may be "bearer" or "token".`},
	}
	return c
}

// document is the OpenAPI document, the same for the same routes.
func (s *server) document() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(s.huma.OpenAPI())
	return out.Bytes(), err
}

// amend says in the document what the framework can not: which objects may be
// null, and that filters are written as filters[name]=value.
func amend(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for i := range t.NumField() {
			field, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			p := schema.Properties[field]
			if p == nil || p.Ref == "" || t.Field(i).Type.Kind() != reflect.Pointer || strings.Contains(options, "omitempty") {
				continue
			}
			schema.Properties[field] = &huma.Schema{Description: p.Description, AnyOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}}
		}
	}
	yes := true
	for _, item := range doc.Paths {
		if item.Get == nil {
			continue
		}
		for _, p := range item.Get.Parameters {
			if p.Style == "deepObject" {
				p.Explode = &yes
			}
		}
	}
}

// documentRoutes comes after all other routes: it describes them.
func (s *server) documentRoutes() {
	amend(s.huma.OpenAPI())
	text, err := s.document()
	serve := func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			s.writeError(w, s.failed(r.Context(), requestID(r.Context()), err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		if _, err := w.Write(text); err != nil {
			s.log.Debug("the document was not received", "error", err)
		}
	}
	s.mux.HandleFunc("GET /api/openapi.json", serve)
	s.mux.HandleFunc("GET /api/openapi", serve)
}

func (s *server) healthRoutes() {
	register(s, route{
		method: http.MethodGet, path: "/api/health", id: "get-health", tag: "Server", public: true,
		summary: "Whether the API answers, and which version it is",
	}, func(*call, *none) (*answer[rest.Data[rest.Health]], error) {
		return &answer[rest.Data[rest.Health]]{rest.Data[rest.Health]{Data: rest.Health{Status: "ok", Version: version.Version}}}, nil
	})
}

// anyRoute matches what no operation does.
const anyRoute = "/"

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// noRoute answers requests for addresses, or methods, that do not exist.
func (s *server) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := s.mux.Handler(other); pattern != anyRoute {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		f := newFailure(http.StatusNotFound, fleet.NotFound, "", "there is no such address in this API")
		f.Errors["detail"] = "Not Found"
		s.writeError(w, f)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	s.writeError(w, newFailure(http.StatusMethodNotAllowed, fleet.Invalid, "", "this address knows "+strings.Join(allowed, ", ")+" only"))
}
