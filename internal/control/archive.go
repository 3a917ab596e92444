package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func archiveSubject(a fleet.Archive) subject {
	return subject{noun: "archive", id: a.ID, name: a.UUID, productID: a.ProductID}
}

func archiveBytes(a fleet.Archive) storedBytes {
	return storedBytes{"archive", a.BlobKey(), func(tx *store.Tx) (int, error) { return tx.CountArchivesWithSHA256(a.SHA256) }}
}

// PublishArchive takes a signed archive as PublishFirmware takes firmware. It
// must say its product and its version.
func (c *Control) PublishArchive(ctx context.Context, s fleet.Scope, product string, r io.Reader) (a fleet.Archive, err error) {
	err = c.receive(ctx, s, product, "archive", r, func(p fleet.Product, up *upload) error {
		m, err := describe(up.info, p, "archive", "product", "version")
		if err != nil {
			return err
		}
		found := fleet.Archive{
			ProductID: p.ID, FirmwareMetadata: m, SigningKeyID: up.key.ID, CreatedBy: userID(s), CreatedByName: s.Actor.Name, Size: up.size, SHA256: up.sha256(),
		}
		if err := c.store.View(ctx, func(tx *store.Tx) error { return isNewArchive(tx, s, found) }); err != nil {
			return err
		}
		if err := up.staged.Commit(ctx, found.BlobKey()); err != nil {
			return up.storageError(err)
		}
		return c.record(ctx, s, archiveBytes(found), fmt.Sprintf("archives of product %d", p.ID), func(w *changing) error {
			a = found
			if err := isNewArchive(w.Tx, s, found); err != nil {
				return err
			}
			if err := w.CreateArchive(s, &a); err != nil {
				return err
			}
			return w.audit(archiveSubject(a), "publish", publishDetail(a.FirmwareMetadata, a.SHA256, a.Size), "published the archive %s (%s)", a.Version, a.UUID)
		})
	})
	if err != nil {
		return fleet.Archive{}, err
	}
	return a, nil
}

func isNewArchive(tx *store.Tx, s fleet.Scope, a fleet.Archive) error {
	switch _, err := tx.ArchiveByUUID(s, a.ProductID, a.UUID); fleet.KindOf(err) {
	case "":
		return uploadedBefore("archive")
	case fleet.NotFound:
		return nil
	default:
		return err
	}
}

// ListArchives lists the archives of a product, newest first.
func (c *Control) ListArchives(ctx context.Context, s fleet.Scope, product string, page fleet.Page) (list []fleet.Archive, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		list, next, err = tx.ListArchives(s, p.ID, page)
		return err
	})
	return list, next, err
}

// Archive finds an archive of a product by its uuid.
func (c *Control) Archive(ctx context.Context, s fleet.Scope, product, uuid string) (a fleet.Archive, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		a, err = archiveOf(tx, s, product, uuid)
		return err
	})
	return a, err
}

func archiveOf(tx *store.Tx, s fleet.Scope, product, uuid string) (a fleet.Archive, err error) {
	p, err := tx.ProductByName(s, product)
	if err != nil {
		return a, err
	}
	return tx.ArchiveByUUID(s, p.ID, uuid)
}

// ArchiveURL is an address from which the archive can be downloaded for a day.
func (c *Control) ArchiveURL(ctx context.Context, s fleet.Scope, product, uuid string) (url string, err error) {
	err = c.view(ctx, s, fleet.RoleManage, func(tx *store.Tx) error {
		a, err := archiveOf(tx, s, product, uuid)
		if err == nil {
			url = c.fileURL(a.BlobKey(), a.UUID)
		}
		return err
	})
	return url, err
}

// DeleteArchive removes an archive. It is refused while a release uses it. Its
// bytes go when no other archive has the same.
func (c *Control) DeleteArchive(ctx context.Context, s fleet.Scope, product, uuid string) error {
	var a fleet.Archive
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if a, err = archiveOf(w.Tx, s, product, uuid); err != nil {
			return err
		}
		if err := w.Tx.DeleteArchive(s, a.ID); err != nil {
			return err
		}
		return w.audit(archiveSubject(a), "delete", map[string]any{"version": a.Version}, "deleted the archive %s (%s)", a.Version, a.UUID)
	})
	if err == nil {
		c.dropUnused(context.WithoutCancel(ctx), archiveBytes(a))
	}
	return err
}

// archiveFor finds the archive a release of a group is to have; none for "".
func (w *changing) archiveFor(g fleet.DeploymentGroup, uuid string) (a fleet.Archive, err error) {
	if uuid == "" {
		return a, nil
	}
	a, err = w.ArchiveByUUID(w.s, g.ProductID, uuid)
	switch {
	case fleet.KindOf(err) == fleet.NotFound:
		return a, fleet.InvalidField("archive", "the product has no archive %q", uuid).WithHint("publish it first, or see the list of archives")
	case err == nil && !a.Fits(g.Platform, g.Architecture):
		return a, fleet.InvalidField("archive", "is for %s/%s, but the group is for %s/%s", a.Platform, a.Architecture, g.Platform, g.Architecture)
	}
	return a, err
}

// archiveOffer is what the devices of a group are told of their archive.
type archiveOffer struct {
	payload json.RawMessage
	uuid    string // "": there is none
}

// archivePayload has exactly the keys devices of the NervesHub protocol know.
type archivePayload struct {
	UUID         string `json:"uuid"`
	URL          string `json:"url"`
	Version      string `json:"version"`
	Size         int64  `json:"size"`
	Platform     string `json:"platform"`
	Architecture string `json:"architecture"`
	Description  string `json:"description"`
	UploadedAt   string `json:"uploaded_at"`
}

// withoutZone is ISO 8601 as devices are told: UTC, without saying so.
const withoutZone = "2006-01-02T15:04:05"

// ArchiveFor is what the devices of a group are told of the archive of its
// current release, with an address that works for a day, and the archive's
// uuid; "" if it has none.
func (c *Control) ArchiveFor(ctx context.Context, orgID, groupID int64) (json.RawMessage, string, error) {
	o, err := c.groupArchives.get(groupID, func() (o archiveOffer, err error) {
		var a fleet.Archive
		err = c.store.View(ctx, func(tx *store.Tx) (err error) {
			a, err = tx.GroupArchive(fleet.SystemScope("archive for a device").In(orgID), groupID)
			return err
		})
		if fleet.KindOf(err) == fleet.NotFound {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		o.uuid = a.UUID
		o.payload, err = json.Marshal(archivePayload{
			UUID: a.UUID, URL: c.fileURL(a.BlobKey(), a.UUID), Version: a.Version, Size: a.Size, Platform: a.Platform, Architecture: a.Architecture,
			Description: a.Description, UploadedAt: a.CreatedAt.UTC().Format(withoutZone),
		})
		return o, err
	})
	return o.payload, o.uuid, err
}

// ForgetArchive makes the next question about the archive of a group go to the
// database.
func (c *Control) ForgetArchive(groupID int64) { c.groupArchives.drop(groupID) }
