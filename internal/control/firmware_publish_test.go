package control_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// queue remembers what was given to do.
type queue struct {
	mu  sync.Mutex
	ids []int64
}

func (q *queue) FirmwareUploaded(_ context.Context, id int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids = append(q.ids, id)
	return errors.New("the queue is down") // which must not fail the upload
}

func TestPublishFirmware(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	q := &queue{}
	h.SetJobs(q)
	s := h.a.as(fleet.RoleManage)
	fw := archive(t, "alpha-sensor", "2.0.0", h.key, `meta-author = "Ann"`, `meta-vcs-identifier = "abc"`)
	f, err := h.PublishFirmware(t.Context(), s, "alpha-sensor", iotest.OneByteReader(bytes.NewReader(fw)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(fw)
	if f.Version != "2.0.0" || f.Product != "alpha-sensor" || f.Platform != "rpi4" || f.Architecture != "arm" || f.Author != "Ann" || f.VCSIdentifier != "abc" ||
		f.Size != int64(len(fw)) || f.SHA256 != hex.EncodeToString(sum[:]) || f.Status != fleet.FirmwareProcessing || f.SigningKeyID != h.signer.ID || len(f.UUID) != 36 {
		t.Errorf("published %+v", f)
	}
	if got, err := h.Firmware(t.Context(), s, "alpha-sensor", f.UUID); err != nil || got.ID != f.ID {
		t.Errorf("read %+v, %v", got, err)
	}
	if files := h.files(t); !reflect.DeepEqual(files, []string{f.BlobKey()}) {
		t.Errorf("files %v, want %s alone", files, f.BlobKey())
	}
	kept, err := os.ReadFile(h.blobDir + "/" + f.BlobKey())
	if err != nil || !bytes.Equal(kept, fw) {
		t.Errorf("the bytes kept differ: %v", err)
	}
	if !reflect.DeepEqual(q.ids, []int64{f.ID}) {
		t.Errorf("work given: %v", q.ids)
	}

	// The same bytes again: refused, and what is there stays.
	_, err = h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(fw))
	wantKind(t, "the same firmware", err, fleet.Conflict, "uuid")
	if files := h.files(t); !reflect.DeepEqual(files, []string{f.BlobKey()}) {
		t.Errorf("files %v after the second upload", files)
	}
	yes := true
	if _, err := h.UpdateProduct(t.Context(), s, "alpha-sensor", fleet.ProductUpdate{RequireUniqueFirmwareVersion: &yes}); err != nil {
		t.Fatal(err)
	}
	_, err = h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key, `meta-author = "Bob"`)))
	wantKind(t, "the same version", err, fleet.Conflict, "version")
	if err := h.DeleteFirmware(t.Context(), s, "alpha-sensor", f.UUID); err != nil {
		t.Fatal(err)
	}
	if files := h.files(t); len(files) != 0 {
		t.Errorf("files %v after the removal", files)
	}
}

