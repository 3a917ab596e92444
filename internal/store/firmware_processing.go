package store

import "time"

// ProcessingFirmware returns ids of firmware of all orgs, above after and in
// order, whose work after the upload is not done although they were published
// before t.
func (tx *Tx) ProcessingFirmware(t time.Time, after int64, limit int) ([]int64, error) {
	rows, err := tx.query("SELECT id FROM firmware WHERE status = 'processing' AND created_at < $1 AND id > $2 ORDER BY id LIMIT $3", micros(t), after, limit)
	return scanAll("firmware", rows, err, scanID)
}
