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
	if err := s.Require(fleet.RoleManage); err != nil {
		return f, err
	}
	var p fleet.Product
	var keys []fleet.SigningKey
	err = c.store.View(ctx, func(tx *store.Tx) error {
		if p, err = tx.ProductByName(s, product); err != nil {
			return err
		}
		keys, err = tx.ListSigningKeys(s)
		return err
	})
	if err != nil {
		return f, err
	}
	if len(keys) == 0 {
		return f, fleet.InvalidField("firmware", "can not be trusted: the org has no signing key").WithHint("add the public key firmware is signed with")
	}
	up := &upload{ctx: ctx, source: r, most: c.maxFirmware}
	if up.staged, err = c.blob.Stage(ctx); err != nil {
		return f, storageError(err)
	}
	defer func() {
		if e := up.staged.Abort(); e != nil {
			c.log.Warn("an upload was left behind", "error", e)
		}
	}()
	info, key, err := up.verify(keys)
	if err != nil {
		return f, err
	}
	if f, err = describe(info, p); err != nil {
		return f, err
	}
	f.SigningKeyID, f.CreatedBy, f.CreatedByName = key.ID, userID(s), s.Actor.Name
	f.Size, f.SHA256 = up.size, hex.EncodeToString(up.sum.Sum(nil))
	if err := c.checkNew(ctx, s, p, f); err != nil {
		return fleet.Firmware{}, err
	}
	if err := up.staged.Commit(ctx, f.BlobKey()); err != nil {
		return fleet.Firmware{}, storageError(err)
	}
	return c.recordFirmware(ctx, s, p, f)
}

// storageError is why bytes could not be stored. That a place for them is gone
// is not the caller's fault, and not what NotFound says.
func storageError(err error) error {
	if fleet.KindOf(err) == fleet.NotFound {
		return &fleet.Error{Kind: fleet.Unavailable, Message: "the firmware can not be stored right now", Hint: "see whether the server's data directory is there", Err: err}
	}
	return err
}

// upload reads an archive once, for the verifier, the blob store and the sum.
type upload struct {
	ctx    context.Context
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
}

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
		u.err = fleet.Errorf(fleet.TooLarge, "the firmware has more than %d bytes", u.most)
		return 0, u.err
	}
	if _, e := u.staged.Write(p[:n]); e != nil {
		u.err = storageError(e)
		return 0, u.err
	}
	u.sum.Write(p[:n]) //nolint:errcheck // a hash never fails
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = sourceError(err)
		return n, u.err
	}
	return n, err
}

// sourceError gives the failure of whoever sends the bytes a kind.
func sourceError(err error) error {
	var known *fleet.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fleet.Error{Kind: fleet.Invalid, Field: "firmware", Message: "the upload ended before all of it had arrived", Hint: "try again", Err: err}
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
		return nil, fleet.SigningKey{}, archiveError(err)
	}
	for i, pub := range trusted {
		if pub.Equal(info.Key) {
			return info, keys[i], nil
		}
	}
	return nil, fleet.SigningKey{}, fleet.InvalidField("firmware", "is not signed by a key of this org")
}

// archiveError says what is wrong with an archive in the words of people.
func archiveError(err error) error {
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
	return &fleet.Error{Kind: fleet.Invalid, Field: "firmware", Message: message, Hint: hint, Err: err}
}

// describe makes the firmware of what the archive says about itself.
func describe(info *fwup.Info, p fleet.Product) (f fleet.Firmware, err error) {
	m := fleet.FirmwareMetadata{
		UUID: info.UUID, Product: info.Product, Version: info.Version, Platform: info.Platform, Architecture: info.Architecture,
		Author: info.Author, Description: info.Description, VCSIdentifier: info.VCSIdentifier, Misc: info.Misc,
	}
	for _, need := range []struct{ field, value string }{
		{"product", m.Product}, {"version", m.Version}, {"platform", m.Platform}, {"architecture", m.Architecture},
	} {
		if need.value == "" {
			return f, fleet.InvalidField(need.field, "is missing in the firmware").WithHint("set meta-" + need.field + " in its fwup configuration")
		}
	}
	if m.Product != p.Name {
		return f, fleet.InvalidField("product", "This firmware is built for the product %q, but was uploaded to %q.", m.Product, p.Name)
	}
	if _, err := elixirver.Parse(m.Version); err != nil {
		return f, fleet.InvalidField("version", "must be a valid semantic version")
	}
	return fleet.Firmware{
		ProductID: p.ID, FirmwareMetadata: m, Status: fleet.FirmwareProcessing, Nickname: info.Nickname, FwupVersion: info.FwupVersion,
	}, nil
}

// checkNew refuses what is stored already before its bytes are committed.
func (c *Control) checkNew(ctx context.Context, s fleet.Scope, p fleet.Product, f fleet.Firmware) error {
	return c.store.View(ctx, func(tx *store.Tx) error { return isNew(tx, s, p, f) })
}

func isNew(tx *store.Tx, s fleet.Scope, p fleet.Product, f fleet.Firmware) error {
	_, err := tx.FirmwareByUUID(s, p.ID, f.UUID)
	if err == nil {
		return &fleet.Error{Kind: fleet.Conflict, Field: "uuid", Message: "has already been taken", Hint: "this very firmware was uploaded before"}
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

// recordFirmware writes the row of a firmware whose bytes are stored. When that
// fails and nobody else has the same bytes, they go again. Whoever records and
// whoever removes the same bytes do so one after another; so do uploads to one
// product, that versions stay unique where they must.
func (c *Control) recordFirmware(ctx context.Context, s fleet.Scope, p fleet.Product, f fleet.Firmware) (fleet.Firmware, error) {
	made := f
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		made = f
		if err := errors.Join(w.Lock(fmt.Sprintf("firmware of product %d", p.ID)), w.Lock(f.BlobKey())); err != nil {
			return err
		}
		if err := isNew(w.Tx, s, p, f); err != nil {
			return err
		}
		if _, err := c.blob.Stat(ctx, f.BlobKey()); fleet.KindOf(err) == fleet.NotFound {
			return fleet.Errorf(fleet.Unavailable, "the same bytes were just deleted elsewhere").WithHint("upload the firmware again")
		} else if err != nil {
			return err
		}
		if err := w.CreateFirmware(s, &made); err != nil {
			return err
		}
		return w.audit(firmwareSubject(made), "publish", map[string]any{"version": made.Version, "sha256": made.SHA256, "size": made.Size},
			"published firmware %s (%s)", made.Version, made.UUID)
	})
	if err != nil {
		c.dropUnused(context.WithoutCancel(ctx), f)
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

// dropUnused removes the bytes of a firmware that was refused or deleted,
// unless another one has the same.
func (c *Control) dropUnused(ctx context.Context, f fleet.Firmware) {
	err := c.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(f.BlobKey()); err != nil {
			return err
		}
		users, err := tx.CountFirmwareWithSHA256(f.SHA256)
		if err != nil || users > 0 {
			return err
		}
		return c.blob.Delete(ctx, f.BlobKey())
	})
	if err != nil {
		c.log.Warn("the bytes of a firmware were left behind", "key", f.BlobKey(), "error", err)
	}
}
