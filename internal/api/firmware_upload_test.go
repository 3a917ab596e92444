package api

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// archive makes a firmware of size random bytes; without a key it is unsigned.
func archive(t *testing.T, product, version string, size int, key fwup.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	data := make([]byte, size)
	rand.Read(data) //nolint:errcheck // never fails
	conf := fmt.Sprintf("meta-product=%q\nmeta-version=%q\nmeta-platform=\"rpi4\"\nmeta-architecture=\"arm\"\nmeta-author=\"Works\"\n"+
		"file-resource rootfs.img { host-path = \"rootfs.img\" }\ntask complete { on-resource rootfs.img { raw_write(0) } }\n", product, version)
	for name, content := range map[string][]byte{"rootfs.img": data, "fwup.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := fwup.Create(t.Context(), &out, fwup.CreateOptions{ConfigPath: filepath.Join(dir, "fwup.conf"), PrivateKey: key, Time: time.Unix(1_700_000_000, 0), Level: 1})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// upload sends a form in chunks of unknown length, as clients stream it.
func (w *world) upload(t *testing.T, token, path, part string, file []byte) reply {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	if err := form.WriteField("ttl", "3600"); err != nil {
		t.Fatal(err)
	}
	to, err := form.CreateFormFile(part, "image.fw")
	if err == nil {
		_, err = to.Write(file)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.send(t, token, "POST", path, io.MultiReader(&b), "Content-Type", form.FormDataContentType())
}

// signer is a key pair of which the org knows the public half.
func (w *world) signer(t *testing.T, name string) fwup.PrivateKey {
	t.Helper()
	pub, key, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.control.CreateSigningKey(t.Context(), w.in(t, w.admin, "acme"), name, base64.StdEncoding.EncodeToString(pub)); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestUpload(t *testing.T) {
	w := newWorld(t)
	const path = "/api/orgs/acme/products/thermo/firmwares"
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	w.want(t, 200, w.admin.token, "PUT", "/api/orgs/acme/products/thermo", `{"require_unique_firmware_version":true}`)
	_, foreign, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := archive(t, "thermo", "1.0.0", 300_000, foreign)
	if r := w.upload(t, w.admin.token, path, "firmware", good); r.status != 422 || !strings.Contains(r.body, "no signing key") {
		t.Errorf("without a key: %d %s", r.status, r.body)
	}
	key := w.signer(t, "devkey")
	good = archive(t, "thermo", "1.0.0", 300_000, key)
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	var published rest.Data[rest.Firmware]
	for _, c := range []struct {
		name   string
		part   string
		file   []byte
		status int
		field  string
		text   string
	}{
		{"no file", "other", good[:100], 422, "", "No firmware uploaded"},
		{"no archive", "firmware", []byte("hello"), 422, "firmware", ""},
		{"empty", "firmware", nil, 422, "firmware", ""},
		{"unsigned", "firmware", archive(t, "thermo", "1.0.0", 300_000, nil), 422, "firmware", "is not signed"},
		{"signed by a stranger", "firmware", archive(t, "thermo", "1.0.0", 300_000, foreign), 422, "firmware", "not signed by a key of this org"},
		{"truncated", "firmware", good[:len(good)/2], 422, "firmware", ""},
		{"damaged", "firmware", damaged, 422, "firmware", ""},
		{"of another product", "firmware", archive(t, "pump", "1.0.0", 300_000, key), 422, "product", `built for the product \"pump\"`},
		{"no version", "firmware", archive(t, "thermo", "one", 1000, key), 422, "version", "semantic version"},
		{"too large", "firmware", archive(t, "thermo", "9.0.0", 9<<20, key), 413, "", "more than"},
		{"good", "firmware", good, 201, "", ""},
		{"again", "firmware", good, 409, "uuid", "has already been taken"},
		{"same version", "firmware", archive(t, "thermo", "1.0.0", 1000, key), 409, "version", "has already been taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.upload(t, w.admin.token, path, c.part, c.file)
			if r.status != c.status || !strings.Contains(r.body, c.text) {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if c.status == 201 {
				r.json(t, &published)
				return
			}
			if c.field != "" && (r.get(t, "errors."+c.field) == nil || r.get(t, "error.field") != c.field) {
				t.Errorf("the field is not %s: %s", c.field, r.body)
			}
		})
	}
	f := published.Data
	if f.Version != "1.0.0" || f.Tool != "fwup" || f.Size != int64(len(good)) || f.Author == nil || *f.Author != "Works" || f.CreatedBy != "admin@example.com" {
		t.Errorf("%+v", f)
	}
	if r := w.want(t, 200, w.admin.token, "GET", path, ""); len(r.get(t, "data").([]any)) != 1 {
		t.Errorf("refused firmware was kept: %s", r.body)
	}
	r := w.want(t, 302, w.admin.token, "GET", path+"/"+f.UUID+"/download", "")
	if to, err := url.Parse(r.header.Get("Location")); err != nil || to.Host != "files.example" || !strings.Contains(to.Path, f.SHA256) {
		t.Errorf("location %q", r.header.Get("Location"))
	}
	if r := w.want(t, 200, w.admin.token, "DELETE", path+"/"+f.UUID, ""); strings.TrimSpace(r.body) != `""` {
		t.Errorf("delete: %q", r.body)
	}
}

// TestUploadByClient sends a file as the command line does.
func TestUploadByClient(t *testing.T) {
	w := newWorld(t)
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	file := archive(t, "thermo", "2.0.0", 3<<20, w.signer(t, "devkey"))
	client, err := rest.NewClient(rest.ClientOptions{URL: w.url, Token: w.admin.token})
	if err != nil {
		t.Fatal(err)
	}
	in := client.In("acme", "thermo")
	f, err := in.PublishFirmware(t.Context(), rest.Upload{Name: "a.fw", Size: int64(len(file)), File: bytes.NewReader(file)})
	if err != nil || f.Version != "2.0.0" {
		t.Fatalf("%+v, %v", f, err)
	}
	_, err = in.PublishFirmware(t.Context(), rest.Upload{Name: "a.fw", Size: int64(len(file)), File: bytes.NewReader(file)})
	if fleet.KindOf(err) != fleet.Conflict || fleet.FieldOf(err) != "uuid" {
		t.Errorf("again: %v", err)
	}
}

// TestUploadBreaksOff closes the connection in the middle of a file: nothing
// may be kept.
func TestUploadBreaksOff(t *testing.T) {
	w := newWorld(t)
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	file := archive(t, "thermo", "1.0.0", 300_000, w.signer(t, "devkey"))
	address := strings.TrimPrefix(w.url, "http://")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /api/orgs/acme/products/thermo/firmwares HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"firmware\"; filename=\"a.fw\"\r\n\r\n%s",
		w.admin.token, len(file)+200, file[:len(file)/2])
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// Whichever is noticed first: that bytes are missing, or that nobody waits.
	if !strings.HasPrefix(string(answer), "HTTP/1.1 422") && !strings.HasPrefix(string(answer), "HTTP/1.1 499") {
		t.Errorf("answer: %s", answer)
	}
	if r := w.want(t, 200, w.admin.token, "GET", "/api/orgs/acme/products/thermo/firmwares", ""); len(r.get(t, "data").([]any)) != 0 {
		t.Errorf("kept: %s", r.body)
	}
}

func TestUploadForms(t *testing.T) {
	w := newWorld(t)
	const path = "/api/orgs/acme/products/thermo/firmwares"
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	w.signer(t, "devkey")
	head := "--b\r\nContent-Disposition: form-data; name=\"ttl\"\r\n\r\n"
	for _, c := range []struct {
		name, kind, body string
		status           int
	}{
		{"no form", "application/octet-stream", "x", http.StatusUnsupportedMediaType},
		{"no boundary", "multipart/form-data", "x", http.StatusUnsupportedMediaType},
		{"no part", "multipart/form-data; boundary=b", "--b--\r\n", http.StatusUnprocessableEntity},
		{"cut", "multipart/form-data; boundary=b", "--b\r\nConte", http.StatusBadRequest},
		{"cut part", "multipart/form-data; boundary=b", head + "1", http.StatusBadRequest},
		{"large other part", "multipart/form-data; boundary=b", head + strings.Repeat("x", maxOtherPart+1) + "\r\n--b--\r\n", http.StatusRequestEntityTooLarge},
		{"many parts", "multipart/form-data; boundary=b", strings.Repeat(head+"1\r\n", maxOtherParts+1) + "--b--\r\n", http.StatusRequestEntityTooLarge},
	} {
		r := w.send(t, w.admin.token, "POST", path, strings.NewReader(c.body), "Content-Type", c.kind)
		if r.status != c.status {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
	}
}
