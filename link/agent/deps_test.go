package agent

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAgentStaysSmall keeps the server out of the program on the device.
func TestAgentStaysSmall(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/ganglion-iot/ganglion/cmd/ganglion-link").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("only %d packages listed", len(deps))
	}
	for _, dep := range deps {
		for _, heavy := range []string{
			"database/sql", "modernc.org/", "github.com/jackc/", "github.com/nats-io/", "github.com/minio/",
			"github.com/a-h/templ", "html/template", "text/template", "github.com/danielgtaylor/", "github.com/riverqueue/",
		} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("the agent contains %s", dep)
			}
		}
		if ours, ok := strings.CutPrefix(dep, "github.com/ganglion-iot/ganglion/internal/"); ok && ours != "version" {
			t.Errorf("the agent contains internal/%s", ours)
		}
	}
}
