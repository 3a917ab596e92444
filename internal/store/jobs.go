package store

import (
	"context"
	"fmt"

	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

// migrateJobs brings the job queue's own tables up to date.
func (db *DB) migrateJobs(ctx context.Context) error {
	var err error
	if db.dialect == SQLite {
		m, e := rivermigrate.New(riversqlite.New(db.writer), nil)
		if e == nil {
			_, e = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
		}
		err = e
	} else {
		m, e := rivermigrate.New(riverdatabasesql.New(db.writer), nil)
		if e == nil {
			_, e = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
		}
		err = e
	}
	if err != nil {
		return fmt.Errorf("job queue migrations: %w", err)
	}
	return nil
}
