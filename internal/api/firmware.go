package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// updateTool is what firmware is built and applied by.
const updateTool = "fwup"

type (
	firmwareAnswer = answer[rest.Data[rest.Firmware]]
	oneFirmware    struct {
		InProduct
		UUID string `path:"uuid"`
	}
)

func (s *server) firmwareRoutes() {
	const tag, path = "Firmware", productPath + "/firmwares"
	register(s, route{method: http.MethodGet, path: path, id: "list-firmware", tag: tag, summary: "The firmware of a product, newest first"},
		func(c *call, in *struct {
			InProduct
			Paging
			Platform     string `query:"platform"`
			Architecture string `query:"architecture"`
			Version      string `query:"version"`
		}) (*answer[rest.List[rest.Firmware]], error) {
			list, next, err := s.control.ListFirmware(c.ctx, c.scope, in.Product, fleet.FirmwareFilter{
				Platform: in.Platform, Architecture: in.Architecture, Version: in.Version, Page: in.page(),
			})
			return many(list, next, err, firmwareOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "publish-firmware", tag: tag, status: http.StatusCreated,
		summary: "Publish a firmware signed with a key of the org", document: documentUpload("firmware"),
	}, s.publishFirmware)
	register(s, route{method: http.MethodGet, path: path + "/{uuid}", id: "get-firmware", tag: tag, summary: "One firmware"},
		func(c *call, in *oneFirmware) (*firmwareAnswer, error) {
			f, err := s.control.Firmware(c.ctx, c.scope, in.Product, in.UUID)
			return one(f, err, firmwareOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{uuid}", id: "delete-firmware", tag: tag, summary: "Remove a firmware no release uses"},
		func(c *call, in *oneFirmware) (*gone, error) {
			return &gone{}, s.control.DeleteFirmware(c.ctx, c.scope, in.Product, in.UUID)
		})
	register(s, route{
		method: http.MethodGet, path: path + "/{uuid}/download", id: "download-firmware", tag: tag, status: http.StatusFound,
		summary: "Where the file is, for a day",
	}, func(c *call, in *oneFirmware) (*redirect, error) {
		url, err := s.control.FirmwareURL(c.ctx, c.scope, in.Product, in.UUID)
		return &redirect{Location: url}, err
	})
}

// redirect sends the caller elsewhere.
type redirect struct {
	Location string `header:"Location"`
}

func firmwareOf(f fleet.Firmware) rest.Firmware {
	return rest.Firmware{
		UUID: f.UUID, Version: f.Version, Platform: f.Platform, Architecture: f.Architecture, Author: textOrNull(f.Author),
		Product: f.Product, Tool: updateTool, Description: f.Description, Nickname: f.Nickname, Status: string(f.Status),
		Size: f.Size, SHA256: f.SHA256, Installed: f.Installed, CreatedBy: f.CreatedByName, CreatedAt: f.CreatedAt,
	}
}
