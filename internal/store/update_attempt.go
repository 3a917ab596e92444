package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

const nounAttempt = "update attempt"

// attemptColumns are in the order of attemptDest.
const attemptColumns = `a.id, a.uuid, a.org_id, a.product_id, a.device_id, a.group_id, a.release_id, a.firmware_id,
	a.source_uuid, a.target_uuid, a.state, a.reason, a.percent, a.number, a.bytes,
	a.offered_at, a.received_at, a.downloading_at, a.applying_at, a.rebooting_at, a.proving_at, a.finished_at, a.deadline_at, a.updated_at`

// openStates is the list of open states in SQL.
var openStates = quoteStates(func(s fleet.AttemptState) bool { return s.Open() })

// failureStates is the list of states that count towards the penalty box.
var failureStates = quoteStates(fleet.AttemptState.CountsAsFailure)

func quoteStates(keep func(fleet.AttemptState) bool) string {
	var list []string
	for _, s := range []fleet.AttemptState{
		fleet.AttemptOffered, fleet.AttemptReceived, fleet.AttemptDownloading, fleet.AttemptApplying, fleet.AttemptRebooting, fleet.AttemptProving,
		fleet.AttemptSucceeded, fleet.AttemptFailed, fleet.AttemptReverted, fleet.AttemptRefused, fleet.AttemptRescheduled,
		fleet.AttemptLost, fleet.AttemptExpired, fleet.AttemptSuperseded,
	} {
		if keep(s) {
			list = append(list, "'"+string(s)+"'")
		}
	}
	return "(" + strings.Join(list, ", ") + ")"
}

// attemptTimes are the times of an attempt in the order of the columns.
func attemptTimes(a *fleet.UpdateAttempt) [9]*time.Time {
	return [9]*time.Time{&a.OfferedAt, &a.ReceivedAt, &a.DownloadingAt, &a.ApplyingAt, &a.RebootingAt, &a.ProvingAt, &a.FinishedAt, &a.DeadlineAt, &a.UpdatedAt}
}

// attemptDest are where the columns of an attempt go.
func attemptDest(a *fleet.UpdateAttempt) []any {
	dest := []any{&a.ID, &a.UUID, &a.OrgID, &a.ProductID, &a.DeviceID, &a.GroupID, &a.ReleaseID, &a.FirmwareID,
		&a.SourceUUID, &a.TargetUUID, &a.State, &a.Reason, &a.Percent, &a.Number, &a.Bytes}
	for _, t := range attemptTimes(a) {
		dest = append(dest, at(t))
	}
	return dest
}

func scanAttempt(r row) (a fleet.UpdateAttempt, err error) {
	err = r.Scan(attemptDest(&a)...)
	return a, err
}

// scanNamedAttempt also reads the device's identifier and the target's version.
func scanNamedAttempt(r row) (a fleet.UpdateAttempt, err error) {
	err = r.Scan(append(attemptDest(&a), &a.Identifier, &a.TargetVersion)...)
	return a, err
}

// CreateUpdateAttempt adds an attempt, in practice one an operator pushes; the
// rollout uses OfferRelease. It fills ID, UUID, Number and UpdatedAt, State,
// and OfferedAt where they are zero. Conflict: the device has an open attempt.
func (tx *Tx) CreateUpdateAttempt(s fleet.Scope, a *fleet.UpdateAttempt) error {
	if !s.Reaches(a.OrgID) {
		return fleet.Missing("device")
	}
	now := tx.now()
	a.UUID, a.UpdatedAt = newUUID(), now
	if a.State == "" {
		a.State = fleet.AttemptOffered
	}
	if a.OfferedAt.IsZero() {
		a.OfferedAt = now
	}
	err := tx.queryRow(`SELECT 1 + count(*) FROM update_attempts WHERE device_id = $1 AND target_uuid = $2`, a.DeviceID, a.TargetUUID).Scan(&a.Number)
	if err != nil {
		return mapErr(nounAttempt, err)
	}
	v := (&values{}).set("uuid", a.UUID).set("org_id", a.OrgID).set("product_id", a.ProductID).set("device_id", a.DeviceID).
		set("group_id", a.GroupID).set("release_id", a.ReleaseID).set("firmware_id", a.FirmwareID).
		set("source_uuid", a.SourceUUID).set("target_uuid", a.TargetUUID).set("state", string(a.State)).set("reason", a.Reason).
		set("percent", a.Percent).set("number", a.Number).set("bytes", a.Bytes).
		set("offered_at", a.OfferedAt).set("received_at", a.ReceivedAt).set("downloading_at", a.DownloadingAt).set("applying_at", a.ApplyingAt).
		set("rebooting_at", a.RebootingAt).set("proving_at", a.ProvingAt).set("finished_at", a.FinishedAt).
		set("deadline_at", a.DeadlineAt).set("updated_at", a.UpdatedAt)
	a.ID, err = tx.insert(nounAttempt, "update_attempts", v)
	if fleet.KindOf(err) == fleet.Conflict && fleet.FieldOf(err) == "device_id" {
		return &fleet.Error{Kind: fleet.Conflict, Message: "the device is being updated already", Hint: "wait until its open attempt has ended", Err: err}
	}
	return err
}

