package api

import (
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	scriptAnswer  = answer[rest.Data[rest.SupportScript]]
	scriptsAnswer = answer[rest.List[rest.SupportScript]]
	OneScript     struct {
		InProduct
		Script string `path:"script" doc:"Its name, or else its id."`
	}
	listScripts struct {
		InProduct
		ScriptQuery
	}
	ScriptQuery struct {
		Paging
		Search  string            `query:"search" doc:"Part of the name."`
		Tag     string            `query:"tag"`
		Filters map[string]string `query:"filters,deepObject" doc:"The same in the words of the NervesHub API: name, search, tags."`
	}
)

func (s *server) scriptRoutes() {
	const tag, path = "Scripts", productPath + "/scripts"
	register(s, route{method: http.MethodGet, path: path, id: "list-scripts", tag: tag, summary: "The scripts of a product, by name"},
		func(c *call, in *listScripts) (*scriptsAnswer, error) {
			return s.scripts(c, in.Product, in.ScriptQuery)
		})
	register(s, route{method: http.MethodGet, path: devicesPath + "/{identifier}/scripts", id: "list-device-scripts", tag: tag, summary: "The scripts a device may be given"},
		func(c *call, in *struct {
			OneDevice
			ScriptQuery
		}) (*scriptsAnswer, error) {
			if _, err := s.control.Device(c.ctx, c.scope, in.Product, in.Identifier); err != nil {
				return nil, err
			}
			return s.scripts(c, in.Product, in.ScriptQuery)
		})
	register(s, route{method: http.MethodPost, path: path, id: "create-script", tag: tag, status: http.StatusOK, summary: "Keep a script"},
		func(c *call, in *struct {
			InProduct
			Body body[rest.SupportScriptChange]
		}) (*scriptAnswer, error) {
			for _, field := range []string{"name", "text"} {
				if !in.Body.has(field) {
					return nil, fleet.InvalidField(field, "can't be blank")
				}
			}
			u := scriptChange(in.Body.value)
			var tags []string
			if u.Tags != nil {
				tags = *u.Tags
			}
			x, err := s.control.CreateScript(c.ctx, c.scope, in.Product, *u.Name, *u.Text, tags)
			return one(x, err, scriptOf)
		})
	register(s, route{method: http.MethodGet, path: path + "/{script}", id: "get-script", tag: tag, summary: "One script, with its text"},
		func(c *call, in *OneScript) (*scriptAnswer, error) {
			x, err := s.control.Script(c.ctx, c.scope, in.Product, in.Script)
			return one(x, err, scriptOf)
		})
	register(s, route{method: http.MethodPut, path: path + "/{script}", id: "update-script", tag: tag, summary: "Change a script; absent fields stay"},
		func(c *call, in *struct {
			OneScript
			Body body[rest.SupportScriptChange]
		}) (*scriptAnswer, error) {
			x, err := s.control.UpdateScript(c.ctx, c.scope, in.Product, in.Script, scriptChange(in.Body.value))
			return one(x, err, scriptOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{script}", id: "delete-script", tag: tag, summary: "Remove a script"},
		func(c *call, in *OneScript) (*none, error) {
			return nil, s.control.DeleteScript(c.ctx, c.scope, in.Product, in.Script)
		})
	register(s, route{
		method: http.MethodPost, path: devicesPath + "/{identifier}/scripts/{script}", id: "run-device-script", tag: tag, status: http.StatusOK,
		summary: "Have a connected device run a script of its product, and wait for what it prints",
	}, s.runDeviceScript)
}

// plainText is an answer that is no JSON.
type plainText struct {
	ContentType string `header:"Content-Type"`
	Body        []byte `contentType:"text/plain"`
}

func (s *server) runDeviceScript(c *call, in *struct {
	OneDevice
	Script  string `path:"script" doc:"Its name, or else its id."`
	Timeout int    `query:"timeout" minimum:"0" maximum:"300000" doc:"Milliseconds; 0: 30 seconds."`
}) (*plainText, error) {
	timeout := time.Duration(in.Timeout) * time.Millisecond
	r, err := s.control.RunSupportScript(c.ctx, c.scope, in.Product, in.Identifier, in.Script, timeout)
	if err != nil {
		return nil, err
	}
	return &plainText{ContentType: "text/plain; charset=utf-8", Body: []byte(r.Output)}, nil
}

func (s *server) scripts(c *call, product string, q ScriptQuery) (*scriptsAnswer, error) {
	f := fleet.ScriptFilter{Search: q.Search, Tag: q.Tag, Page: q.page()}
	for name, value := range q.Filters {
		switch {
		case value == "":
		case name == "name" || name == "search":
			f.Search = value
		case name == "tags":
			f.Tag = value
		}
	}
	list, next, err := s.control.ListScripts(c.ctx, c.scope, product, f)
	return many(list, next, err, scriptOf)
}

func scriptChange(b rest.SupportScriptChange) fleet.ScriptUpdate {
	u := fleet.ScriptUpdate{Name: b.Name, Text: b.Text}
	if b.Tags != nil {
		tags := []string(*b.Tags)
		u.Tags = &tags
	}
	return u
}

func scriptOf(x fleet.Script) rest.SupportScript {
	return rest.SupportScript{
		ID: x.ID, Name: x.Name, Text: x.Text, Tags: append([]string{}, x.Tags...), CreatedAt: x.CreatedAt, UpdatedAt: x.UpdatedAt,
		CreatedBy: scriptAuthor(x.CreatedBy, x.CreatedByName), UpdatedBy: scriptAuthor(x.UpdatedBy, x.UpdatedByName),
	}
}

func scriptAuthor(id int64, name string) *rest.ScriptAuthor {
	if id == 0 {
		return nil
	}
	return &rest.ScriptAuthor{ID: id, Name: name}
}
