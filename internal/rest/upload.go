package rest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Upload is a file of firmware or of an archive on its way to the server.
type Upload struct {
	Name     string            // of the file
	Size     int64             // bytes; must be what File gives
	File     io.Reader         // read once, never kept
	Progress func(read []byte) // called with every piece read; must not keep it; may be nil
}

// PublishFirmware sends a firmware file.
func (p *ProductClient) PublishFirmware(ctx context.Context, up Upload) (Firmware, error) {
	return publish[Firmware](ctx, p.c, up, "firmware", p.path("firmwares")...)
}

// PublishArchive sends the file of an archive.
func (p *ProductClient) PublishArchive(ctx context.Context, up Upload) (Archive, error) {
	return publish[Archive](ctx, p.c, up, "archive", p.path("archives")...)
}

// publish sends a file in one pass with its length known before, as a part of
// a form. It is never retried. The server verifies the whole file before it
// answers, so the last byte may be sent long before the answer.
func publish[T any](ctx context.Context, c *Client, up Upload, part string, path ...string) (none T, err error) {
	address, err := c.address(nil, path...)
	if err != nil {
		return none, err
	}
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	if _, err := form.CreateFormFile(part, up.Name); err != nil {
		return none, fmt.Errorf("upload: %w", err)
	}
	head := bytes.Clone(frame.Bytes())
	frame.Reset()
	if err := form.Close(); err != nil {
		return none, fmt.Errorf("upload: %w", err)
	}
	tail := frame.Bytes()
	body := io.MultiReader(bytes.NewReader(head), &meter{r: up.File, progress: up.Progress, left: up.Size}, bytes.NewReader(tail))
	req, err := c.request(ctx, http.MethodPost, address, body)
	if err != nil {
		return none, err
	}
	req.ContentLength = int64(len(head)) + up.Size + int64(len(tail))
	req.Header.Set("Content-Type", form.FormDataContentType())
	// A server that refuses says so before the bytes are sent.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.http.Do(req)
	if err != nil {
		return none, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return none, failure(resp)
	}
	var answer Data[T]
	err = c.decode(ctx, resp, &answer)
	return answer.Data, err
}

// meter counts what is read and refuses a file that changed its size.
type meter struct {
	r        io.Reader
	progress func([]byte)
	left     int64
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.left -= int64(n)
	if m.left < 0 || err == io.EOF && m.left > 0 {
		return 0, fleet.Errorf(fleet.Conflict, "the file changed while it was sent")
	}
	if n > 0 && m.progress != nil {
		m.progress(b[:n])
	}
	return n, err
}