// TestRefusedFirmware uploads everything that is not to be trusted. Each
// refusal names the field and the reason, and leaves nothing behind.
func TestRefusedFirmware(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, foreign, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := archive(t, "alpha-sensor", "2.0.0", h.key)
	at := func(i int) []byte {
		b := bytes.Clone(good)
		b[(i+len(b))%len(b)] ^= 0x40
		return b
	}
	members := func(change func(w *zip.Writer, files []*zip.File)) []byte { return rezip(t, good, change) }
	copyAll := func(w *zip.Writer, files []*zip.File) {
		for _, f := range files {
			if err := w.Copy(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, c := range map[string]struct {
		r      io.Reader
		kind   fleet.Kind
		field  string
		reason string
	}{
		"unsigned":                       {bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", nil)), fleet.Invalid, "firmware", "not signed"},
		"signed by others":               {bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", foreign)), fleet.Invalid, "firmware", "not signed by a key of this org"},
		"of another product":             {bytes.NewReader(archive(t, "beta-sensor", "2.0.0", h.key)), fleet.Invalid, "product", "beta-sensor"},
		"of no version":                  {bytes.NewReader(archive(t, "alpha-sensor", "two", h.key)), fleet.Invalid, "version", "semantic"},
		"empty":                          {strings.NewReader(""), fleet.Invalid, "firmware", ""},
		"no archive":                     {strings.NewReader(strings.Repeat("no archive ", 1000)), fleet.Invalid, "firmware", ""},
		"cut in the middle":              {bytes.NewReader(good[:len(good)/2]), fleet.Invalid, "firmware", ""},
		"cut at the end":                 {bytes.NewReader(good[:len(good)-1]), fleet.Invalid, "firmware", ""},
		"followed by more":               {bytes.NewReader(append(bytes.Clone(good), "more"...)), fleet.Invalid, "firmware", ""},
		"changed in the signature":       {bytes.NewReader(at(100)), fleet.Invalid, "firmware", ""},
		"changed in its description":     {bytes.NewReader(at(300)), fleet.Invalid, "firmware", ""},
		"changed in its content":         {bytes.NewReader(at(500)), fleet.Invalid, "firmware", ""},
		"changed in the list at the end": {bytes.NewReader(at(-40)), fleet.Invalid, "firmware", ""},
		"a member twice": {bytes.NewReader(members(func(w *zip.Writer, files []*zip.File) {
			copyAll(w, append(files, files[len(files)-1]))
		})), fleet.Invalid, "firmware", ""},
		"a member too many": {bytes.NewReader(members(func(w *zip.Writer, files []*zip.File) {
			copyAll(w, files)
			if _, err := w.Create("data/extra"); err != nil {
				t.Fatal(err)
			}
		})), fleet.Invalid, "firmware", ""},
		"a member missing": {bytes.NewReader(members(func(w *zip.Writer, files []*zip.File) {
			copyAll(w, files[:len(files)-1])
		})), fleet.Invalid, "firmware", ""},
		"interrupted":   {io.MultiReader(bytes.NewReader(good[:200]), iotest.ErrReader(io.ErrUnexpectedEOF)), fleet.Invalid, "firmware", "ended before"},
		"not permitted": {iotest.ErrReader(fleet.Errorf(fleet.TooLarge, "the request is too large")), fleet.TooLarge, "", "request"},
	} {
		h.refusesFirmware(t, what, c.r, c.kind, c.field, c.reason)
	}
	small := newHouse(t, func(o *control.Options) { o.MaxFirmware = int64(len(good)) - 1 })
	small.refusesFirmware(t, "too large", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", small.key)), fleet.TooLarge, "", "bytes")
	stopped, cancel := context.WithCancel(t.Context())
	_, err = h.PublishFirmware(stopped, h.a.as(fleet.RoleManage), "alpha-sensor", io.MultiReader(bytes.NewReader(good[:100]), hook(cancel), bytes.NewReader(good[100:])))
	if !errors.Is(err, context.Canceled) || len(h.files(t)) != 0 {
		t.Errorf("cancelled: %v, files %v", err, h.files(t))
	}
	// The same bytes that were refused in pieces are good as a whole.
	if _, err := h.PublishFirmware(t.Context(), h.a.as(fleet.RoleManage), "alpha-sensor", bytes.NewReader(good)); err != nil {
		t.Error(err)
	}
}

// refusesFirmware uploads what must be refused, and checks that nothing
// remains of it.
func (h *house) refusesFirmware(t *testing.T, what string, r io.Reader, kind fleet.Kind, field, reason string) {
	t.Helper()
	before, files := storetest.Contents(t, h.db), h.files(t)
	f, err := h.PublishFirmware(t.Context(), h.a.as(fleet.RoleManage), "alpha-sensor", r)
	wantKind(t, what, err, kind, field)
	if f.ID != 0 || f.UUID != "" {
		t.Errorf("%s: gave %+v", what, f)
	}
	if text := fleet.MessageOf(err); text == "" || !strings.Contains(text, reason) {
		t.Errorf("%s: the message %q does not say %q", what, text, reason)
	}
	if after := storetest.Contents(t, h.db); after != before {
		t.Errorf("%s: rows remain", what)
	}
	if now := h.files(t); !reflect.DeepEqual(now, files) {
		t.Errorf("%s: files remain: %v", what, now)
	}
}

// rezip writes the members of an archive anew.
func rezip(t *testing.T, fw []byte, change func(w *zip.Writer, files []*zip.File)) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(fw), int64(len(fw)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	change(w, r.File)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// hook is a reader of nothing that does something first.
type hook func()

func (h hook) Read([]byte) (int, error) {
	h()
	return 0, io.EOF
}

// weakBlob fails where it is told to, as a full disk or a network does.
type weakBlob struct {
	blob.Store
	stage, write, commit error
}

type weakStaged struct {
	blob.Staged
	write, commit error
	room          int
}

func (b weakBlob) Stage(ctx context.Context) (blob.Staged, error) {
	if b.stage != nil {
		return nil, b.stage
	}
	staged, err := b.Store.Stage(ctx)
	return &weakStaged{Staged: staged, write: b.write, commit: b.commit, room: 300}, err
}

func (s *weakStaged) Write(p []byte) (int, error) {
	if s.room -= len(p); s.room < 0 && s.write != nil {
		return 0, s.write
	}
	return s.Staged.Write(p)
}

func (s *weakStaged) Commit(ctx context.Context, key string) error {
	if s.commit != nil {
		return s.commit
	}
	return s.Staged.Commit(ctx, key)
}

func TestFirmwareCanNotBeStored(t *testing.T) {
	t.Parallel()
	full := fleet.Errorf(fleet.Unavailable, "the disk is full")
	for what, weak := range map[string]weakBlob{"at the start": {stage: full}, "half-way": {write: full}, "at the end": {commit: full}} {
		h := newHouse(t, func(o *control.Options) {
			weak.Store = o.Blob
			o.Blob = weak
		})
		h.refusesFirmware(t, what, bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key)), fleet.Unavailable, "", "disk is full")
	}
	h := newHouse(t)
	if err := os.RemoveAll(h.blobDir); err != nil {
		t.Fatal(err)
	}
	h.refusesFirmware(t, "a directory that is gone", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key)), fleet.Unavailable, "", "")
}

// TestFirmwareWithoutAKey uploads to an org that trusts nobody.
func TestFirmwareWithoutAKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.b.as(fleet.RoleManage)
	h.update(t, func(tx *store.Tx) error { return tx.CreateProduct(s, &fleet.Product{Name: "alpha-sensor"}) })
	_, err := h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key)))
	wantKind(t, "an org without a key", err, fleet.Invalid, "firmware")
}

