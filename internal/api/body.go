package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ganglion-iot/ganglion/fleet"
)

// body is a JSON body of the shape T. It is read as clients of the NervesHub
// API write: null is absent, text stands for numbers and booleans, and fields
// nobody knows are ignored.
type body[T any] struct {
	value T
	given map[string]json.RawMessage // fields of the object as they were sent
	err   error
}

// Schema says in the document what T is.
func (*body[T]) Schema(r huma.Registry) *huma.Schema { return r.Schema(reflect.TypeFor[T](), true, "") }

// Resolve reports what was wrong with the body.
func (b *body[T]) Resolve(huma.Context) []error {
	if b.err != nil {
		return []error{b.err}
	}
	return nil
}

// has reports whether the field was sent and is not null.
func (b *body[T]) has(field string) bool {
	v, ok := b.given[field]
	return ok && string(v) != "null"
}

func (b *body[T]) decode(data []byte) {
	if err := json.Unmarshal(data, &b.given); err != nil {
		b.err = malformed(err)
		return
	}
	fixed, err := loosen(data, reflect.TypeFor[T]())
	if err == nil {
		err = json.Unmarshal(fixed, &b.value)
	}
	if err != nil {
		b.err = malformed(err)
	}
}

// bodyDecoder is what every body is, whatever its shape.
type bodyDecoder interface{ decode(data []byte) }

// jsonFormat reads bodies and writes answers.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		if b, ok := v.(bodyDecoder); ok {
			b.decode(data)
			return nil
		}
		return json.Unmarshal(data, v)
	},
}

// malformed says what is wrong with a body: 400 when it is no JSON object at
// all, 422 when a field has the wrong type.
func malformed(err error) *failure {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return newFailure(http.StatusUnprocessableEntity, fleet.Invalid, kind.Field, "must be "+typeName(kind.Type)+", not "+kind.Value)
	}
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return newFailure(http.StatusBadRequest, fleet.Invalid, "", "the body is not JSON: "+syntax.Error())
	case errors.As(err, &kind):
		return newFailure(http.StatusBadRequest, fleet.Invalid, "", "the body must be a JSON object, not "+kind.Value)
	}
	return newFailure(http.StatusUnprocessableEntity, fleet.Invalid, "", "the body can not be read: "+err.Error())
}

func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	case reflect.Map:
		return "an object"
	}
	return "a number"
}

// loosen rewrites text that stands for a number or a boolean, in the fields of
// an object that is to become t.
func loosen(data []byte, t reflect.Type) ([]byte, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var text string
	switch t.Kind() {
	case reflect.Struct:
		if t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
			return data, nil
		}
		return loosenObject(data, t)
	case reflect.Bool:
		if json.Unmarshal(data, &text) == nil && (text == "true" || text == "false") {
			return []byte(text), nil
		}
	case reflect.Int, reflect.Int64:
		if json.Unmarshal(data, &text) == nil {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				return strconv.AppendInt(nil, n, 10), nil
			}
		}
	}
	return data, nil
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func loosenObject(data []byte, t reflect.Type) ([]byte, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return data, nil //nolint:nilerr // the shape itself says what is wrong with it
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		raw, ok := fields[name]
		if !ok || name == "" || name == "-" || string(raw) == "null" {
			continue
		}
		fixed, err := loosen(raw, f.Type)
		if err != nil {
			return nil, err
		}
		fields[name] = fixed
	}
	return json.Marshal(fields)
}
