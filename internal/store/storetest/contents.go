package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/internal/store"
)

// Tables names the tables of ours, sorted: without those of the migrations
// and of the job queue.
func Tables(tb testing.TB, db *store.DB) []string {
	tb.Helper()
	query := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if db.Dialect() == store.PostgreSQL {
		query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
	}
	var names []string
	for _, row := range rows(tb, db, query) {
		name := fmt.Sprint(row[0])
		if !strings.HasPrefix(name, "goose_") && !strings.HasPrefix(name, "river_") && !strings.HasPrefix(name, "sqlite_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Contents is every row of every table of ours, a line each: two calls give
// the same if nothing changed meanwhile.
func Contents(tb testing.TB, db *store.DB) string {
	tb.Helper()
	var b strings.Builder
	for _, table := range Tables(tb, db) {
		for _, row := range rows(tb, db, "SELECT * FROM "+table+" ORDER BY 1") {
			fmt.Fprintln(&b, table, row)
		}
	}
	return b.String()
}

func rows(tb testing.TB, db *store.DB, query string) (all [][]any) {
	tb.Helper()
	reader, _ := db.SQL()
	cursor, err := reader.QueryContext(context.Background(), query)
	if err != nil {
		tb.Fatal(err)
	}
	columns, err := cursor.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	for cursor.Next() {
		row, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := cursor.Scan(dest...); err != nil {
			tb.Fatal(err)
		}
		all = append(all, row)
	}
	if err := errors.Join(cursor.Err(), cursor.Close()); err != nil {
		tb.Fatal(err)
	}
	return all
}
