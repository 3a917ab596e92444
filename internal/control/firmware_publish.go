package control

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/ganglion-iot/ganglion/elixirver"
	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// PublishFirmware takes a signed firmware archive in one pass: the bytes go to
// the blob store while signature and hashes are verified in stream order, as
// devices do. Nothing is kept unless all of it is good.
func (c *Control) PublishFirmware(ctx context.Context, s fleet.Scope, product string, r io.Reader) (f fleet.Firmware, err error) {
	err = c.receive(ctx, s, product, "firmware", r, func(p fleet.Product, up *upload) error {
		m, err := describe(up.info, p, "firmware", "product", "version", "platform", "architecture")
		if err != nil {
			return err
		}
		f = fleet.Firmware{
			ProductID: p.ID, FirmwareMetadata: m, Status: fleet.FirmwareProcessing, Nickname: up.info.Nickname, FwupVersion: up.info.FwupVersion,
			SigningKeyID: up.key.ID, CreatedBy: userID(s), CreatedByName: s.Actor.Name, Size: up.size, SHA256: up.sha256(),
		}
		if err := c.store.View(ctx, func(tx *store.Tx) error { return isNew(tx, s, p, f) }); err != nil {
			return err
		}
		if err := up.staged.Commit(ctx, f.BlobKey()); err != nil {
			return up.storageError(err)
		}
		f, err = c.recordFirmware(ctx, s, p, f)
		return err
	})
	if err != nil {
		return fleet.Firmware{}, err
	}
	return f, nil
}

// receive takes a file signed by a key of the org in one pass, and hands it to
// keep once all of it was found good. What keep does not commit is not kept.
// noun is what the file is to be, in the words of errors.
func (c *Control) receive(ctx context.Context, s fleet.Scope, product, noun string, r io.Reader, keep func(fleet.Product, *upload) error) error {
	if err := s.Require(fleet.RoleManage); err != nil {
		return err
	}
	var p fleet.Product
	var keys []fleet.SigningKey
	err := c.store.View(ctx, func(tx *store.Tx) (err error) {
		if p, err = tx.ProductByName(s, product); err != nil {
			return err
		}
		keys, err = tx.ListSigningKeys(s)
		return err
	})
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fleet.InvalidField(noun, "can not be trusted: the org has no signing key").WithHint("add the public key the " + noun + " is signed with")
	}
	up := &upload{ctx: ctx, noun: noun, source: r, most: c.maxFirmware}
	if up.staged, err = c.blob.Stage(ctx); err != nil {
		return up.storageError(err)
	}
	defer func() {
		if e := up.staged.Abort(); e != nil {
			c.log.Warn("an upload was left behind", "error", e)
		}
	}()
	if up.info, up.key, err = up.verify(keys); err != nil {
		return err
	}
	return keep(p, up)
}

// storageError is why bytes could not be stored. That a place for them is gone
// is not the caller's fault, and not what NotFound says.
func (u *upload) storageError(err error) error {
	if fleet.KindOf(err) == fleet.NotFound {
		return &fleet.Error{Kind: fleet.Unavailable, Message: "the " + u.noun + " can not be stored right now", Hint: "see whether the server's data directory is there", Err: err}
	}
	return err
}

// upload reads an archive once, for the verifier, the blob store and the sum.
type upload struct {
	ctx    context.Context
	noun   string
	source io.Reader
	most   int64
	staged interface {
		io.Writer
		Commit(ctx context.Context, key string) error
		Abort() error
	}
	sum  hashWriter
	size int64
	err  error // why reading or storing failed, which is not the archive's fault

	info *fwup.Info       // once it is verified
	key  fleet.SigningKey // that signed it
}

// sha256 is the sum of all that was read, in lower hex.
func (u *upload) sha256() string { return hex.EncodeToString(u.sum.Sum(nil)) }

type hashWriter interface {
	io.Writer
	Sum(b []byte) []byte
}

