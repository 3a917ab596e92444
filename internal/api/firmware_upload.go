package api

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// Limits of an upload. How large the file may be is decided by control.
const (
	maxOtherParts  = 16               // parts of the form that are no file
	maxOtherPart   = 64 << 10         // bytes of each
	uploadStep     = 64 << 10         // this many bytes must arrive …
	uploadPatience = time.Minute      // … within this time
	maxDrain       = 64 << 20         // bytes read and thrown away after a refusal, so that the answer is read
	drainTimeout   = 10 * time.Second // at most
)

// documentUpload says in the document what the form of an upload is, whose part
// with the file is named part.
func documentUpload(part string) func(op *huma.Operation) {
	return func(op *huma.Operation) { documentForm(op, part) }
}

func documentForm(op *huma.Operation, part string) {
	op.Description = "The form is read as it arrives. The part named " + part + " must have a file name; other parts are ignored."
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": {
		Schema: &huma.Schema{
			Type: huma.TypeObject, Required: []string{part},
			Properties: map[string]*huma.Schema{part: {Type: huma.TypeString, Format: "binary", Description: "The .fw file."}},
		},
	}}}
}

// publishFirmware hands the file of the form to control while it arrives.
func (s *server) publishFirmware(c *call, in *InProduct) (*firmwareAnswer, error) {
	return uploaded(c, in.Product, "firmware", s.control.PublishFirmware, firmwareOf)
}

// uploaded hands the file in the part of a form to publish while it arrives.
func uploaded[T, U any](c *call, product, part string, publish func(context.Context, fleet.Scope, string, io.Reader) (T, error), shape func(T) U) (*answer[rest.Data[U]], error) {
	steady := &steadyReader{in: c.r.Body, rc: http.NewResponseController(c.w)}
	c.r.Body = steady
	v, err := publish(c.ctx, c.scope, product, &formFile{r: c.r, name: part})
	if err != nil {
		steady.drain()
		return nil, err
	}
	return one(v, nil, shape)
}

// formFile is the file in the form of a request. The form is not looked at
// before the first byte is wanted, when the caller is known to be allowed.
type formFile struct {
	r    *http.Request
	name string // of the part
	part *multipart.Part
}

func (f *formFile) Read(p []byte) (int, error) {
	if f.part == nil {
		form, err := f.r.MultipartReader()
		if err != nil {
			return 0, newFailure(http.StatusUnsupportedMediaType, fleet.Invalid, "", "send the "+f.name+" as a part of multipart/form-data")
		}
		if f.part, err = filePart(form, f.name); err != nil {
			return 0, err
		}
	}
	return f.part.Read(p)
}

// filePart finds the file in the form.
func filePart(form *multipart.Reader, name string) (*multipart.Part, error) {
	for range maxOtherParts {
		part, err := form.NextRawPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, newFailure(http.StatusUnprocessableEntity, fleet.Invalid, "", "No "+name+" uploaded")
		case err != nil:
			return nil, newFailure(http.StatusBadRequest, fleet.Invalid, "", "the form can not be read")
		case part.FormName() == name && part.FileName() != "":
			return part, nil
		}
		if n, err := io.CopyN(io.Discard, part, maxOtherPart+1); n > maxOtherPart {
			return nil, fleet.Errorf(fleet.TooLarge, "the part %q of the form has more than %d bytes", part.FormName(), maxOtherPart)
		} else if !errors.Is(err, io.EOF) {
			return nil, newFailure(http.StatusBadRequest, fleet.Invalid, "", "the form can not be read")
		}
	}
	return nil, fleet.Errorf(fleet.TooLarge, "the form has more than %d parts", maxOtherParts)
}

// steadyReader reads a body that must keep arriving: whoever sends too slowly
// is cut off, however long the whole takes.
type steadyReader struct {
	in   io.ReadCloser
	rc   *http.ResponseController
	left int // bytes that must arrive before the deadline moves on
}

func (r *steadyReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		r.left = uploadStep
		_ = r.rc.SetReadDeadline(time.Now().Add(uploadPatience)) // not every writer has one
	}
	n, err := r.in.Read(p)
	r.left -= n
	return n, err
}

func (r *steadyReader) Close() error { return r.in.Close() }

// drain reads some of what is still to come. A client that only writes would
// otherwise see a broken connection and not the answer that says why.
func (r *steadyReader) drain() {
	_ = r.rc.SetReadDeadline(time.Now().Add(drainTimeout))
	_, _ = io.CopyN(io.Discard, r.in, maxDrain) // what fails here has an answer already
}
