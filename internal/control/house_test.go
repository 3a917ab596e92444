package control_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// platform is the system's own scope.
var platform = fleet.SystemScope("test")

// house is a control plane on real parts, with an org that has one of
// everything and another that has members only.
type house struct {
	*control.Control
	db      *store.DB
	bus     *bus.Bus
	blobDir string
	keyring *auth.Keyring
	key     fwup.PrivateKey // signs firmware of the org a

	a, b tenant

	product  fleet.Product
	secret   fleet.SharedSecret
	signer   fleet.SigningKey
	spareKey fleet.SigningKey
	ca       *pki.KeyPair
	cert     *pki.KeyPair
	serial   string
	firmware [3]fleet.Firmware // 0: unused; 1: of the group; 2: unused, same bytes as nobody's
	group    fleet.DeploymentGroup
	device   fleet.Device
	identity int64 // a network identity of the device
	token    fleet.Token
	loner    fleet.User // in no org
	archive  []byte     // a firmware to publish, where a test needs one

	mu  sync.Mutex
	now time.Time
}

// tenant is an org with a member of each role.
type tenant struct {
	org   fleet.Org
	users map[fleet.Role]fleet.User
}

// as is the scope of the member with the role.
func (o tenant) as(role fleet.Role) fleet.Scope {
	return fleet.MemberScope(o.users[role], fleet.Membership{OrgID: o.org.ID, Role: role})
}

const maxFirmware = 1 << 20

func newHouse(t *testing.T, change ...func(*control.Options)) *house {
	t.Helper()
	h := &house{now: time.Now(), blobDir: filepath.Join(t.TempDir(), "blob")}
	h.db = storetest.SQLite(t, storetest.Clock(h.time))
	var err error
	if h.bus, err = bus.Open(t.Context(), bus.Options{}); err != nil {
		t.Fatal(err)
	}
	local, err := blob.OpenLocal(h.blobDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.bus.Close(), local.Close()); err != nil {
			t.Error(err)
		}
	})
	if h.keyring, err = auth.NewKeyring(bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	o := control.Options{Store: h.db, Blob: local, Bus: h.bus, Keyring: h.keyring, Signer: h.keyring.URLSigner(), Clock: h.time,
		BaseURL: func() string { return "http://server.example" }, MaxFirmware: maxFirmware}
	for _, c := range change {
		c(&o)
	}
	h.Control = control.New(o)
	h.fill(t)
	return h
}

