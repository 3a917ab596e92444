package web

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
)

// signed builds a firmware and registers the key it is signed with.
func (w *world) signed(t *testing.T, admin *person, product, version string, size int) []byte {
	t.Helper()
	public, private, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.control.CreateSigningKey(t.Context(), admin.in(t, "acme"), "key for "+version, fwup.FormatPublicKey(public)); err != nil {
		t.Fatal(err)
	}
	dir, image := t.TempDir(), make([]byte, size)
	_, _ = rand.Read(image) // never fails
	conf := "meta-product=\"" + product + "\"\nmeta-version=\"" + version + "\"\nmeta-platform=\"board\"\nmeta-architecture=\"arm\"\n" +
		"file-resource image { host-path = \"image\" }\ntask complete { on-resource image { raw_write(0) } }\n"
	for name, content := range map[string][]byte{"image": image, "fwup.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := fwup.Create(t.Context(), &file, fwup.CreateOptions{ConfigPath: filepath.Join(dir, "fwup.conf"), PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestFirmwareUpload(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	if _, err := w.control.CreateProduct(t.Context(), admin.in(t, "acme"), "thermostat"); err != nil {
		t.Fatal(err)
	}
	good := w.signed(t, admin, "thermostat", "1.0.0", 100_000)
	second := w.signed(t, admin, "thermostat", "1.1.0", 1000)
	large := w.signed(t, admin, "thermostat", "1.2.0", 2<<20)
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 1
	const path = "/org/acme/product/thermostat/firmware"
	asJSON := []string{"Accept", "application/json"}

	for _, x := range []struct {
		name, field string
		file        []byte
		status      int
		message     string
	}{
		{"good", "firmware", good, http.StatusCreated, "Published 1.0.0."},
		{"the same again", "firmware", good, http.StatusConflict, "already"},
		{"damaged", "firmware", broken, http.StatusUnprocessableEntity, "irmware"},
		{"cut off", "firmware", good[:len(good)/2], http.StatusUnprocessableEntity, "irmware"},
		{"too large", "firmware", large, http.StatusRequestEntityTooLarge, "1048576"},
		{"empty", "firmware", nil, http.StatusUnprocessableEntity, "irmware"},
		{"another field", "picture", good, http.StatusUnprocessableEntity, "choose a file"},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := admin.upload(t, path, x.field, x.file, asJSON...).want(t, x.status)
			var answer struct{ Message, Hint string }
			if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(answer.Message, x.message) {
				t.Errorf("the message is %q", answer.Message)
			}
		})
	}

	// Without script the form leads back, or shows itself again.
	admin.upload(t, path, "firmware", second).leadsTo(t, path+"?done=published")
	admin.get(t, path).has(t, "<b>1.0.0</b>", "<b>1.1.0</b>")
	admin.get(t, path).lacks(t, "<b>1.2.0</b>")
	admin.upload(t, path, "firmware", broken).want(t, http.StatusUnprocessableEntity).has(t, `role="alert"`, "Upload firmware", "<b>1.1.0</b>")
	admin.post(t, path, nil).want(t, http.StatusUnprocessableEntity).has(t, "must be sent as a file")
}
