package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// rig is a queue with the real parts around it.
type rig struct {
	*Jobs
	db      *store.DB
	blobs   blob.Store
	changes chan fleet.Change
	org     fleet.Org
	product fleet.Product
	key     fleet.SigningKey
	now     time.Time
}

var system = fleet.SystemScope("test")

func newRig(t *testing.T, db *store.DB) *rig {
	t.Helper()
	r := &rig{db: db, changes: make(chan fleet.Change, 1000), now: time.Now().UTC()}
	var err error
	if r.blobs, err = blob.OpenLocal(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if _, err := b.OnChange(0, func(c fleet.Change) { r.changes <- c }); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	ring, err := auth.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	c := control.New(control.Options{Store: db, Blob: r.blobs, Bus: b, Keyring: ring, Signer: ring.URLSigner(), Logger: log, BaseURL: func() string { return "http://localhost" }})
	r.Jobs, err = New(Options{Store: db, Blob: r.blobs, Control: c, Logger: log, Clock: func() time.Time { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.update(t, func(tx *store.Tx) error {
		r.org = fleet.Org{Name: "acme"}
		err := tx.CreateOrg(&r.org)
		if err == nil {
			r.product = fleet.Product{OrgID: r.org.ID, Name: "sensor"}
			err = tx.CreateProduct(system.In(r.org.ID), &r.product)
		}
		if err == nil {
			r.key = fleet.SigningKey{OrgID: r.org.ID, Name: "key", Key: "k"}
			err = tx.CreateSigningKey(system.In(r.org.ID), &r.key)
		}
		return err
	})
	return r
}

func (r *rig) update(t *testing.T, fn func(*store.Tx) error) {
	t.Helper()
	if err := r.db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// firmware stores bytes and the row of a firmware that is not ready.
func (r *rig) firmware(t *testing.T, uuid string, data []byte) fleet.Firmware {
	t.Helper()
	sum := sha256.Sum256(data)
	f := fleet.Firmware{
		OrgID: r.org.ID, ProductID: r.product.ID, SigningKeyID: r.key.ID, Status: fleet.FirmwareProcessing,
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: uuid, Product: "sensor", Version: "1.0.0", Platform: "board", Architecture: "arm"},
	}
	staged, err := r.blobs.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := staged.Commit(t.Context(), f.BlobKey()); err != nil {
		t.Fatal(err)
	}
	r.update(t, func(tx *store.Tx) error { return tx.CreateFirmware(system.In(r.org.ID), &f) })
	return f
}

func (r *rig) read(t *testing.T, id int64) (f fleet.Firmware) {
	t.Helper()
	err := r.db.View(t.Context(), func(tx *store.Tx) (err error) {
		f, err = tx.Firmware(system, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run runs the queue until the test ends.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return stop
}

// awaitReady waits until the firmware's change is told.
func (r *rig) awaitReady(t *testing.T, id int64) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case c := <-r.changes:
			if c.Action == "firmware.process" && c.ID == id {
				return
			}
		case <-deadline:
			t.Fatal("the firmware was not made ready")
		}
	}
}

func bytesOf(t *testing.T, n int) []byte {
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

func wantParts(data []byte) (parts []string) {
	for part := range slices.Chunk(data, fleet.PartSize) {
		sum := sha256.Sum256(part)
		parts = append(parts, hex.EncodeToString(sum[:]))
	}
	return parts
}

func TestFirmwareIsMadeReady(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRig(t, db)
		r.run(t)
		for i, size := range []int{1, fleet.PartSize - 1, fleet.PartSize, fleet.PartSize + 1, 3*fleet.PartSize + 77} {
			data := bytesOf(t, size)
			f := r.firmware(t, "uuid-"+string(rune('a'+i)), data)
			if err := r.FirmwareUploaded(t.Context(), f.ID); err != nil {
				t.Fatal(err)
			}
			r.awaitReady(t, f.ID)
			got := r.read(t, f.ID)
			if got.Status != fleet.FirmwareReady || !slices.Equal(got.PartSHA256, wantParts(data)) {
				t.Errorf("%d bytes: status %s, parts %v", size, got.Status, got.PartSHA256)
			}
		}
	})
}

func TestFirmwareLeftBehindIsFound(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRig(t, db)
		f := r.firmware(t, "uuid-left", []byte("left behind"))
		r.now = r.now.Add(2 * lateAfter)
		r.run(t) // sweeps run at the start
		r.awaitReady(t, f.ID)
	})
}

func TestFirmwareProcessedTwiceChangesNothing(t *testing.T) {
	r := newRig(t, storetest.SQLite(t))
	data := bytes.Repeat([]byte("x"), fleet.PartSize+5)
	f := r.firmware(t, "uuid-twice", data)
	for range 2 {
		if err := r.processFirmware(t.Context(), f.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.awaitReady(t, f.ID)
	select {
	case c := <-r.changes:
		t.Errorf("a second change: %+v", c)
	default:
	}
	if err := r.processFirmware(t.Context(), 4711); err != nil {
		t.Errorf("a firmware that is gone: %v", err)
	}
}

func TestSpoiltBytesAreRefused(t *testing.T) {
	r := newRig(t, storetest.SQLite(t))
	f := r.firmware(t, "uuid-good", []byte("good bytes"))
	f.SHA256 = hex.EncodeToString(make([]byte, 32))
	staged, err := r.blobs.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Write([]byte("other bytes")); err != nil {
		t.Fatal(err)
	}
	if err := staged.Commit(t.Context(), f.BlobKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := partChecksums(t.Context(), r.blobs, f); fleet.KindOf(err) != fleet.Internal {
		t.Errorf("got %v", err)
	}
}

// What is too old goes, in more than one batch; what is not stays.
func TestSweepsRemoveWhatIsOld(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRig(t, db)
		s := system.In(r.org.ID)
		old, recent := r.now.Add(-2*DefaultKeepAudit), r.now.Add(-time.Hour)
		d := fleet.Device{OrgID: r.org.ID, ProductID: r.product.ID, Identifier: "d1"}
		r.update(t, func(tx *store.Tx) error { return tx.CreateDevice(s, &d) })
		for _, ended := range []time.Time{old, recent} {
			r.update(t, func(tx *store.Tx) error {
				return tx.CreateUpdateAttempt(s, &fleet.UpdateAttempt{
					OrgID: r.org.ID, ProductID: r.product.ID, DeviceID: d.ID, TargetUUID: "u", State: fleet.AttemptFailed, OfferedAt: ended, FinishedAt: ended,
				})
			})
		}
		r.update(t, func(tx *store.Tx) error {
			u := fleet.User{Email: "a@example.com", Name: "a", PasswordHash: "x"}
			if err := tx.CreateUser(&u); err != nil {
				return err
			}
			for i, expires := range []time.Time{old, r.now.Add(time.Hour)} {
				token := fleet.Token{UserID: u.ID, Kind: fleet.TokenSession, Hash: []byte{byte(i)}, ExpiresAt: expires}
				if err := tx.CreateToken(&token); err != nil {
					return err
				}
			}
			for range sweepBatch + 10 {
				if err := tx.CreateAuditEvent(s, &fleet.AuditEvent{OrgID: r.org.ID, Action: "device.create", Noun: "device"}); err != nil {
					return err
				}
			}
			return nil
		})
		work := func(what string) {
			t.Helper()
			w := sweepWorker{jobs: r.Jobs}
			if err := w.Work(t.Context(), &river.Job[sweepArgs]{Args: sweepArgs{What: what}}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		events := func() (n int) {
			r.update(t, func(tx *store.Tx) error {
				list, _, err := tx.ListAuditEvents(s, fleet.AuditFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
				n = len(list)
				return err
			})
			return n
		}
		for _, s := range allSweeps {
			work(s.what)
		}
		work("a sweep of another version")
		if n := events(); n != sweepBatch+10 {
			t.Errorf("%d events of today are left", n)
		}
		notes := func() (n int) {
			r.update(t, func(tx *store.Tx) error {
				list, _, err := tx.ListNotifications(s, r.product.ID, fleet.Page{})
				if err != nil {
					return err
				}
				refused, err := tx.RefusalsOf(s, "d1")
				n = len(list) + len(refused)
				return err
			})
			return n
		}
		r.update(t, func(tx *store.Tx) error {
			refusal := fleet.Refusal{OrgID: r.org.ID, Identifier: "d1", Code: fleet.RefusedPending, Count: 1, LastAt: r.now}
			return errors.Join(tx.SaveNotification(s, &fleet.Notification{ProductID: r.product.ID, Title: "t"}), tx.SaveRefusals(system, []fleet.Refusal{refusal}))
		})
		work("notifications")
		work("device_refusals")
		if n := notes(); n != 2 {
			t.Errorf("%d notes of today are left", n)
		}
		r.now = r.now.Add(DefaultKeepAudit + time.Hour)
		work("notifications")
		work("device_refusals")
		if n := notes(); n != 0 {
			t.Errorf("%d old notes are left", n)
		}
		work("audit_events")
		if n := events(); n != 0 {
			t.Errorf("%d old events are left", n)
		}
		r.update(t, func(tx *store.Tx) error {
			list, _, err := tx.ListUpdateAttempts(s, fleet.UpdateAttemptFilter{DeviceID: d.ID})
			if len(list) != 1 || !list[0].FinishedAt.Equal(recent.Truncate(time.Microsecond)) {
				t.Errorf("attempts that are left: %+v", list)
			}
			if err != nil {
				return err
			}
			user, err := tx.UserByEmail("a@example.com")
			if err != nil {
				return err
			}
			tokens, err := tx.ListTokens(user.ID)
			if len(tokens) != 1 {
				t.Errorf("%d tokens are left", len(tokens))
			}
			return err
		})
	})
}

func TestAbandonedUploadsAreRemoved(t *testing.T) {
	r := newRig(t, storetest.SQLite(t))
	staged, err := r.blobs.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(keepStaged + time.Hour)
	if err := r.sweepUploads(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := r.blobs.DeleteStagedBefore(t.Context(), r.now); n != 0 || err != nil {
		t.Errorf("%d uploads were left, %v", n, err)
	}
}

// A process that ends in the middle of a job leaves it to the next.
func TestWorkSurvivesARestart(t *testing.T) {
	r := newRig(t, storetest.SQLite(t))
	f := r.firmware(t, "uuid-later", []byte("later"))
	if err := r.FirmwareUploaded(t.Context(), f.ID); err != nil { // nothing runs yet
		t.Fatal(err)
	}
	next, err := New(Options{Store: r.db, Blob: r.blobs, Control: r.control, Logger: r.log, Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	r.Jobs = next
	r.run(t)
	r.awaitReady(t, f.ID)
}
