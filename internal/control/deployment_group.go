package control

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func groupSubject(g fleet.DeploymentGroup) subject {
	return subject{noun: "deployment_group", id: g.ID, name: g.Name, productID: g.ProductID, groupID: g.ID}
}

// CreateDeploymentGroupInput is a new group and its first release. Zero and
// nil fields get the defaults of package fleet.
type CreateDeploymentGroupInput struct {
	Name              string
	FirmwareUUID      string
	ArchiveUUID       string // of the first release; "": none
	Conditions        fleet.Conditions
	Active            bool
	ConcurrentUpdates int
	FailureThreshold  *int
	FailureWindow     *time.Duration
	Penalty           *time.Duration
	HoldTime          *time.Duration
}

func (in CreateDeploymentGroupInput) limits() fleet.DeploymentGroupUpdate {
	n := in.ConcurrentUpdates
	if n == 0 {
		n = fleet.DefaultConcurrentUpdates
	}
	return fleet.DeploymentGroupUpdate{
		ConcurrentUpdates: &n,
		FailureThreshold:  orDefault(in.FailureThreshold, fleet.DefaultFailureThreshold),
		FailureWindow:     orDefault(in.FailureWindow, fleet.DefaultFailureWindow),
		Penalty:           orDefault(in.Penalty, fleet.DefaultPenalty),
		HoldTime:          orDefault(in.HoldTime, fleet.DefaultHoldTime),
	}
}

func orDefault[T any](v *T, d T) *T {
	if v == nil {
		return &d
	}
	return v
}

// checkLimits checks the numbers of a group that are given.
func checkLimits(u fleet.DeploymentGroupUpdate) error {
	if n := u.ConcurrentUpdates; n != nil && (*n < 1 || *n > fleet.MaxConcurrentUpdates) {
		return fleet.InvalidField("concurrent_updates", "must be 1 to %d", fleet.MaxConcurrentUpdates)
	}
	if n := u.FailureThreshold; n != nil && (*n < 1 || *n > 1000) {
		return fleet.InvalidField("failure_threshold", "must be 1 to 1000")
	}
	if d := u.FailureWindow; d != nil && (*d < time.Minute || *d > 365*24*time.Hour) {
		return fleet.InvalidField("failure_window", "must be between a minute and a year")
	}
	if d := u.Penalty; d != nil && (*d < time.Second || *d > fleet.MaxPenalty) {
		return fleet.InvalidField("penalty", "must be between a second and %s", fleet.MaxPenalty)
	}
	if u.ConnectingCode != nil {
		if err := checkConnectingCode(*u.ConnectingCode); err != nil {
			return err
		}
	}
	if d := u.HoldTime; d != nil && (*d < 0 || *d > 24*time.Hour) {
		return fleet.InvalidField("hold_time", "must be between nothing and a day")
	}
	return nil
}

// CreateDeploymentGroup makes a group and release 1 of the firmware in it.
// Platform and architecture are the firmware's.
func (c *Control) CreateDeploymentGroup(ctx context.Context, s fleet.Scope, product string, in CreateDeploymentGroupInput) (g fleet.DeploymentGroup, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return g, err
	}
	if err := checkName(in.Name); err != nil {
		return g, err
	}
	if in.Conditions, err = cleanConditions(in.Conditions); err != nil {
		return g, err
	}
	limits := in.limits()
	if err := checkLimits(limits); err != nil {
		return g, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		f, err := w.releasable(p, in.FirmwareUUID)
		if err != nil {
			return err
		}
		g = fleet.DeploymentGroup{
			ProductID: p.ID, Name: in.Name, Platform: f.Platform, Architecture: f.Architecture, Conditions: in.Conditions, Active: in.Active,
			ConcurrentUpdates: *limits.ConcurrentUpdates, FailureThreshold: *limits.FailureThreshold, FailureWindow: *limits.FailureWindow,
			Penalty: *limits.Penalty, HoldTime: *limits.HoldTime,
		}
		if err := w.Tx.CreateDeploymentGroup(s, &g); err != nil {
			return err
		}
		if err := w.audit(groupSubject(g), "create", map[string]any{"conditions": g.Conditions, "active": g.Active}, "created the deployment group %s", g.Name); err != nil {
			return err
		}
		if _, err := w.release(g, f, CreateReleaseInput{ArchiveUUID: in.ArchiveUUID}); err != nil {
			return err
		}
		g, err = w.Tx.DeploymentGroup(s, g.ID)
		return err
	})
	return g, err
}

// releasable finds the firmware a release is to be made of.
func (w *changing) releasable(p fleet.Product, uuid string) (fleet.Firmware, error) {
	f, err := w.FirmwareByUUID(w.s, p.ID, uuid)
	if fleet.KindOf(err) == fleet.NotFound {
		return f, fleet.InvalidField("firmware", "the product has no firmware %q", uuid).WithHint("publish it first, or see the list of firmware")
	}
	return f, err
}