// TestSameFirmwareInTwoOrgs keeps the bytes as long as one of them needs them.
func TestSameFirmwareInTwoOrgs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	fw := archive(t, "alpha-sensor", "2.0.0", h.key)
	a, b := h.a.as(fleet.RoleManage), h.b.as(fleet.RoleManage)
	h.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.CreateProduct(b, &fleet.Product{Name: "alpha-sensor"}), tx.CreateSigningKey(b, &fleet.SigningKey{Name: "k", Key: h.signer.Key}))
	})
	var f fleet.Firmware
	for _, s := range []fleet.Scope{a, b} {
		var err error
		if f, err = h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(fw)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		s    fleet.Scope
		want []string
	}{{a, []string{f.BlobKey()}}, {b, nil}} {
		if err := h.DeleteFirmware(t.Context(), c.s, "alpha-sensor", f.UUID); err != nil {
			t.Fatal(err)
		}
		if files := h.files(t); !reflect.DeepEqual(files, c.want) {
			t.Errorf("files %v, want %v", files, c.want)
		}
	}
}

// TestSameBytesAtTheSameTime lets two orgs publish and delete the same bytes
// again and again: what one of them has published stays until it deletes it.
func TestSameBytesAtTheSameTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	fw := archive(t, "alpha-sensor", "2.0.0", h.key)
	a, b := h.a.as(fleet.RoleManage), h.b.as(fleet.RoleManage)
	h.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.CreateProduct(b, &fleet.Product{Name: "alpha-sensor"}), tx.CreateSigningKey(b, &fleet.SigningKey{Name: "k", Key: h.signer.Key}))
	})
	var both sync.WaitGroup
	for _, s := range []fleet.Scope{a, b} {
		both.Go(func() {
			for range 60 {
				f, err := h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(fw))
				if fleet.KindOf(err) == fleet.Unavailable {
					continue // it says so, and is tried again
				}
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(h.blobDir + "/" + f.BlobKey()); err != nil {
					t.Errorf("the bytes of what was published are gone: %v", err)
				}
				if err := h.DeleteFirmware(t.Context(), s, "alpha-sensor", f.UUID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if files := h.files(t); len(files) != 0 {
		t.Errorf("files %v are left", files)
	}
}
