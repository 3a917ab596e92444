package store

import "github.com/ganglion-iot/ganglion/fleet"

// GroupCounts counts the devices of a group by how far they are with its
// current release, and the attempts at that release by state. Each device is
// in exactly one of the counts below Total.
func (tx *Tx) GroupCounts(s fleet.Scope, groupID int64) (fleet.GroupCounts, error) {
	var releaseID int64
	var target string
	args := []any{groupID}
	err := tx.queryRow(`
		SELECT g.release_id, coalesce(f.uuid, '') FROM deployment_groups g
		LEFT JOIN releases r ON r.id = g.release_id LEFT JOIN firmware f ON f.id = r.firmware_id
		WHERE g.id = $1 AND `+scopeClause(s, "g.org_id", &args), args...).Scan(&releaseID, &target)
	if err != nil {
		return fleet.GroupCounts{}, mapErr("deployment group", err)
	}
	c := fleet.GroupCounts{States: map[fleet.AttemptState]int{}}
	// Each CASE stands for one device: the first that fits counts.
	err = tx.queryRow(`
		SELECT count(*),
			count(*) FILTER (WHERE k = 'proven'), count(*) FILTER (WHERE k = 'updating'), count(*) FILTER (WHERE k = 'waiting'),
			count(*) FILTER (WHERE k = 'offline'), count(*) FILTER (WHERE k = 'penalty'), count(*) FILTER (WHERE k = 'disabled'),
			count(*) FILTER (WHERE k = 'failed')
		FROM (SELECT CASE
			WHEN EXISTS (SELECT 1 FROM update_attempts a WHERE a.device_id = d.id AND a.state IN `+openStates+`) THEN 'updating'
			WHEN d.validation = 'not_validated' THEN 'disabled'
			WHEN d.firmware_uuid = $2 AND (d.failures = 0 OR coalesce((SELECT a.state FROM update_attempts a
				WHERE a.device_id = d.id AND a.release_id = $3 ORDER BY a.id DESC LIMIT 1), 'succeeded') = 'succeeded') THEN 'proven'
			WHEN d.firmware_uuid = $2 THEN 'failed'
			WHEN NOT d.updates_enabled THEN 'disabled'
			WHEN d.blocked_until > $4 THEN 'penalty'
			WHEN c.status IS NULL OR c.status <> 'connected' OR d.firmware_uuid = '' THEN 'offline'
			ELSE 'waiting' END AS k
		FROM devices d LEFT JOIN connections c ON c.device_id = d.id
		WHERE d.group_id = $1 AND d.group_id > 0 AND d.deleted_at = 0) AS devices`,
		groupID, target, releaseID, micros(tx.now())).
		Scan(&c.Total, &c.Proven, &c.Updating, &c.Waiting, &c.Offline, &c.Penalty, &c.Disabled, &c.Failed)
	if err != nil {
		return fleet.GroupCounts{}, mapErr("deployment group", err)
	}
	rows, err := tx.query(`SELECT state, count(*) FROM update_attempts WHERE group_id = $1 AND release_id = $2 GROUP BY state`, groupID, releaseID)
	if err != nil {
		return fleet.GroupCounts{}, mapErr(nounAttempt, err)
	}
	defer rows.Close()
	for rows.Next() {
		var state fleet.AttemptState
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return fleet.GroupCounts{}, mapErr(nounAttempt, err)
		}
		c.States[state] = n
	}
	return c, mapErr(nounAttempt, rows.Err())
}
