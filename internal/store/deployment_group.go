package store

import (
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateDeploymentGroup adds a group to a product of the scope's org.
func (tx *Tx) CreateDeploymentGroup(s fleet.Scope, g *fleet.DeploymentGroup) (err error) {
	if err := owned(s, "deployment group", &g.OrgID); err != nil {
		return err
	}
	g.UUID, g.CreatedAt, g.UpdatedAt, g.Revision = newUUID(), tx.now(), tx.now(), 1
	c := g.Conditions
	g.ID, err = tx.insert("deployment group", "deployment_groups", new(values).set("uuid", g.UUID).set("org_id", g.OrgID).
		set("product_id", g.ProductID).set("name", g.Name).set("platform", g.Platform).set("architecture", g.Architecture).
		set("tags", toJSON(c.Tags)).set("tag_operator", string(c.TagOperator)).set("version", c.Version).set("active", g.Active).
		set("concurrent_updates", g.ConcurrentUpdates).set("failure_threshold", g.FailureThreshold).
		set("failure_window", g.FailureWindow.Microseconds()).set("penalty", g.Penalty.Microseconds()).
		set("hold_time", g.HoldTime.Microseconds()).set("connecting_code", g.ConnectingCode).set("release_id", g.ReleaseID).set("revision", g.Revision).
		set("created_at", g.CreatedAt).set("updated_at", g.UpdatedAt))
	return err
}

// groupColumns are the columns of a group under the alias g, with its current
// release (r) and that release's firmware (f).
const (
	groupColumns = "g.id, g.uuid, g.org_id, g.product_id, g.name, g.platform, g.architecture, g.tags, g.tag_operator, g.version, g.active, " +
		"g.concurrent_updates, g.failure_threshold, g.failure_window, g.penalty, g.hold_time, g.connecting_code, g.release_id, g.revision, g.created_at, g.updated_at"
	groupFrom = "deployment_groups g JOIN releases r ON r.id = g.release_id" + releaseWith
)

func groupFields(g *fleet.DeploymentGroup) []any {
	return []any{&g.ID, &g.UUID, &g.OrgID, &g.ProductID, &g.Name, &g.Platform, &g.Architecture, asJSON(&g.Conditions.Tags), &g.Conditions.TagOperator,
		&g.Conditions.Version, &g.Active, &g.ConcurrentUpdates, &g.FailureThreshold, asDuration(&g.FailureWindow), asDuration(&g.Penalty),
		asDuration(&g.HoldTime), &g.ConnectingCode, &g.ReleaseID, &g.Revision, at(&g.CreatedAt), at(&g.UpdatedAt)}
}

// asDuration scans a duration kept in microseconds.
func asDuration(d *time.Duration) *durationScanner { return (*durationScanner)(d) }

type durationScanner time.Duration

func (d *durationScanner) Scan(v any) error {
	n, _ := v.(int64)
	*d = durationScanner(fromDuration(n))
	return nil
}

func scanGroup(r row) (g fleet.DeploymentGroup, err error) {
	dest := append(groupFields(&g), releaseFields(&g.Release)...)
	return g, r.Scan(append(dest, firmwareFields(&g.Release.Firmware)...)...)
}

const groupSelect = "SELECT " + groupColumns + ", " + releaseColumns + ", " + firmwareColumns + " FROM " + groupFrom + " WHERE "

// DeploymentGroup finds a group by id, with its current release.
func (tx *Tx) DeploymentGroup(s fleet.Scope, id int64) (fleet.DeploymentGroup, error) {
	args := []any{id}
	return scanOne("deployment group", tx.queryRow(groupSelect+"g.id = $1 AND "+scopeClause(s, "g.org_id", &args), args...), scanGroup)
}

// DeploymentGroupByName finds a group of a product by name.
func (tx *Tx) DeploymentGroupByName(s fleet.Scope, productID int64, name string) (fleet.DeploymentGroup, error) {
	args := []any{productID, name}
	return scanOne("deployment group", tx.queryRow(groupSelect+"g.product_id = $1 AND g.name = $2 AND "+scopeClause(s, "g.org_id", &args), args...), scanGroup)
}

// ListDeploymentGroups lists groups by name, with how many devices belong to
// each.
func (tx *Tx) ListDeploymentGroups(s fleet.Scope, f fleet.DeploymentGroupFilter) ([]fleet.DeploymentGroup, string, error) {
	var args []any
	conds := []string{scopeClause(s, "g.org_id", &args)}
	if f.ProductID != 0 {
		conds = append(conds, "g.product_id = "+bind(&args, f.ProductID))
	}
	if f.Active != nil {
		conds = append(conds, "g.active = "+bind(&args, *f.Active))
	}
	var name string
	var id int64
	if ok, err := parseCursor(f.Page.Cursor, &name, &id); err != nil {
		return nil, "", err
	} else if ok {
		conds = append(conds, "(g.name, g.id) > ("+bind(&args, name)+", "+bind(&args, id)+")")
	}
	rows, err := tx.query("SELECT "+groupColumns+", "+releaseColumns+", "+firmwareColumns+`,
		(SELECT count(*) FROM devices d WHERE d.group_id = g.id AND d.group_id > 0 AND d.deleted_at = 0)
		FROM `+groupFrom+" WHERE "+strings.Join(conds, " AND ")+" ORDER BY g.name, g.id LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll("deployment group", rows, err, func(r row) (g fleet.DeploymentGroup, err error) {
		dest := append(groupFields(&g), releaseFields(&g.Release)...)
		dest = append(dest, firmwareFields(&g.Release.Firmware)...)
		return g, r.Scan(append(dest, &g.Devices)...)
	})
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(g fleet.DeploymentGroup) string { return cursor(g.Name, g.ID) })
	return list, next, nil
}

