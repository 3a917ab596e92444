package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// uncoveredRow is a row of the protocol that nothing proves, and why.
type uncoveredRow struct{ section, row, reason string }

// uncovered are the rows that no test proves. TestProtocolCoverage prints them.
var uncovered = []uncoveredRow{
	{"4.1", "ESP-IDF join facts", "agents of ESP-IDF may join, but their facts are not read: the server distributes .fw files alone"},
	{"4.1", "choice of the update tool", "there is one tool, fwup"},
	{"4.3.1", "firmware proxy of an org", "an org has no such setting; the address is always signed by the server"},
	{"5.1", "delta address", "the server builds no deltas on its own; a delta that is uploaded is a firmware like another"},
}

// TestProtocolCoverage holds the table of the device protocol's rows against
// the tests: every row names some, and every test that is named exists.
func TestProtocolCoverage(t *testing.T) {
	packages := map[string]map[string]bool{}
	type key struct{ section, row string }
	seen, sections := map[key]bool{}, map[string]int{}
	for _, section := range protocolRows {
		for _, r := range section.rows {
			k := key{section.number, r.row}
			if seen[k] {
				t.Errorf("%s, %s: twice", k.section, k.row)
			}
			seen[k] = true
			sections[k.section]++
			tests := strings.Fields(r.tests)
			if len(tests) == 0 {
				t.Errorf("%s, %s: no test; name one, or list the row as uncovered", k.section, k.row)
			}
			for _, name := range tests {
				dir, test, ok := strings.Cut(name, ":")
				if !ok {
					t.Errorf("%s, %s: %s is not package:Test", k.section, k.row, name)
					continue
				}
				if packages[dir] == nil {
					packages[dir] = testsOf(t, dir)
				}
				if !packages[dir][test] {
					t.Errorf("%s, %s: there is no test %s", k.section, k.row, name)
				}
			}
		}
	}
	for _, u := range uncovered {
		if seen[key{u.section, u.row}] || u.reason == "" {
			t.Errorf("%s, %s: covered after all, or without a reason", u.section, u.row)
		}
		seen[key{u.section, u.row}] = true
		sections[u.section]++
		t.Logf("uncovered: %s, %s: %s", u.section, u.row, u.reason)
	}
	// So many rows the sections have. A table that shrinks proves less.
	total := 0
	for section, want := range protocolSections {
		if sections[section] != want {
			t.Errorf("section %s has %d rows here, want %d", section, sections[section], want)
		}
		total += sections[section]
		delete(sections, section)
	}
	if len(sections) > 0 {
		t.Errorf("sections nobody counts: %v", sections)
	}
	for n := 1; n <= protocolSections["7.1"]; n++ {
		found := false
		for k := range seen {
			found = found || k.section == "7.1" && strings.HasPrefix(k.row, strconv.Itoa(n)+" ")
		}
		if !found {
			t.Errorf("trap %d is not listed", n)
		}
	}
	t.Logf("%d rows, %d of them uncovered", total, len(uncovered))
}

// testsOf returns the tests of the package in a directory of the module,
// whatever their build constraints are.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(dir)))
	if err != nil {
		t.Errorf("tests of %s: %v", dir, err)
	}
	tests := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(dir), e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("tests of %s: %v", dir, err)
			continue
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && isTest(f) {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}

// isTest reports whether go test runs the function as a test or fuzz target.
func isTest(f *ast.FuncDecl) bool {
	name := f.Name.Name
	if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") || f.Type.Params.NumFields() != 1 {
		return false
	}
	star, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	return ok && (sel.Sel.Name == "T" || sel.Sel.Name == "F")
}
