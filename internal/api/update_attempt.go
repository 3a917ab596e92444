package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func (s *server) updateAttemptRoutes() {
	const tag = "Update attempts"
	register(s, route{method: http.MethodGet, path: productPath + "/attempts", id: "list-attempts", tag: tag, summary: "The update attempts of a product, newest first"},
		func(c *call, in *struct {
			InProduct
			Paging
			Group string `query:"group" doc:"Name of a deployment group."`
			Open  bool   `query:"open" doc:"Only attempts that still run."`
		}) (*answer[rest.List[rest.UpdateAttempt]], error) {
			f := fleet.UpdateAttemptFilter{OpenOnly: in.Open, Page: in.page()}
			if in.Group != "" {
				g, err := s.control.DeploymentGroup(c.ctx, c.scope, in.Product, in.Group)
				if err != nil {
					return nil, err
				}
				f.GroupID = g.ID
			}
			list, next, err := s.control.ListUpdateAttempts(c.ctx, c.scope, in.Product, f)
			return many(list, next, err, attemptOf)
		})
	register(s, route{
		method: http.MethodGet, path: devicesPath + "/{identifier}/attempts", id: "list-device-attempts", tag: tag,
		summary: "The update attempts of a device, newest first",
	}, func(c *call, in *struct {
		OneDevice
		Paging
	}) (*answer[rest.List[rest.UpdateAttempt]], error) {
		d, err := s.control.Device(c.ctx, c.scope, in.Product, in.Identifier)
		if err != nil {
			return nil, err
		}
		list, next, err := s.control.ListUpdateAttempts(c.ctx, c.scope, in.Product, fleet.UpdateAttemptFilter{DeviceID: d.ID, Page: in.page()})
		return many(list, next, err, attemptOf)
	})
}

func attemptOf(a fleet.UpdateAttempt) rest.UpdateAttempt {
	return rest.UpdateAttempt{
		UUID: a.UUID, Identifier: a.Identifier, State: string(a.State), Reason: a.Reason, Percent: a.Percent, Number: a.Number,
		SourceUUID: a.SourceUUID, TargetUUID: a.TargetUUID, TargetVersion: a.TargetVersion, Bytes: a.Bytes,
		OfferedAt: timeOrNull(a.OfferedAt), FinishedAt: timeOrNull(a.FinishedAt), UpdatedAt: a.UpdatedAt,
	}
}
