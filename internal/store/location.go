package store

import (
	"cmp"
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
)

var locationTypes = []string{
	"BIGINT", "BOOLEAN", "DOUBLE PRECISION", "DOUBLE PRECISION", "DOUBLE PRECISION", "TEXT", "BIGINT", "TEXT", "TEXT", "BIGINT",
}

// SaveLocations notes where devices are, in the order of the list. One without
// Known is a failure to find out: the place told before stays. What belongs to
// a device that was deleted is left out. Only a system scope over all orgs may
// do this.
func (tx *Tx) SaveLocations(s fleet.Scope, list []fleet.Location) error {
	if err := platformAlone(s, "locations"); err != nil {
		return err
	}
	return inChunks(mergeLocations(list), func(chunk []fleet.Location) error {
		args := make([]any, 0, len(locationTypes)*len(chunk))
		for i := range chunk {
			l := &chunk[i]
			args = append(args, l.DeviceID, l.Known, l.Latitude, l.Longitude, l.Accuracy, storable(l.Source), micros(l.At),
				storable(l.ErrorCode), storable(l.ErrorDescription), micros(l.ErrorAt))
		}
		_, err := tx.exec(`INSERT INTO locations (device_id, org_id, product_id, known, latitude, longitude, accuracy, source, at, error_code, error_description, error_at)
			SELECT d.id, d.org_id, d.product_id, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, v.column10 FROM (VALUES `+
			marks(len(chunk), len(locationTypes), locationTypes)+`) AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0
			ON CONFLICT (device_id) DO UPDATE SET org_id = excluded.org_id, product_id = excluded.product_id,
			known = locations.known OR excluded.known,
			latitude = CASE WHEN excluded.known THEN excluded.latitude ELSE locations.latitude END,
			longitude = CASE WHEN excluded.known THEN excluded.longitude ELSE locations.longitude END,
			accuracy = CASE WHEN excluded.known THEN excluded.accuracy ELSE locations.accuracy END,
			source = CASE WHEN excluded.known THEN excluded.source ELSE locations.source END,
			at = CASE WHEN excluded.known THEN excluded.at ELSE locations.at END,
			error_code = excluded.error_code, error_description = excluded.error_description, error_at = excluded.error_at`, args...)
		return mapErr("location", err)
	})
}

// mergeLocations makes one of all of a device, in the order of devices.
func mergeLocations(list []fleet.Location) []fleet.Location {
	at := make(map[int64]int, len(list))
	var merged []fleet.Location
	for _, l := range list {
		i, ok := at[l.DeviceID]
		if !ok {
			at[l.DeviceID] = len(merged)
			merged = append(merged, l)
			continue
		}
		if !l.Known && merged[i].Known {
			code, description, when := l.ErrorCode, l.ErrorDescription, l.ErrorAt
			l = merged[i]
			l.ErrorCode, l.ErrorDescription, l.ErrorAt = code, description, when
		}
		merged[i] = l
	}
	slices.SortFunc(merged, func(a, b fleet.Location) int { return cmp.Compare(a.DeviceID, b.DeviceID) })
	return merged
}

// DeviceLocation returns where a device is; not Known if it never told.
func (tx *Tx) DeviceLocation(s fleet.Scope, deviceID int64) (l fleet.Location, err error) {
	l.DeviceID = deviceID
	args := []any{deviceID}
	rows, err := tx.query(`SELECT org_id, product_id, known, latitude, longitude, accuracy, source, at, error_code, error_description, error_at
		FROM locations WHERE device_id = $1 AND `+scopeClause(s, "org_id", &args), args...)
	_, err = scanAll("location", rows, err, func(r row) (struct{}, error) {
		return struct{}{}, r.Scan(&l.OrgID, &l.ProductID, &l.Known, &l.Latitude, &l.Longitude, &l.Accuracy, &l.Source, at(&l.At),
			&l.ErrorCode, &l.ErrorDescription, at(&l.ErrorAt))
	})
	return l, err
}
