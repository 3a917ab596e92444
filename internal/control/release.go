package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// CreateReleaseInput says what a group is to move its devices to.
type CreateReleaseInput struct {
	FirmwareUUID, Description string
	ArchiveUUID               string // of files beside the firmware; "": none
}

// CreateRelease gives a group a firmware, and an archive if one is named. Both
// must fit its platform and architecture. It is the group's current release at once. Devices that were
// only offered another one are offered this instead.
func (c *Control) CreateRelease(ctx context.Context, s fleet.Scope, product, group string, in CreateReleaseInput) (rel fleet.Release, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return rel, err
	}
	if err := checkText("description", in.Description, maxDescription); err != nil {
		return rel, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		g, err := w.DeploymentGroupByName(s, p.ID, group)
		if err != nil {
			return err
		}
		f, err := w.releasable(p, in.FirmwareUUID)
		if err != nil {
			return err
		}
		if f.Platform != g.Platform || f.Architecture != g.Architecture {
			return fleet.InvalidField("firmware", "is for %s/%s, but the group is for %s/%s", f.Platform, f.Architecture, g.Platform, g.Architecture)
		}
		rel, err = w.release(g, f, in)
		return err
	})
	return rel, err
}

// release adds a release to a group and makes it current.
func (w *changing) release(g fleet.DeploymentGroup, f fleet.Firmware, in CreateReleaseInput) (fleet.Release, error) {
	a, err := w.archiveFor(g, in.ArchiveUUID)
	if err != nil {
		return fleet.Release{}, err
	}
	rel := fleet.Release{ProductID: g.ProductID, GroupID: g.ID, FirmwareID: f.ID, ArchiveID: a.ID, Description: in.Description, CreatedBy: userID(w.s)}
	if err := w.Tx.CreateRelease(w.s, &rel); err != nil {
		return rel, err
	}
	if err := w.SetCurrentRelease(w.s, g.ID, rel.ID); err != nil {
		return rel, err
	}
	rel.Firmware, rel.ArchiveUUID, rel.ArchiveVersion, rel.CreatedByName = f, a.UUID, a.Version, w.s.Actor.Name
	about := subject{noun: "release", id: rel.ID, name: g.Name, productID: g.ProductID, groupID: g.ID}
	detail := map[string]any{"number": rel.Number, "firmware": f.UUID}
	if a.UUID != "" {
		detail["archive"] = a.UUID
	}
	return rel, w.audit(about, "create", detail,
		"released firmware %s to the deployment group %s", f.Version, g.Name)
}

// ListReleases lists the releases of a group, newest first.
func (c *Control) ListReleases(ctx context.Context, s fleet.Scope, product, group string, page fleet.Page) (list []fleet.Release, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		g, err := groupOf(tx, s, product, group)
		if err != nil {
			return err
		}
		list, next, err = tx.ListReleases(s, g.ID, page)
		return err
	})
	return list, next, err
}
