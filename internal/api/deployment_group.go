package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	groupAnswer = answer[rest.Data[rest.DeploymentGroup]]
	OneGroup    struct {
		InProduct
		Name string `path:"name"`
	}
	changeGroup struct {
		OneGroup
		Body body[rest.UpdateDeployment]
	}
)

func (s *server) deploymentGroupRoutes() {
	const tag, path = "Deployment groups", productPath + "/deployments"
	register(s, route{method: http.MethodGet, path: path, id: "list-deployment-groups", tag: tag, summary: "The deployment groups of a product, by name"},
		func(c *call, in *struct {
			InProduct
			Paging
		}) (*answer[rest.List[rest.DeploymentGroup]], error) {
			list, next, err := s.control.ListDeploymentGroups(c.ctx, c.scope, in.Product, fleet.DeploymentGroupFilter{Page: in.page()})
			return many(list, next, err, groupOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-deployment-group", tag: tag, status: http.StatusCreated,
		summary: "Make a group and its first release",
	}, func(c *call, in *struct {
		InProduct
		Body body[rest.NewDeploymentGroup]
	}) (*groupAnswer, error) {
		b := in.Body.value
		input := control.CreateDeploymentGroupInput{
			Name: b.Name, FirmwareUUID: b.Firmware, ArchiveUUID: b.Archive, Active: b.IsActive, ConcurrentUpdates: b.ConcurrentUpdates, HoldTime: seconds(b.HoldTime),
		}
		if b.Conditions != nil {
			input.Conditions = conditionsOf(*b.Conditions)
		}
		g, err := s.control.CreateDeploymentGroup(c.ctx, c.scope, in.Product, input)
		return one(g, err, groupOf)
	})
	register(s, route{method: http.MethodGet, path: path + "/{name}", id: "get-deployment-group", tag: tag, summary: "One group, with how far its rollout is"},
		func(c *call, in *OneGroup) (*groupAnswer, error) {
			g, err := s.control.DeploymentGroup(c.ctx, c.scope, in.Product, in.Name)
			return s.countedGroup(c, in.Product, g, err)
		})
	register(s, route{
		method: http.MethodPut, path: path + "/{name}", id: "update-deployment-group", tag: tag,
		summary: "Change a group, or give it a release when firmware is set",
	}, s.updateGroup)
	register(s, route{method: http.MethodDelete, path: path + "/{name}", id: "delete-deployment-group", tag: tag, summary: "Remove a group; its devices stay"},
		func(c *call, in *OneGroup) (*none, error) {
			return nil, s.control.DeleteDeploymentGroup(c.ctx, c.scope, in.Product, in.Name)
		})
}

func (s *server) updateGroup(c *call, in *changeGroup) (*groupAnswer, error) {
	if !in.Body.has("deployment") {
		return nil, newFailure(http.StatusBadRequest, fleet.Invalid, "", "Invalid request")
	}
	b := in.Body.value.Deployment
	if b.Firmware != "" {
		_, err := s.control.CreateRelease(c.ctx, c.scope, in.Product, in.Name, control.CreateReleaseInput{
			FirmwareUUID: b.Firmware, ArchiveUUID: b.Archive, Description: b.Description,
		})
		if err != nil {
			return nil, err
		}
		g, err := s.control.DeploymentGroup(c.ctx, c.scope, in.Product, in.Name)
		return s.countedGroup(c, in.Product, g, err)
	}
	u := fleet.DeploymentGroupUpdate{
		Name: b.Name, Active: b.IsActive, ConcurrentUpdates: b.ConcurrentUpdates, FailureThreshold: b.FailureThreshold,
		FailureWindow: seconds(b.FailureWindow), Penalty: seconds(b.Penalty), HoldTime: seconds(b.HoldTime), ConnectingCode: b.ConnectingCode,
	}
	if b.State != nil {
		on := strings.EqualFold(*b.State, "on")
		u.Active = &on
	}
	if b.Conditions != nil {
		conditions := conditionsOf(*b.Conditions)
		u.Conditions = &conditions
	}
	g, err := s.control.UpdateDeploymentGroup(c.ctx, c.scope, in.Product, in.Name, b.Revision, u)
	return s.countedGroup(c, in.Product, g, err)
}

// countedGroup is the answer with one group and its counts.
func (s *server) countedGroup(c *call, product string, g fleet.DeploymentGroup, err error) (*groupAnswer, error) {
	if err != nil {
		return nil, err
	}
	n, err := s.control.GroupCounts(c.ctx, c.scope, product, g.Name)
	return one(g, err, func(g fleet.DeploymentGroup) rest.DeploymentGroup {
		shape := groupOf(g)
		shape.DeviceCount = n.Total
		shape.Counts = &rest.GroupCounts{
			Total: n.Total, Proven: n.Proven, Updating: n.Updating, Waiting: n.Waiting, Offline: n.Offline, Penalty: n.Penalty,
			Disabled: n.Disabled, Failed: n.Failed, States: map[string]int{},
		}
		for state, count := range n.States {
			shape.Counts.States[string(state)] = count
		}
		return shape
	})
}

func conditionsOf(c rest.Conditions) fleet.Conditions {
	return fleet.Conditions{Tags: c.Tags, TagOperator: fleet.TagOperator(c.TagOperator), Version: c.Version}
}

// maxSeconds is the longest time a body may give; control decides what is
// sensible.
const maxSeconds = int(100 * 365 * 24 * time.Hour / time.Second)

func seconds(n *int) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(max(-maxSeconds, min(*n, maxSeconds))) * time.Second
	return &d
}

func groupOf(g fleet.DeploymentGroup) rest.DeploymentGroup {
	shape := rest.DeploymentGroup{
		UUID: g.UUID, Name: g.Name, IsActive: g.Active, State: "off", FirmwareUUID: g.Release.Firmware.UUID,
		ArchiveUUID: textOrNull(g.Release.ArchiveUUID),
		Conditions:  rest.Conditions{Version: g.Conditions.Version, Tags: append(rest.Tags{}, g.Conditions.Tags...), TagOperator: string(g.Conditions.TagOperator)},
		DeviceCount: g.Devices, ReleasesCount: g.Release.Number, Platform: g.Platform, Architecture: g.Architecture,
		ConcurrentUpdates: g.ConcurrentUpdates, FailureThreshold: g.FailureThreshold, FailureWindow: int(g.FailureWindow / time.Second),
		Penalty: int(g.Penalty / time.Second), HoldTime: int(g.HoldTime / time.Second), ConnectingCode: g.ConnectingCode, Revision: g.Revision,
	}
	if g.Active {
		shape.State = "on"
	}
	if g.Release.Number > 0 {
		shape.CurrentRelease = &rest.CurrentRelease{
			Number: g.Release.Number, Firmware: releaseFirmwareOf(g.Release.Firmware),
			InsertedAt: rest.LocalTime{Time: g.Release.CreatedAt}, UpdatedAt: rest.LocalTime{Time: g.Release.CreatedAt},
		}
	}
	return shape
}