func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.err = u.ctx.Err(); u.err != nil {
		return 0, u.err
	}
	n, err := u.source.Read(p)
	if u.size += int64(n); u.size > u.most {
		u.err = fleet.Errorf(fleet.TooLarge, "the %s has more than %d bytes", u.noun, u.most)
		return 0, u.err
	}
	if _, e := u.staged.Write(p[:n]); e != nil {
		u.err = u.storageError(e)
		return 0, u.err
	}
	u.sum.Write(p[:n]) //nolint:errcheck // a hash never fails
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = u.sourceError(err)
		return n, u.err
	}
	return n, err
}

// sourceError gives the failure of whoever sends the bytes a kind.
func (u *upload) sourceError(err error) error {
	var known *fleet.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fleet.Error{Kind: fleet.Invalid, Field: u.noun, Message: "the upload ended before all of it had arrived", Hint: "try again", Err: err}
}

// verify checks the whole stream against the keys and returns what the archive
// says, and the key that signed it.
func (u *upload) verify(keys []fleet.SigningKey) (*fwup.Info, fleet.SigningKey, error) {
	u.sum = sha256.New()
	var trusted []ed25519.PublicKey
	for _, k := range keys {
		pub, err := fwup.ParsePublicKey([]byte(k.Key))
		if err != nil {
			return nil, fleet.SigningKey{}, fmt.Errorf("signing key %s: %w", k.Name, err)
		}
		trusted = append(trusted, pub)
	}
	info, err := fwup.Verify(u.ctx, u, fwup.VerifyOptions{PublicKeys: trusted, Strict: true})
	if u.err != nil {
		return nil, fleet.SigningKey{}, u.err
	}
	if err != nil {
		return nil, fleet.SigningKey{}, u.archiveError(err)
	}
	for i, pub := range trusted {
		if pub.Equal(info.Key) {
			return info, keys[i], nil
		}
	}
	return nil, fleet.SigningKey{}, fleet.InvalidField(u.noun, "is not signed by a key of this org")
}

// archiveError says what is wrong with an archive in the words of people.
func (u *upload) archiveError(err error) error {
	var e *fwup.Error
	if !errors.As(err, &e) {
		return err
	}
	hint := e.Hint
	message := e.Msg
	switch e.Class {
	case fwup.ClassSignatureMissing:
		message, hint = "is not signed", "sign it with a key of the org: ganglion firmware sign"
	case fwup.ClassSignatureInvalid:
		message, hint = "is not signed by a key of this org", "sign it with a key of the org, or add its public key"
	}
	return &fleet.Error{Kind: fleet.Invalid, Field: u.noun, Message: message, Hint: hint, Err: err}
}

// describe is what a file says about itself. It must be for the product, and
// say what is needed.
func describe(info *fwup.Info, p fleet.Product, noun string, needs ...string) (m fleet.FirmwareMetadata, err error) {
	m = fleet.FirmwareMetadata{
		UUID: info.UUID, Product: info.Product, Version: info.Version, Platform: info.Platform, Architecture: info.Architecture,
		Author: info.Author, Description: info.Description, VCSIdentifier: info.VCSIdentifier, Misc: info.Misc,
	}
	said := map[string]string{"product": m.Product, "version": m.Version, "platform": m.Platform, "architecture": m.Architecture}
	for _, need := range needs {
		if said[need] == "" {
			return m, fleet.InvalidField(need, "is missing in the %s", noun).WithHint("set meta-" + need + " in its fwup configuration")
		}
	}
	if m.Product != p.Name {
		return m, fleet.InvalidField("product", "This %s is built for the product %q, but was uploaded to %q.", noun, m.Product, p.Name)
	}
	if _, err := elixirver.Parse(m.Version); err != nil {
		return m, fleet.InvalidField("version", "must be a valid semantic version")
	}
	return m, nil
}

