package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func (s *server) releaseRoutes() {
	const tag, path = "Releases", productPath + "/deployments/{name}/releases"
	register(s, route{method: http.MethodGet, path: path, id: "list-releases", tag: tag, summary: "The releases of a group, newest first"},
		func(c *call, in *struct {
			OneGroup
			Paging
		}) (*answer[rest.List[rest.Release]], error) {
			list, next, err := s.control.ListReleases(c.ctx, c.scope, in.Product, in.Name, in.page())
			return many(list, next, err, releaseOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-release", tag: tag, status: http.StatusCreated,
		summary: "Give a group a firmware; it is current at once",
	}, func(c *call, in *struct {
		OneGroup
		Body body[rest.NewRelease]
	}) (*answer[rest.Data[rest.Release]], error) {
		b := in.Body.value
		r, err := s.control.CreateRelease(c.ctx, c.scope, in.Product, in.Name, control.CreateReleaseInput{
			FirmwareUUID: b.Firmware, ArchiveUUID: b.Archive, Description: b.Description,
		})
		return one(r, err, releaseOf)
	})
}

func releaseOf(r fleet.Release) rest.Release {
	shape := rest.Release{
		Number: r.Number, Firmware: releaseFirmwareOf(r.Firmware), Description: r.Description, CreatedBy: r.CreatedByName, CreatedAt: r.CreatedAt,
	}
	if r.ArchiveUUID != "" {
		shape.Archive = &rest.ReleaseArchive{UUID: r.ArchiveUUID, Version: r.ArchiveVersion}
	}
	return shape
}

func releaseFirmwareOf(f fleet.Firmware) rest.ReleaseFirmware {
	return rest.ReleaseFirmware{UUID: f.UUID, Version: f.Version, Platform: f.Platform, Architecture: f.Architecture}
}