func groupOf(tx *store.Tx, s fleet.Scope, product, name string) (g fleet.DeploymentGroup, err error) {
	p, err := tx.ProductByName(s, product)
	if err != nil {
		return g, err
	}
	return tx.DeploymentGroupByName(s, p.ID, name)
}

// DeploymentGroup finds a group by name, with its current release.
func (c *Control) DeploymentGroup(ctx context.Context, s fleet.Scope, product, name string) (g fleet.DeploymentGroup, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		g, err = groupOf(tx, s, product, name)
		return err
	})
	return g, err
}

// ListDeploymentGroups lists the groups of a product by name.
func (c *Control) ListDeploymentGroups(ctx context.Context, s fleet.Scope, product string, f fleet.DeploymentGroupFilter) (list []fleet.DeploymentGroup, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		list, next, err = tx.ListDeploymentGroups(s, f)
		return err
	})
	return list, next, err
}

// UpdateDeploymentGroup changes a group. A revision other than 0 must be the
// group's current one, so that nobody's change is lost.
func (c *Control) UpdateDeploymentGroup(ctx context.Context, s fleet.Scope, product, name string, revision int64, u fleet.DeploymentGroupUpdate) (g fleet.DeploymentGroup, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return g, err
	}
	if u.Name != nil {
		if err := checkName(*u.Name); err != nil {
			return g, err
		}
	}
	if u.Conditions != nil {
		clean, err := cleanConditions(*u.Conditions)
		if err != nil {
			return g, err
		}
		u.Conditions = &clean
	}
	if err := checkLimits(u); err != nil {
		return g, err
	}
	action, what := "update", "changed the deployment group %s"
	if only := (fleet.DeploymentGroupUpdate{Active: u.Active}); u.Active != nil && u == only {
		action, what = "resume", "resumed the deployment group %s"
		if !*u.Active {
			action, what = "pause", "paused the deployment group %s"
		}
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		before, err := groupOf(w.Tx, s, product, name)
		if err != nil {
			return err
		}
		if err := w.Tx.UpdateDeploymentGroup(s, before.ID, revision, u); err != nil {
			return err
		}
		if g, err = w.Tx.DeploymentGroup(s, before.ID); err != nil {
			return err
		}
		return w.audit(groupSubject(g), action, groupDetail(u), what, g.Name)
	})
	return g, err
}

// groupDetail is what changed, for the log.
func groupDetail(u fleet.DeploymentGroupUpdate) map[string]any {
	detail := map[string]any{}
	put(detail, "name", u.Name)
	put(detail, "conditions", u.Conditions)
	put(detail, "active", u.Active)
	put(detail, "concurrent_updates", u.ConcurrentUpdates)
	put(detail, "failure_threshold", u.FailureThreshold)
	if u.ConnectingCode != nil {
		detail["connecting_code_bytes"] = len(*u.ConnectingCode)
	}
	for name, d := range map[string]*time.Duration{"failure_window": u.FailureWindow, "penalty": u.Penalty, "hold_time": u.HoldTime} {
		if d != nil {
			detail[name] = d.String()
		}
	}
	return detail
}

func put[T any](detail map[string]any, name string, v *T) {
	if v != nil {
		detail[name] = *v
	}
}

// PauseDeploymentGroup stops offering the group's release. Attempts that are
// open go on.
func (c *Control) PauseDeploymentGroup(ctx context.Context, s fleet.Scope, product, name string) (fleet.DeploymentGroup, error) {
	return c.activate(ctx, s, product, name, false)
}

// ResumeDeploymentGroup offers the group's release again.
func (c *Control) ResumeDeploymentGroup(ctx context.Context, s fleet.Scope, product, name string) (fleet.DeploymentGroup, error) {
	return c.activate(ctx, s, product, name, true)
}

func (c *Control) activate(ctx context.Context, s fleet.Scope, product, name string, active bool) (fleet.DeploymentGroup, error) {
	return c.UpdateDeploymentGroup(ctx, s, product, name, 0, fleet.DeploymentGroupUpdate{Active: &active})
}

// DeleteDeploymentGroup removes a group and its releases. Its devices belong
// to none until they match another.
func (c *Control) DeleteDeploymentGroup(ctx context.Context, s fleet.Scope, product, name string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		g, err := groupOf(w.Tx, s, product, name)
		if err != nil {
			return err
		}
		if err := w.Tx.DeleteDeploymentGroup(s, g.ID); err != nil {
			return err
		}
		return w.audit(groupSubject(g), "delete", nil, "deleted the deployment group %s", g.Name)
	})
}

// GroupCounts counts how far the group's rollout is.
func (c *Control) GroupCounts(ctx context.Context, s fleet.Scope, product, name string) (counts fleet.GroupCounts, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		g, err := groupOf(tx, s, product, name)
		if err != nil {
			return err
		}
		counts, err = tx.GroupCounts(s, g.ID)
		return err
	})
	return counts, err
}
