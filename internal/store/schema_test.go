package store_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

var updateFlag = flag.Bool("update", false, "write schema.txt anew")

const schemaFile = "schema.txt"

func strs(t *testing.T, db *sql.DB, query string, args ...any) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	return list
}

// schema describes the tables in words both databases share.
func schema(t *testing.T, db *store.DB) string {
	t.Helper()
	reader, _ := db.SQL()
	describe := sqliteTable
	if db.Dialect() == store.PostgreSQL {
		describe = postgresTable
	}
	var b strings.Builder
	for _, table := range storetest.Tables(t, db) {
		lines := describe(t, reader, table)
		fmt.Fprintf(&b, "%s\n  %s\n\n", table, strings.Join(lines, "\n  "))
	}
	return b.String()
}

func sqliteTable(t *testing.T, db *sql.DB, table string) []string {
	lines := strs(t, db, `SELECT name || ' ' || CASE upper(type) WHEN 'BLOB' THEN 'bytes' WHEN 'TEXT' THEN 'text' WHEN 'BOOLEAN' THEN 'boolean'
		WHEN 'BIGINT' THEN 'integer' WHEN 'INTEGER' THEN 'integer' WHEN 'DOUBLE PRECISION' THEN 'float' ELSE type END
		|| CASE WHEN "notnull" OR pk THEN '' ELSE ' null' END || CASE WHEN pk THEN ' key' ELSE '' END
		|| coalesce(' default ' || lower(dflt_value), '') FROM pragma_table_info($1) ORDER BY cid`, table)
	more := strs(t, db, `SELECT "from" || ' of ' || "table" || '.' || "to" || CASE on_delete WHEN 'NO ACTION' THEN '' ELSE ' ' || on_delete END FROM pragma_foreign_key_list($1)`, table)
	slices.Sort(more)
	lines = append(lines, more...)
	var indexes []string
	for _, name := range strs(t, db, `SELECT name FROM pragma_index_list($1) WHERE origin = 'c'`, table) {
		text := strs(t, db, `SELECT sql FROM sqlite_master WHERE name = $1`, name)[0]
		indexes = append(indexes, indexLine(name, text))
	}
	slices.Sort(indexes)
	return append(lines, indexes...)
}

func postgresTable(t *testing.T, db *sql.DB, table string) []string {
	lines := strs(t, db, `SELECT c.column_name || ' ' || CASE c.data_type WHEN 'bytea' THEN 'bytes' WHEN 'bigint' THEN 'integer' WHEN 'double precision' THEN 'float' ELSE c.data_type END
		|| CASE WHEN c.is_nullable = 'YES' THEN ' null' ELSE '' END
		|| CASE WHEN EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
			WHERE i.indrelid = c.table_name::regclass AND i.indisprimary AND a.attname = c.column_name) THEN ' key' ELSE '' END
		|| coalesce(' default ' || lower(replace(c.column_default, '::text', '')), '')
		FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.table_name = $1 ORDER BY c.ordinal_position`, table)
	more := strs(t, db, `SELECT a.attname || ' of ' || k.confrelid::regclass || '.' || b.attname || CASE k.confdeltype WHEN 'a' THEN '' ELSE ' ' || k.confdeltype::text END
		FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
		JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1] WHERE k.contype = 'f' AND k.conrelid = $1::regclass`, table)
	slices.Sort(more)
	lines = append(lines, more...)
	var indexes []string
	for _, name := range strs(t, db, `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::regclass AND NOT i.indisprimary`, table) {
		text := strs(t, db, `SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname = $1`, name)[0]
		indexes = append(indexes, indexLine(name, text))
	}
	slices.Sort(indexes)
	return append(lines, indexes...)
}

// indexLine says of an index what both databases say: whether it is unique,
// its columns, and of which rows.
func indexLine(name, text string) string {
	_, rest, _ := strings.Cut(text, "(")
	columns, rest, _ := strings.Cut(rest, ")")
	kind := "index"
	if strings.Contains(text, "UNIQUE") {
		kind = "unique"
	}
	line := fmt.Sprintf("%s %s (%s)", kind, name, columns)
	if _, rows, ok := strings.Cut(rest, "WHERE "); ok {
		line += " where " + strings.Join(strings.Fields(sameWords.Replace(rows)), " ")
	}
	return line
}

// sameWords takes from a condition what PostgreSQL adds when it shows one.
var sameWords = strings.NewReplacer("= ANY (ARRAY[", "IN ", "::text", "", "(", "", ")", "", "]", "")

// TestSchemasAgree compares the schemas of both databases with each other and
// with the dump that is kept beside the code.
func TestSchemasAgree(t *testing.T) {
	t.Parallel()
	kept, err := os.ReadFile(schemaFile)
	if err != nil && !*updateFlag {
		t.Fatal(err)
	}
	lite := schema(t, storetest.SQLite(t))
	if *updateFlag {
		if err := os.WriteFile(schemaFile, []byte(lite), 0o600); err != nil {
			t.Fatal(err)
		}
		kept = []byte(lite)
	}
	if lite != string(kept) {
		t.Errorf("the schema is not the one of %s; see what differs and run with -update:\n%s", schemaFile, firstDifference(string(kept), lite))
	}
	if strings.Count(lite, "\n\n") < 15 {
		t.Errorf("only this is described:\n%s", lite)
	}
	if pg := schema(t, storetest.Postgres(t)); pg != lite {
		t.Errorf("PostgreSQL's schema differs from SQLite's:\n%s", firstDifference(lite, pg))
	}
}
