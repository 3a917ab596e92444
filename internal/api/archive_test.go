package api

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// rezip writes the members of an archive anew, after more of other names.
func rezip(t *testing.T, file []byte, more ...string) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		if err := w.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range more {
		if _, err := w.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArchiveUpload publishes archives that are refused and one that is good,
// releases it, and deletes it.
func TestArchiveUpload(t *testing.T) {
	w := newWorld(t)
	const product = "/api/orgs/acme/products/thermo"
	const path = product + "/archives"
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	_, foreign, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := w.signer(t, "devkey")
	good := archive(t, "thermo", "1.0.0", 300_000, key)
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	var published rest.Data[rest.Archive]
	for _, c := range []struct {
		name   string
		part   string
		file   []byte
		status int
		field  string
		text   string
	}{
		{"no file", "firmware", good[:100], 422, "", "No archive uploaded"},
		{"no archive", "archive", []byte("hello"), 422, "archive", ""},
		{"unsigned", "archive", archive(t, "thermo", "1.0.0", 1000, nil), 422, "archive", "is not signed"},
		{"signed by a stranger", "archive", archive(t, "thermo", "1.0.0", 1000, foreign), 422, "archive", "not signed by a key of this org"},
		{"damaged", "archive", damaged, 422, "archive", ""},
		{"a member too many", "archive", rezip(t, good, "data/extra"), 422, "archive", ""},
		{"a member outside", "archive", rezip(t, good, "../../escape"), 422, "archive", ""},
		{"a member twice", "archive", rezip(t, good, "data/rootfs.img"), 422, "archive", ""},
		{"followed by more", "archive", append(bytes.Clone(good), "more"...), 422, "archive", ""},
		{"of another product", "archive", archive(t, "pump", "1.0.0", 1000, key), 422, "product", `built for the product \"pump\"`},
		{"too large", "archive", archive(t, "thermo", "9.0.0", 9<<20, key), 413, "", "more than"},
		{"good", "archive", good, 201, "", ""},
		{"again", "archive", good, 409, "uuid", "has already been taken"},
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
	a := published.Data
	if a.Version != "1.0.0" || a.Product != "thermo" || a.Platform != "rpi4" || a.Size != int64(len(good)) || a.CreatedBy != "admin@example.com" {
		t.Errorf("%+v", a)
	}
	if r := w.want(t, 200, w.admin.token, "GET", path, ""); len(r.get(t, "data").([]any)) != 1 {
		t.Errorf("refused archives were kept: %s", r.body)
	}
	r := w.want(t, 302, w.admin.token, "GET", path+"/"+a.UUID+"/download", "")
	if to, err := url.Parse(r.header.Get("Location")); err != nil || to.Host != "files.example" || !strings.Contains(to.Path, a.SHA256) {
		t.Errorf("location %q", r.header.Get("Location"))
	}

	s := w.in(t, w.admin, "acme")
	p, err := w.control.Product(t.Context(), s, "thermo")
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.control.SigningKey(t.Context(), s, "devkey")
	if err != nil {
		t.Fatal(err)
	}
	f := w.publish(t, s, p, k, "11111111-1111-5111-8111-111111111111", "1.0.0")
	group := `{"name":"qa","firmware":"` + f.UUID + `","archive":"` + a.UUID + `"}`
	w.want(t, 201, w.admin.token, "POST", product+"/deployments", group)
	w.want(t, 409, w.admin.token, "DELETE", path+"/"+a.UUID, "")
	w.want(t, 204, w.admin.token, "DELETE", product+"/deployments/qa", "")
	w.want(t, 200, w.admin.token, "DELETE", path+"/"+a.UUID, "")
	w.want(t, 404, w.admin.token, "GET", path+"/"+a.UUID, "")
	w.want(t, 404, w.admin.token, "GET", path+"/"+a.UUID+"/download", "")
}