// isNew refuses what is stored already: before its bytes are committed, and
// before its row is written.
func isNew(tx *store.Tx, s fleet.Scope, p fleet.Product, f fleet.Firmware) error {
	_, err := tx.FirmwareByUUID(s, p.ID, f.UUID)
	if err == nil {
		return uploadedBefore("firmware")
	}
	if fleet.KindOf(err) != fleet.NotFound {
		return err
	}
	if !p.RequireUniqueFirmwareVersion {
		return nil
	}
	same, _, err := tx.ListFirmware(s, fleet.FirmwareFilter{
		ProductID: p.ID, Version: f.Version, Platform: f.Platform, Architecture: f.Architecture, Page: fleet.Page{Limit: 1},
	})
	if err == nil && len(same) > 0 {
		return &fleet.Error{Kind: fleet.Conflict, Field: "version", Message: "has already been taken for this product"}
	}
	return err
}

func uploadedBefore(noun string) error {
	return &fleet.Error{Kind: fleet.Conflict, Field: "uuid", Message: "has already been taken", Hint: "this very " + noun + " was uploaded before"}
}

// recordFirmware writes the row of a firmware whose bytes are stored. Uploads
// to one product run one after another, that versions stay unique where they
// must.
func (c *Control) recordFirmware(ctx context.Context, s fleet.Scope, p fleet.Product, f fleet.Firmware) (fleet.Firmware, error) {
	made := f
	err := c.record(ctx, s, firmwareBytes(f), fmt.Sprintf("firmware of product %d", p.ID), func(w *changing) error {
		made = f
		if err := isNew(w.Tx, s, p, f); err != nil {
			return err
		}
		if err := w.CreateFirmware(s, &made); err != nil {
			return err
		}
		return w.audit(firmwareSubject(made), "publish", publishDetail(made.FirmwareMetadata, made.SHA256, made.Size), "published firmware %s (%s)", made.Version, made.UUID)
	})
	if err != nil {
		return fleet.Firmware{}, err
	}
	if jobs := c.jobs.Load(); jobs != nil {
		if err := (*jobs).FirmwareUploaded(ctx, made.ID); err != nil {
			// The sweep of the jobs finds it.
			c.log.Warn("the work after an upload is late", "firmware", made.UUID, "error", err)
		}
	}
	return made, nil
}

func publishDetail(m fleet.FirmwareMetadata, sha256 string, size int64) map[string]any {
	return map[string]any{"version": m.Version, "sha256": sha256, "size": size}
}

// storedBytes are the bytes of firmware or of an archive. Rows of several
// products and orgs may share them.
type storedBytes struct {
	noun, key string
	users     func(*store.Tx) (int, error) // counts the rows, over all orgs
}

func firmwareBytes(f fleet.Firmware) storedBytes {
	return storedBytes{"firmware", f.BlobKey(), func(tx *store.Tx) (int, error) { return tx.CountFirmwareWithSHA256(f.SHA256) }}
}

// record writes the row of bytes that are stored, with create. When that fails
// and nobody else has the same bytes, they go again. Whoever records and
// whoever removes the same bytes do so one after another.
func (c *Control) record(ctx context.Context, s fleet.Scope, b storedBytes, lock string, create func(*changing) error) error {
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if err := errors.Join(w.Lock(lock), w.Lock(b.key)); err != nil {
			return err
		}
		if _, err := c.blob.Stat(ctx, b.key); fleet.KindOf(err) == fleet.NotFound {
			return fleet.Errorf(fleet.Unavailable, "the same bytes were just deleted elsewhere").WithHint("upload the " + b.noun + " again")
		} else if err != nil {
			return err
		}
		return create(w)
	})
	if err != nil {
		c.dropUnused(context.WithoutCancel(ctx), b)
	}
	return err
}

// dropUnused removes bytes whose row was refused or deleted, unless another
// row has the same.
func (c *Control) dropUnused(ctx context.Context, b storedBytes) {
	err := c.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(b.key); err != nil {
			return err
		}
		users, err := b.users(tx)
		if err != nil || users > 0 {
			return err
		}
		return c.blob.Delete(ctx, b.key)
	})
	if err != nil {
		c.log.Warn("the bytes of a file were left behind", "key", b.key, "error", err)
	}
}
