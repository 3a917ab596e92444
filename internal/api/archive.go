package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type archiveAnswer = answer[rest.Data[rest.Archive]]

func (s *server) archiveRoutes() {
	const tag, path = "Archives", productPath + "/archives"
	register(s, route{method: http.MethodGet, path: path, id: "list-archives", tag: tag, summary: "The archives of a product, newest first"},
		func(c *call, in *struct {
			InProduct
			Paging
		}) (*answer[rest.List[rest.Archive]], error) {
			list, next, err := s.control.ListArchives(c.ctx, c.scope, in.Product, in.page())
			return many(list, next, err, archiveOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "publish-archive", tag: tag, status: http.StatusCreated,
		summary: "Publish an archive signed with a key of the org", document: documentUpload("archive"),
	}, func(c *call, in *InProduct) (*archiveAnswer, error) {
		return uploaded(c, in.Product, "archive", s.control.PublishArchive, archiveOf)
	})
	register(s, route{method: http.MethodGet, path: path + "/{uuid}", id: "get-archive", tag: tag, summary: "One archive"},
		func(c *call, in *oneFirmware) (*archiveAnswer, error) {
			a, err := s.control.Archive(c.ctx, c.scope, in.Product, in.UUID)
			return one(a, err, archiveOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{uuid}", id: "delete-archive", tag: tag, summary: "Remove an archive no release uses"},
		func(c *call, in *oneFirmware) (*gone, error) {
			return &gone{}, s.control.DeleteArchive(c.ctx, c.scope, in.Product, in.UUID)
		})
	register(s, route{
		method: http.MethodGet, path: path + "/{uuid}/download", id: "download-archive", tag: tag, status: http.StatusFound,
		summary: "Where the file is, for a day",
	}, func(c *call, in *oneFirmware) (*redirect, error) {
		url, err := s.control.ArchiveURL(c.ctx, c.scope, in.Product, in.UUID)
		return &redirect{Location: url}, err
	})
}

func archiveOf(a fleet.Archive) rest.Archive {
	return rest.Archive{
		UUID: a.UUID, Version: a.Version, Product: a.Product, Platform: a.Platform, Architecture: a.Architecture, Author: textOrNull(a.Author),
		Description: a.Description, Misc: a.Misc, Size: a.Size, SHA256: a.SHA256, CreatedBy: a.CreatedByName, CreatedAt: a.CreatedAt,
	}
}