// UpdateDeploymentGroup changes a group. A revision other than 0 must be the
// current one, else it is a Conflict: somebody changed the group meanwhile.
func (tx *Tx) UpdateDeploymentGroup(s fleet.Scope, id, revision int64, u fleet.DeploymentGroupUpdate) error {
	current, err := tx.DeploymentGroup(s, id)
	if err != nil {
		return err
	}
	if revision != 0 && revision != current.Revision {
		return fleet.Errorf(fleet.Conflict, "the deployment group was changed meanwhile").WithHint("load it again and repeat the change")
	}
	v := new(values).set("updated_at", tx.now()).set("revision", current.Revision+1)
	if u.Name != nil {
		v.set("name", *u.Name)
	}
	if c := u.Conditions; c != nil {
		v.set("tags", toJSON(c.Tags)).set("tag_operator", string(c.TagOperator)).set("version", c.Version)
	}
	if u.Active != nil {
		v.set("active", *u.Active)
	}
	if u.ConcurrentUpdates != nil {
		v.set("concurrent_updates", *u.ConcurrentUpdates)
	}
	if u.FailureThreshold != nil {
		v.set("failure_threshold", *u.FailureThreshold)
	}
	if u.ConnectingCode != nil {
		v.set("connecting_code", *u.ConnectingCode)
	}
	for name, d := range map[string]*time.Duration{"failure_window": u.FailureWindow, "penalty": u.Penalty, "hold_time": u.HoldTime} {
		if d != nil {
			v.set(name, d.Microseconds())
		}
	}
	args := append([]any(nil), v.args...)
	where := " WHERE id = " + bind(&args, id) + " AND revision = " + bind(&args, current.Revision) + " AND " + scopeClause(s, "org_id", &args)
	sets := make([]string, len(v.names))
	for i, n := range v.names {
		sets[i] = n + " = " + placeholder(i+1)
	}
	res, err := tx.exec("UPDATE deployment_groups SET "+strings.Join(sets, ", ")+where, args...)
	if err := tx.affected("deployment group", res, err); fleet.KindOf(err) == fleet.NotFound {
		return fleet.Errorf(fleet.Conflict, "the deployment group was changed meanwhile")
	} else if err != nil {
		return err
	}
	return nil
}

// SetCurrentRelease makes a release the one the group moves its devices to.
func (tx *Tx) SetCurrentRelease(s fleet.Scope, groupID, releaseID int64) error {
	args := []any{releaseID, micros(tx.now()), groupID}
	res, err := tx.exec("UPDATE deployment_groups SET release_id = $1, updated_at = $2, revision = revision + 1 WHERE id = $3 AND "+scopeClause(s, "org_id", &args), args...)
	return tx.affected("deployment group", res, err)
}

// DeleteDeploymentGroup removes a group with its releases. Its devices belong
// to none; its attempts stay in the ledger, the open ones superseded.
func (tx *Tx) DeleteDeploymentGroup(s fleet.Scope, id int64) error {
	if _, err := tx.DeploymentGroup(s, id); err != nil {
		return err
	}
	now := micros(tx.now())
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{"UPDATE devices SET group_id = 0 WHERE group_id = $1 AND group_id > 0", []any{id}},
		{"UPDATE update_attempts SET state = 'superseded', reason = 'the deployment group was deleted', finished_at = $1, deadline_at = 0, updated_at = $1 WHERE group_id = $2 AND state IN " + openStatesSQL, []any{now, id}},
		{"DELETE FROM releases WHERE group_id = $1", []any{id}},
	} {
		if _, err := tx.exec(q.sql, q.args...); err != nil {
			return mapErr("deployment group", err)
		}
	}
	return tx.remove("deployment group", "deployment_groups", s, id)
}
