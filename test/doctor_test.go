package test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
)

// TestDoctorOfADevice lets a device look for what is wrong, with the real
// server on the other side.
func TestDoctorOfADevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	firmware := w.build("1.0.0", small)
	w.publish(firmware)
	board := simulate.Board{Image: filepath.Join(w.dir, "alpha.img")}
	install(t, board, firmware)
	for i, c := range []struct {
		name   string
		change func(*link.Options)
		check  string // that fails; "" none
		words  string
	}{
		{"sound", nil, "", ""},
		{"sound, by poll", func(o *link.Options) { o.Mode = link.Poll }, "", ""},
		{"wrong secret", func(o *link.Options) { o.Secret.Secret = strings.Repeat("x", 43) }, link.CheckAuthentication, "secret"},
		{"wrong secret, by poll", func(o *link.Options) { o.Secret.Secret, o.Mode = strings.Repeat("x", 43), link.Poll }, link.CheckAuthentication, "secret"},
		{"authority not known", func(o *link.Options) { o.TLS = nil }, link.CheckServerCertificate, "does not know the authority"},
		{"shared secret at the website's port", func(o *link.Options) { o.Host = "ws://" + w.server.WebAddr().String() }, "", ""},
	} {
		o := w.options("alpha")
		o.Slots, o.Target = board.Slots(), link.FileTarget(board.Image)
		// A signature serves once: each visit signs for another second.
		o.Now = func() time.Time { return time.Now().Add(time.Duration(i-10) * 2 * time.Second) }
		if c.change != nil {
			c.change(&o)
		}
		checks, err := link.Diagnose(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var bad []link.Check
		for _, check := range checks {
			if !check.OK {
				bad = append(bad, check)
			}
		}
		switch {
		case c.check == "" && len(bad) > 0:
			t.Errorf("%s: %+v", c.name, bad)
		case c.check != "" && (len(bad) != 1 || bad[0].Name != c.check || !strings.Contains(bad[0].Text, c.words)):
			t.Errorf("%s: %+v", c.name, checks)
		}
	}
}