// UpdateAttempt returns one attempt with the device's identifier and the
// target's version.
func (tx *Tx) UpdateAttempt(s fleet.Scope, id int64) (fleet.UpdateAttempt, error) {
	args := []any{id}
	r := tx.queryRow(attemptList+` WHERE a.id = $1 AND `+scopeClause(s, "a.org_id", &args), args...)
	return scanOne(nounAttempt, r, scanNamedAttempt)
}

const attemptList = `SELECT ` + attemptColumns + `, d.identifier, coalesce(f.version, '')
	FROM update_attempts a JOIN devices d ON d.id = a.device_id LEFT JOIN firmware f ON f.id = a.firmware_id`

// ListUpdateAttempts returns attempts, newest first.
func (tx *Tx) ListUpdateAttempts(s fleet.Scope, f fleet.UpdateAttemptFilter) ([]fleet.UpdateAttempt, string, error) {
	var args []any
	where := []string{scopeClause(s, "a.org_id", &args)}
	for _, c := range []struct {
		column string
		id     int64
	}{{"a.product_id", f.ProductID}, {"a.device_id", f.DeviceID}, {"a.group_id", f.GroupID}, {"a.release_id", f.ReleaseID}} {
		if c.id != 0 {
			where = append(where, c.column+" = "+bind(&args, c.id))
		}
	}
	if f.OpenOnly {
		where = append(where, "a.state IN "+openStates)
	}
	if len(f.States) > 0 {
		states := make([]string, len(f.States))
		for i, state := range f.States {
			if state.Order() == 0 {
				return nil, "", fleet.InvalidField("state", "%.40q is no state of an update attempt", state)
			}
			states[i] = string(state)
		}
		where = append(where, tx.inText("a.state", states, &args))
	}
	var before int64
	if more, err := parseCursor(f.Page.Cursor, &before); err != nil {
		return nil, "", err
	} else if more {
		where = append(where, "a.id < "+bind(&args, before))
	}
	query := attemptList + ` WHERE ` + strings.Join(where, " AND ") + ` ORDER BY a.id DESC LIMIT ` + bind(&args, f.Page.Size()+1)
	rows, err := tx.query(query, args...)
	list, err := scanAll(nounAttempt, rows, err, scanNamedAttempt)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(a fleet.UpdateAttempt) string { return cursor(a.ID) })
	return list, next, nil
}

// OpenAttempts returns the open attempts of the devices.
func (tx *Tx) OpenAttempts(s fleet.Scope, deviceIDs []int64) ([]fleet.UpdateAttempt, error) {
	return tx.openAttempts(s, deviceIDs, "")
}

// LockOpenAttempts returns the open attempts of the devices, locked until the
// Update ends.
func (tx *Tx) LockOpenAttempts(s fleet.Scope, deviceIDs []int64) ([]fleet.UpdateAttempt, error) {
	return tx.openAttempts(s, deviceIDs, tx.forUpdate())
}

func (tx *Tx) openAttempts(s fleet.Scope, deviceIDs []int64, lock string) ([]fleet.UpdateAttempt, error) {
	if len(deviceIDs) == 0 {
		return nil, nil
	}
	var args []any
	rows, err := tx.query(`SELECT `+attemptColumns+` FROM update_attempts a WHERE `+tx.in("a.device_id", deviceIDs, &args)+
		` AND a.state IN `+openStates+` AND `+scopeClause(s, "a.org_id", &args)+` ORDER BY a.device_id`+lock, args...)
	return scanAll(nounAttempt, rows, err, scanAttempt)
}

// DueAttempts returns open attempts of all orgs whose deadline has passed,
// longest overdue first, locked until the Update ends.
func (tx *Tx) DueAttempts(now time.Time, limit int) ([]fleet.UpdateAttempt, error) {
	rows, err := tx.query(`SELECT `+attemptColumns+` FROM update_attempts a
		WHERE a.state IN `+openStates+` AND a.deadline_at <= $1 ORDER BY a.deadline_at LIMIT $2`+tx.forUpdate(), micros(now), limit)
	return scanAll(nounAttempt, rows, err, scanAttempt)
}

