// Package test holds the stories that cross packages: whole flows through the
// real server with real links, and the rules of the house.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/ganglion-iot/ganglion/"

// layers names, for each of our packages, the packages of ours it may import.
// A package that is not listed may not exist; an import that is not listed is
// a wrong turn.
var layers = map[string][]string{
	"fleet":     {},
	"phx":       {},
	"nh1":       {},
	"elixirver": {},

	"fwup":             {"fwup/fat", "fwup/vcdiff"},
	"fwup/fat":         {},
	"fwup/vcdiff":      {},
	"fwup/fwupcli":     {"fwup", "internal/version"},
	"fwup/faultdevice": {"fwup"},
	"link":             {"phx", "nh1", "fwup", "elixirver"},
	"link/clientcert":  {},
	"link/tpmkey":      {"link/clientcert"},
	"link/pkcs11key":   {"link/clientcert"},
	"link/ateckey":     {"link/clientcert"},
	"link/agent":       {"link", "link/clientcert", "link/tpmkey", "link/pkcs11key", "link/ateckey", "phx", "fwup", "internal/version"},

	"internal/version": {},
	"internal/store":   {"fleet"},
	"internal/blob":    {"fleet"},
	"internal/bus":     {"fleet"},
	"internal/pki":     {"fleet"},
	"internal/auth":    {"fleet", "nh1"},

	"internal/control": {"fleet", "internal/store", "internal/blob", "internal/bus", "internal/pki", "internal/auth", "nh1", "fwup", "elixirver"},
	"internal/rollout": {"fleet", "internal/control", "internal/store", "internal/bus", "elixirver"},
	"internal/jobs":    {"fleet", "internal/control", "internal/store", "internal/blob"},
	"internal/gateway": {"fleet", "internal/control", "internal/store", "internal/bus", "internal/auth", "internal/pki", "phx", "nh1"},
	"internal/api":     {"fleet", "internal/control", "internal/bus", "internal/auth", "internal/rest", "internal/version"},
	"internal/web":     {"fleet", "internal/control", "internal/bus", "internal/auth", "internal/version", "internal/web/assets"},

	"internal/web/assets": {},
	"internal/rest":       {"fleet", "internal/version"},
	"internal/app": {"fleet", "internal/control", "internal/store", "internal/blob", "internal/bus", "internal/pki", "internal/auth",
		"internal/rollout", "internal/jobs", "internal/gateway", "internal/api", "internal/web", "internal/version"},
	"internal/simulate": {"fleet", "link", "fwup", "phx", "nh1", "internal/app", "internal/rest", "internal/control", "internal/pki"},
	"internal/cli":      {"fleet", "phx", "internal/rest", "internal/app", "internal/simulate", "internal/version", "fwup"},

	"cmd/ganglion":      {"internal/cli"},
	"cmd/ganglion-link": {"link/agent"},
	"cmd/fwup":          {"fwup/fwupcli"},
}

// testOnly packages serve tests and benchmarks and may import anything.
var testOnly = []string{"test", "test/bench", "internal/store/storetest", "internal/blob/blobtest", "internal/simulate/density", "internal/gateway/wirecheck", "link/clientcert/clientcerttest", "test/chromium", "test/screenshot"}

// drivers may be imported by one package of ours only.
var drivers = map[string][]string{
	"modernc.org/sqlite":            {"internal/store", "internal/store/storetest"},
	"github.com/jackc/pgx/":         {"internal/store", "internal/store/storetest"},
	"github.com/minio/minio-go/":    {"internal/blob"},
	"github.com/nats-io/":           {"internal/bus"},
	"github.com/riverqueue/river/r": {"internal/store", "internal/jobs"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImportsFollowTheDirections(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		checkPackage(t, p)
	}
	if seen < 10 {
		t.Fatalf("only %d packages listed", seen)
	}
}

func checkPackage(t *testing.T, p goPackage) {
	t.Helper()
	name := strings.TrimPrefix(p.ImportPath, module)
	for _, free := range testOnly {
		if name == free {
			return
		}
	}
	allowed, ok := layers[name]
	if !ok {
		t.Errorf("package %s has no place in the layout: add it to layers, with what it may import", name)
		return
	}
	for _, imp := range p.Imports {
		if ours, ok := strings.CutPrefix(imp, module); ok && !contains(allowed, ours) {
			t.Errorf("%s must not import %s", name, ours)
		}
		for driver, owners := range drivers {
			if strings.HasPrefix(imp, driver) && !contains(owners, name) {
				t.Errorf("%s must not import %s: only %v may", name, imp, owners)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