func (h *house) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) update(t *testing.T, fn func(*store.Tx) error) {
	t.Helper()
	if err := h.db.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (h *house) fill(t *testing.T) {
	t.Helper()
	pub, key, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h.key = key
	if h.ca, err = pki.CreateCA("alpha CA"); err != nil {
		t.Fatal(err)
	}
	if h.cert, err = pki.IssueDeviceCertificate(h.ca, "alpha-unit"); err != nil {
		t.Fatal(err)
	}
	h.update(t, func(tx *store.Tx) error {
		h.loner = fleet.User{Email: "loner@example.com"}
		if err := errors.Join(tx.CreateUser(&h.loner), h.a.fill(tx, "alpha"), h.b.fill(tx, "beta")); err != nil {
			return err
		}
		s := h.a.as(fleet.RoleAdmin)
		h.product = fleet.Product{Name: "alpha-sensor", Extensions: fleet.DefaultExtensions}
		h.signer = fleet.SigningKey{Name: "alpha-key", Key: fwup.FormatPublicKey(pub)}
		h.spareKey = fleet.SigningKey{Name: "alpha-spare", Key: fwup.FormatPublicKey(bytes.Repeat([]byte{5}, 32))}
		h.token = fleet.Token{UserID: h.a.users[fleet.RoleAdmin].ID, Kind: fleet.TokenAPI, Hash: []byte("x"), Note: "alpha-token"}
		if err := errors.Join(tx.CreateProduct(s, &h.product), tx.CreateSigningKey(s, &h.signer), tx.CreateSigningKey(s, &h.spareKey), tx.CreateToken(&h.token)); err != nil {
			return err
		}
		for i := range h.firmware {
			h.firmware[i] = fleet.Firmware{ProductID: h.product.ID, SigningKeyID: h.signer.ID, Status: fleet.FirmwareReady, Size: 3, SHA256: fmt.Sprint("sum", i),
				FirmwareMetadata: fleet.FirmwareMetadata{UUID: fmt.Sprint("alpha-fw-", i), Product: "alpha-sensor", Version: fmt.Sprintf("1.%d.0", i), Platform: "rpi4", Architecture: "arm"}}
			if i == 2 {
				h.firmware[i].Status = fleet.FirmwareProcessing
			}
			if err := tx.CreateFirmware(s, &h.firmware[i]); err != nil {
				return err
			}
		}
		h.group = fleet.DeploymentGroup{ProductID: h.product.ID, Name: "alpha-group", Platform: "rpi4", Architecture: "arm", ConcurrentUpdates: 1,
			FailureThreshold: 1, FailureWindow: time.Hour, Penalty: time.Hour, Conditions: fleet.Conditions{TagOperator: fleet.TagsAnd}}
		if err := tx.CreateDeploymentGroup(s, &h.group); err != nil {
			return err
		}
		rel := fleet.Release{ProductID: h.product.ID, GroupID: h.group.ID, FirmwareID: h.firmware[1].ID}
		if err := tx.CreateRelease(s, &rel); err != nil {
			return err
		}
		h.device = fleet.Device{ProductID: h.product.ID, Identifier: "alpha-unit", UpdatesEnabled: true}
		if err := errors.Join(tx.SetCurrentRelease(s, h.group.ID, rel.ID), tx.CreateDevice(s, &h.device)); err != nil {
			return err
		}
		pending := fleet.Device{ProductID: h.product.ID, Identifier: "alpha-pending", Admission: fleet.Pending}
		note := fleet.Notification{ProductID: h.product.ID, Kind: fleet.NotifyPending, Title: "alpha-pending waits"}
		if err := errors.Join(tx.CreateDevice(s, &pending), tx.SaveNotification(s, &note)); err != nil {
			return err
		}
		name := fleet.NetworkIdentity{OrgID: h.a.org.ID, ProductID: h.product.ID, DeviceID: h.device.ID, Service: "iroh", Identifier: "alpha-key", Instance: "default", Details: "{}"}
		if err := tx.CreateNetworkIdentity(s, &name); err != nil {
			return err
		}
		h.identity = name.ID
		files := fleet.Archive{ProductID: h.product.ID, SigningKeyID: h.signer.ID, Size: 3, SHA256: "alphasum",
			FirmwareMetadata: fleet.FirmwareMetadata{UUID: "alpha-archive", Product: "alpha-sensor", Version: "1.0.0"}}
		script := fleet.Script{ProductID: h.product.ID, Name: "alpha-script", Text: "1+1"}
		if err := errors.Join(tx.CreateArchive(s, &files), tx.CreateScript(s, &script)); err != nil {
			return err
		}
		return h.trust(tx, s)
	})
	// A secret, made as people make them.
	if h.secret, err = h.CreateSharedSecret(t.Context(), h.a.as(fleet.RoleManage), "alpha-sensor", "alpha-line"); err != nil {
		t.Fatal(err)
	}
}

// trust registers the authority and the certificate, and connects the device.
func (h *house) trust(tx *store.Tx, s fleet.Scope) error {
	ca, err := pki.CACertificate(h.ca.Certificate)
	if err != nil {
		return err
	}
	cert := pki.DeviceCertificate(h.cert.Certificate)
	cert.DeviceID, h.serial = h.device.ID, cert.Serial
	if err := errors.Join(tx.CreateCACertificate(s, &ca), tx.CreateDeviceCertificate(s, &cert)); err != nil {
		return err
	}
	_, err = tx.SaveConnections(platform, []store.ConnectionChange{{Opened: true, Connection: fleet.Connection{
		DeviceID: h.device.ID, OrgID: h.a.org.ID, ProductID: h.product.ID, UUID: "c1", Node: "n1", Status: fleet.Connected, EstablishedAt: time.Now()}}})
	return err
}

func (o *tenant) fill(tx *store.Tx, name string) error {
	o.org, o.users = fleet.Org{Name: name}, map[fleet.Role]fleet.User{}
	if err := tx.CreateOrg(&o.org); err != nil {
		return err
	}
	for _, role := range []fleet.Role{fleet.RoleAdmin, fleet.RoleManage, fleet.RoleView} {
		u := fleet.User{Email: string(role) + "@" + name + ".example"}
		if err := tx.CreateUser(&u); err != nil {
			return err
		}
		o.users[role] = u
		if err := tx.CreateMembership(o.as(fleet.RoleAdmin), &fleet.Membership{OrgID: o.org.ID, UserID: u.ID, Role: role}); err != nil {
			return err
		}
	}
	return nil
}

// archive makes a firmware of the version for a product, signed with key
// unless that is nil.
func archive(t *testing.T, product, version string, key fwup.PrivateKey, more ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf("meta-product = %q\nmeta-version = %q\nmeta-platform = \"rpi4\"\nmeta-architecture = \"arm\"\n%s\n"+
		"file-resource a.bin { host-path = \"a.bin\" }\ntask complete { on-resource a.bin { raw_write(0) } }\n", product, version, strings.Join(more, "\n"))
	path := filepath.Join(dir, "fwup.conf")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "a.bin"), bytes.Repeat([]byte(version), 5000), 0o600), os.WriteFile(path, []byte(conf), 0o600)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := fwup.Create(t.Context(), &out, fwup.CreateOptions{ConfigPath: path, PrivateKey: key, Time: time.Unix(1_700_000_000, 0), Level: 1}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contents are the rows of the database, a line each.
func (h *house) contents(t *testing.T) []string {
	t.Helper()
	return strings.Split(storetest.Contents(t, h.db), "\n")
}

// events are all audit rows of all orgs, newest first.
func (h *house) events(t *testing.T) (list []fleet.AuditEvent) {
	t.Helper()
	if err := h.db.View(context.Background(), func(tx *store.Tx) (err error) {
		list, _, err = tx.ListAuditEvents(platform, fleet.AuditFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func (h *house) lastEvent(t *testing.T) int64 {
	t.Helper()
	if list := h.events(t); len(list) > 0 {
		return list[0].ID
	}
	return 0
}

func (h *house) eventsAfter(t *testing.T, id int64) []fleet.AuditEvent {
	t.Helper()
	return slices.DeleteFunc(h.events(t), func(e fleet.AuditEvent) bool { return e.ID <= id })
}

// files are the paths of all files in the blob store.
func (h *house) files(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(h.blobDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, h.blobDir+"/"))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// wantKind checks the kind, and the field when one is given.
func wantKind(t testing.TB, what string, err error, kind fleet.Kind, field ...string) {
	t.Helper()
	if got := fleet.KindOf(err); got != kind {
		t.Errorf("%s: error %v has the kind %q, want %q", what, err, got, kind)
	}
	if len(field) > 0 && fleet.FieldOf(err) != field[0] {
		t.Errorf("%s: error %v is about the field %q, want %q", what, err, fleet.FieldOf(err), field[0])
	}
}