// NextDeadline returns the earliest deadline of an open attempt; zero if there
// is none.
func (tx *Tx) NextDeadline() (time.Time, error) {
	var at int64
	err := tx.queryRow(`SELECT coalesce(min(deadline_at), 0) FROM update_attempts WHERE state IN ` + openStates).Scan(&at)
	return fromMicros(at), mapErr(nounAttempt, err)
}

// PutOffDeadlines gives open attempts in a state until t at least, and
// returns how many had less.
func (tx *Tx) PutOffDeadlines(state fleet.AttemptState, t time.Time) (int, error) {
	r, err := tx.exec(`UPDATE update_attempts SET deadline_at = $1 WHERE state = $2 AND state IN `+openStates+` AND deadline_at < $1`, micros(t), string(state))
	if err != nil {
		return 0, mapErr(nounAttempt, err)
	}
	n, err := r.RowsAffected()
	return int(n), mapErr(nounAttempt, err)
}

// attemptsPerStatement keeps a statement below the databases' limits of
// variables: 32,766 on SQLite, 65,535 on PostgreSQL.
const attemptsPerStatement = 500

// SaveUpdateAttempts writes state, reason, percent and times of attempts by
// id, and sets UpdatedAt. Attempts that are final in the database stay as they
// are.
func (tx *Tx) SaveUpdateAttempts(list []fleet.UpdateAttempt) error {
	for len(list) > 0 {
		n := min(len(list), attemptsPerStatement)
		if err := tx.saveUpdateAttempts(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (tx *Tx) saveUpdateAttempts(list []fleet.UpdateAttempt) error {
	now := tx.now()
	var args []any
	var text strings.Builder
	for i := range list {
		a := &list[i]
		a.UpdatedAt = now
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(valuesRow(len(args), 4+len(attemptTimes(a)), i == 0, 1, 2))
		args = append(args, a.ID, string(a.State), a.Reason, a.Percent)
		for _, t := range attemptTimes(a) {
			args = append(args, micros(*t))
		}
	}
	_, err := tx.exec(`
		WITH v (id, state, reason, percent, offered_at, received_at, downloading_at, applying_at, rebooting_at, proving_at, finished_at, deadline_at, updated_at)
		AS (VALUES `+text.String()+`)
		UPDATE update_attempts SET state = v.state, reason = v.reason, percent = v.percent,
			received_at = v.received_at, downloading_at = v.downloading_at, applying_at = v.applying_at, rebooting_at = v.rebooting_at,
			proving_at = v.proving_at, finished_at = v.finished_at, deadline_at = v.deadline_at, updated_at = v.updated_at
		FROM v WHERE update_attempts.id = v.id AND update_attempts.state IN `+openStates, args...)
	return mapErr(nounAttempt, err)
}

// valuesRow writes "($4, $5, …)" for n values after the first from. The first
// row of a list says the types: BIGINT, and TEXT at the positions named.
func valuesRow(from, n int, typed bool, text ...int) string {
	var b strings.Builder
	b.WriteByte('(')
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		placeholder := "$" + strconv.Itoa(from+i+1)
		switch {
		case !typed:
			b.WriteString(placeholder)
		case slices.Contains(text, i):
			b.WriteString("CAST(" + placeholder + " AS TEXT)")
		default:
			b.WriteString("CAST(" + placeholder + " AS BIGINT)")
		}
	}
	b.WriteByte(')')
	return b.String()
}

// CountFailedAttempts counts the device's attempts in groups that failed since
// then.
func (tx *Tx) CountFailedAttempts(deviceID int64, since time.Time) (n int, err error) {
	err = tx.queryRow(`SELECT count(*) FROM update_attempts WHERE device_id = $1 AND group_id <> 0 AND finished_at >= $2 AND state IN `+failureStates,
		deviceID, micros(since)).Scan(&n)
	return n, mapErr(nounAttempt, err)
}

// DeleteUpdateAttemptsBefore deletes attempts of all orgs that ended before t,
// at most limit, and returns how many.
func (tx *Tx) DeleteUpdateAttemptsBefore(t time.Time, limit int) (int, error) {
	r, err := tx.exec(`DELETE FROM update_attempts WHERE id IN (
		SELECT id FROM update_attempts WHERE state NOT IN `+openStates+` AND finished_at < $1 ORDER BY id LIMIT $2)`, micros(t), limit)
	if err != nil {
		return 0, mapErr(nounAttempt, err)
	}
	n, err := r.RowsAffected()
	return int(n), mapErr(nounAttempt, err)
}
