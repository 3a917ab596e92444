package rollout

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain lets properties be drawn fewer times than usual: each draw opens a
// database. -rapid.checks asks for more.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
